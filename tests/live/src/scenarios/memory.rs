//! Memory against the controller's own files, and kills for want of it.

use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    controllers::Controlled,
    machine::{patience, wait_until},
    page::Page,
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

const NEEDS: &[Need] = &[Need::Root, Need::Controller("memory")];
const MIB: u64 = 1 << 20;
/// A working set is read anew once in 30 s.
const READ_ANEW: Duration = Duration::from_secs(45);

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("the_working_set_of_a_cgroup_is_its_usage_less_its_inactive_file", Place::Both, NEEDS, working_set),
        test("a_cgroup_and_the_one_in_it_have_each_the_memory_of_their_own_tasks", Place::Both, NEEDS, own_memory),
        test("a_process_killed_for_want_of_memory_is_counted_once_for_its_cgroup", Place::Both, NEEDS, oom_kill),
        test(
            "a_cgroup_without_a_counterpart_in_v1_has_no_memory_figures",
            Place::Host,
            &[Need::Root, Need::CgroupV1],
            no_counterpart,
        ),
    ]
}

/// A task under the memory controller that holds so much.
fn holder(controlled: &Controlled, mib: u64) -> Result<Worker> {
    let mut worker = Worker::start(Seat::in_cgroup(&controlled.cgroup), ["hold"])?;
    controlled.take(worker.pid())?;
    worker.ask(&format!("hold {mib}"))?;
    Ok(worker)
}

fn usage(controlled: &Controlled) -> Result<u64> {
    let usage = controlled.number("memory.current", "memory.usage_in_bytes")?;
    let inactive = controlled.figure(("memory.stat", "inactive_file"), ("memory.stat", "total_inactive_file"))?;
    Ok(usage - inactive)
}

fn gauge(page: &Page, name: &str, cgroup: &Cgroup) -> Result<Option<u64>> {
    let samples = page.samples(name, &[("cgroup", &cgroup.label)])?;
    ensure!(samples.len() <= 1, "{} series of {name}", samples.len());
    samples.first().map(observer_test_kit::page::Sample::integer).transpose()
}

/// Waits until the page says what the kernel says; the kernel's figure has to be the same before and after.
fn comes_to(agent: &Agent, cgroup: &Cgroup, truth: impl Fn() -> Result<u64>) -> Result<u64> {
    let (mut shown, mut real) = (None, 0);
    let agreed = wait_until(patience(READ_ANEW), || {
        real = truth()?;
        shown = gauge(&agent.scrape()?, "observer_memory_working_set_bytes", cgroup)?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(shown == Some(real) && truth()? == real)
    })?;
    explain(
        agent,
        if agreed { Ok(real) } else { Err(anyhow::anyhow!("{shown:?} bytes on the page, {real} by the kernel")) },
    )
}

fn working_set() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let controlled = Controlled::make(&mut folder, "holder", "memory")?;
    let agent = Agent::start(&[])?;
    let mut worker = holder(&controlled, 50)?;
    let real = comes_to(&agent, &controlled.cgroup, || usage(&controlled))?;
    ensure!((50 * MIB..80 * MIB).contains(&real), "50 MiB are held, and the kernel says {real} bytes");
    ensure!(gauge(&agent.scrape()?, "observer_memory_limit_bytes", &controlled.cgroup)?.is_none(), "there is no limit");
    // Back to little; that is read anew.
    worker.ask("hold 1")?;
    let real = comes_to(&agent, &controlled.cgroup, || usage(&controlled))?;
    ensure!(real < 30 * MIB, "1 MiB is held, and the kernel says {real} bytes");
    // Limits are read by the next agent at once, by this one some minutes later.
    controlled.set(("memory.max", "134217728"), ("memory.limit_in_bytes", "134217728"))?;
    drop(agent);
    let agent = Agent::start(&[])?;
    comes_to(&agent, &controlled.cgroup, || usage(&controlled))?;
    let limit = gauge(&agent.scrape()?, "observer_memory_limit_bytes", &controlled.cgroup)?;
    ensure!(limit == Some(128 * MIB), "a limit of {limit:?} on the page");
    // What is gone uses nothing.
    worker.end()?;
    let label = controlled.cgroup.label.clone();
    drop(controlled);
    std::thread::sleep(patience(Duration::from_millis(1500)));
    let left = agent.scrape()?.samples("observer_memory_working_set_bytes", &[("cgroup", &label)])?;
    ensure!(left.is_empty(), "the memory of a cgroup that is gone: {left:?}");
    Ok(())
}

fn own_memory() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let mut outer = Controlled::make(&mut folder, "outer", "memory")?;
    let inner = Controlled::make(&mut outer.cgroup, "inner", "memory")?;
    let agent = Agent::start(&[])?;
    let _inside = holder(&inner, 40)?;
    // In v2 what has the controller below it holds no tasks itself.
    let _outside = if outer.is_v1() { Some(holder(&outer, 20)?) } else { None };
    let real = comes_to(&agent, &inner.cgroup, || usage(&inner))?;
    ensure!(real >= 40 * MIB, "40 MiB are held, and the kernel says {real} bytes");
    if outer.is_v1() {
        let own = comes_to(&agent, &outer.cgroup, || Ok(usage(&outer)? - usage(&inner)?))?;
        ensure!((20 * MIB..40 * MIB).contains(&own), "20 MiB are held beside the 40 below, and {own} bytes are shown");
    }
    Ok(())
}

fn oom_kill() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let controlled = Controlled::make(&mut folder, "narrow", "memory")?;
    let agent = Agent::start(&[])?;
    // It stays, so that the cgroup is somebody's.
    let _small = holder(&controlled, 1)?;
    let mut victim = holder(&controlled, 1)?;
    controlled.set(("memory.max", "16777216"), ("memory.limit_in_bytes", "16777216"))?;
    // Without swap there is nowhere to go.
    let _ = controlled.set(("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", "16777216"));
    let kills = || controlled.figure(("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill"));
    let before = kills()?;
    victim.tell("hold 64")?;
    ensure!(victim.line(Duration::from_secs(20)).is_err(), "64 MiB were held in 16");
    let real = kills()? - before;
    ensure!(real >= 1, "the kernel has counted no kill");
    let mut shown = None;
    let counted = wait_until(patience(Duration::from_secs(5)), || {
        shown = gauge(&agent.scrape()?, "observer_memory_oom_kills_total", &controlled.cgroup)?;
        Ok(shown == Some(real))
    })?;
    let page = agent.scrape()?;
    let nobodys = page.one("observer_memory_oom_kills_total", &[("cgroup", "unattributed")])?.integer()?;
    explain(&agent, {
        let same = counted && nobodys == 0;
        if same {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{shown:?} kills on the page and {nobodys} unattributed, {real} by the kernel"))
        }
    })
}

fn no_counterpart() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("v2-only")?;
    let agent = Agent::start(&[])?;
    let mut worker = Worker::start(Seat::in_cgroup(&cgroup), ["spin"])?;
    worker.ask("spin 100")?;
    std::thread::sleep(Duration::from_millis(2200));
    let page = agent.scrape()?;
    ensure!(page.cpu(&cgroup.label)? > 0, "the cgroup is not on the page");
    for name in ["observer_memory_working_set_bytes", "observer_memory_limit_bytes", "observer_cpu_periods_total"] {
        let found = page.samples(name, &[("cgroup", &cgroup.label)])?;
        ensure!(found.is_empty(), "guessed: {found:?}");
    }
    Ok(())
}
