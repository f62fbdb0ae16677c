//! CPU time against the kernel's own account of each task and each cgroup: /proc/PID/schedstat and cpu.stat.

use super::{refusals::agent_without_btf, run_queue::Crowd};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::{patience, wait_until},
    trial::{Need, Place, test},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("the_cpu_time_of_a_cgroup_is_that_of_its_tasks", Place::Both, &[Need::Root], cpu_time),
        test(
            "a_cgroup_and_the_one_in_it_have_each_the_time_of_their_own_tasks",
            Place::Both,
            &[Need::Root],
            own_shares,
        ),
        test(
            "without_btf_a_cgroup_that_was_idle_shows_its_cpu_time_when_it_runs",
            Place::Both,
            &[Need::Root],
            idle_then_busy,
        ),
    ]
}

/// Within a hundredth, and the microsecond that cpu.stat is rounded to.
fn agree(what: &str, shown: u64, truth: u64) -> Result<()> {
    ensure!(shown.abs_diff(truth) <= truth / 100 + 1000, "{what}: {shown} ns on the page, {truth} by schedstat");
    Ok(())
}

fn cpu_time() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("crowd")?;
    let agent = Agent::start(&[])?;
    let mut crowd = Crowd::start(&cgroup, 2, 0)?;
    crowd.begin(Duration::from_secs(1))?;
    crowd.finish()?;
    crowd.truth()?;
    let usage_of = || -> Result<u64> {
        let text = std::fs::read_to_string(cgroup.path().join("cpu.stat"))?;
        let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap_or("0").parse::<u64>()?;
        Ok(usage * 1000)
    };
    let truth = usage_of()?;
    // cpu.stat is read at the agent's samples.
    std::thread::sleep(Duration::from_millis(2200));
    ensure!(usage_of()? == truth, "the cgroup is not at rest");
    let shown = agent.scrape()?.cpu(&cgroup.label)?;
    ensure!(shown == truth, "{shown} ns on the page, {truth} in cpu.stat");
    ensure!(truth > 0, "two spinners for a second ran only {truth} ns");
    Ok(())
}

/// A cgroup without controllers may hold tasks beside other cgroups; its cpu.stat holds the time of all of them.
fn own_shares() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let outer = folder.child("outer")?;
    let inner = outer.child("inner")?;
    let agent = Agent::start(&[])?;
    let (mut outside, mut inside) = (Crowd::start(&outer, 1, 0)?, Crowd::start(&inner, 2, 0)?);
    let accounts = |outside: &Crowd, inside: &Crowd| -> Result<[(u64, u64); 2]> {
        let ran = [outside.ran()?, inside.ran()?];
        let page = agent.scrape()?;
        Ok([(ran[0], page.cpu(&outer.label)?), (ran[1], page.cpu(&inner.label)?)])
    };
    let before = accounts(&outside, &inside)?;
    outside.begin(Duration::from_millis(1500))?;
    inside.begin(Duration::from_millis(2500))?;
    outside.finish()?;
    inside.finish()?;
    let after = accounts(&outside, &inside)?;
    let since = |which: usize| (after[which].1 - before[which].1, after[which].0 - before[which].0);
    let (outers, inners) = (since(0), since(1));
    let checks = || {
        ensure!(inners.1 > outers.1 && outers.1 > 200_000_000, "ran too little to tell: {outers:?}, {inners:?}");
        agree("the outer", outers.0, outers.1)?;
        agree("the inner", inners.0, inners.1)
    };
    explain(&agent, checks())?;
    // What the inner one used stays its own when it is gone, but for what its tasks needed to end.
    drop(inside);
    inner.remove()?;
    std::thread::sleep(patience(Duration::from_millis(1200)));
    let shown = agent.scrape()?.cpu(&outer.label)? - before[0].1;
    let stays = || {
        ensure!(shown.abs_diff(outers.1) <= inners.1 / 20, "{} ns became {shown} with the inner's end", outers.0);
        Ok(())
    };
    explain(&agent, stays())
}

/// Without BTF nobody sees the cgroup's tasks get a CPU: only its cpu.stat tells that it is idle no more.
fn idle_then_busy() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("crowd")?;
    let agent = agent_without_btf()?;
    let mut crowd = Crowd::start(&cgroup, 1, 0)?;
    crowd.truth()?;
    for _ in 0..3 {
        agent.scrape()?;
        std::thread::sleep(Duration::from_millis(1100));
    }
    let before = (crowd.ran()?, agent.scrape()?.cpu(&cgroup.label)?);
    crowd.begin(Duration::from_secs(1))?;
    crowd.finish()?;
    let ran = crowd.ran()? - before.0;
    ensure!(ran > 200_000_000, "a spinner for a second ran only {ran} ns");
    let mut shown = 0;
    let in_time = wait_until(patience(Duration::from_secs(5)), || {
        shown = agent.scrape()?.cpu(&cgroup.label)? - before.1;
        Ok(shown >= ran / 2)
    })?;
    let checks = || {
        ensure!(in_time, "{shown} ns on the page, {ran} by schedstat");
        agree("the crowd", shown, ran)
    };
    explain(&agent, checks())
}
