//! Waits that go on for seconds: seen while they do, where they are.

use super::{
    load::{KEPT, gauge, look, peak, recipe},
    run_queue::last_cpu,
};
use crate::{
    agent::{Agent, explain},
    cgroup::{self, Cgroup},
    machine::{self, is_guest},
    trial::{Need, Place, test},
    truth,
    worker::{Priority, Seat, Worker},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test(
            "a_task_that_starves_for_seconds_is_active_all_the_time",
            Place::Both,
            &[Need::Root, Need::Iterators],
            starves,
        ),
        test("realtime_tasks_that_wait_are_seen_while_they_do", Place::Both, &[Need::Root, Need::Iterators], realtime),
        test("a_task_that_is_moved_is_one_task_all_the_time", Place::Both, &[Need::Root, Need::Iterators], moved),
        test(
            "a_task_that_is_moved_and_gets_its_cpu_at_once_is_no_peak",
            Place::Both,
            &[Need::Root, Need::Iterators],
            moved_and_served,
        ),
    ]
}

/// Two spinners of high priority leave a CPU to a third of the lowest for some milliseconds in half a minute.
struct Starving {
    victim: Worker,
    others: Vec<Worker>,
}

impl Starving {
    fn of(meek: &Cgroup, greedy: &Cgroup) -> Result<Self> {
        let seat = |cgroup, priority| {
            Ok::<_, anyhow::Error>(Seat { cpu: Some(last_cpu()?), priority: Some(priority), ..Seat::in_cgroup(cgroup) })
        };
        Ok(Self {
            victim: Worker::start(seat(meek, Priority::Idle)?, ["spin"])?,
            others: (0..2).map(|_| Worker::start(seat(greedy, Priority::High)?, ["spin"])).collect::<Result<_>>()?,
        })
    }
}

/// Its wait does not end while it is looked at.
fn starves() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (greedy, meek) = (folder.child("greedy")?, folder.child("meek")?);
    let Starving { mut victim, mut others } = Starving::of(&meek, &greedy)?;
    // Before there is no CPU for it.
    let agent = Agent::start(&[])?;
    others.iter_mut().try_for_each(|worker| worker.tell("spin 600000"))?;
    victim.tell("spin 600000")?;
    std::thread::sleep(Duration::from_millis(100));
    let before = truth::schedstat(&[victim.pid()])?;
    look();
    let waits = truth::schedstat(&[victim.pid()])? - before;
    let page = agent.scrape()?;
    let outcome = || {
        for (cgroup, tasks) in [(&meek, 1.0), (&greedy, 2.0)] {
            peak(&page, cgroup, tasks)?;
            let load = gauge(&page, "observer_load1", &cgroup.label)?;
            let possible = recipe(tasks, KEPT[0], 0.5)..=recipe(tasks, KEPT[0], 4.0);
            ensure!(possible.contains(&load), "observer_load1 is {load}, not within {possible:?}");
        }
        Ok(())
    };
    explain(&agent, outcome().with_context(|| format!("it got the CPU {} times", waits.count)))
}

/// Two tasks that may run before all others but one, which has the CPU: what they wait for is not over while they are looked at, nor is
/// it more when it is.
fn realtime() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (greedy, meek) = (folder.child("greedy")?, folder.child("meek")?);
    let start = |cgroup, priority| {
        let seat = Seat { cpu: Some(last_cpu()?), priority: Some(priority), ..Seat::in_cgroup(cgroup) };
        Worker::start(seat, ["spin"])
    };
    let mut victims =
        (0..2).map(|_| start(&meek, Priority::Realtime)).collect::<Result<Vec<_>>>().context("realtime tasks")?;
    let mut other = start(&greedy, Priority::Foremost)?;
    // Before there is no CPU for it.
    let agent = Agent::start(&[])?;
    let length = Duration::from_secs(if is_guest() { 25 } else { 10 });
    other.tell(&format!("spin {}", length.as_millis()))?;
    victims.iter_mut().try_for_each(|worker| worker.tell(&format!("spin {}", length.as_millis() + 10_000)))?;
    std::thread::sleep(length * 4 / 5);
    let during = agent.scrape()?;
    other.line(length)?;
    std::thread::sleep(machine::patience(Duration::from_millis(2500)));
    let after = agent.scrape()?;
    // What the agent's end waits for in the kernel needs that CPU.
    drop(victims);
    let outcome = || {
        peak(&during, &meek, 2.0).context("while they wait")?;
        peak(&during, &greedy, 1.0).context("while they wait")?;
        peak(&after, &meek, 2.0).context("when they have waited")?;
        let (one, two) =
            (gauge(&during, "observer_load1", &greedy.label)?, gauge(&during, "observer_load1", &meek.label)?);
        ensure!(one > 0.0 && (two / one - 2.0).abs() < 0.05, "{two} of two that wait and {one} of the one that runs");
        Ok(())
    };
    explain(&agent, outcome())
}

/// A task that starves is moved to another cgroup in the midst of its wait: neither has more of it than has passed there.
fn moved() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (greedy, first, second) = (folder.child("greedy")?, folder.child("first")?, folder.child("second")?);
    let Starving { mut victim, mut others } = Starving::of(&first, &greedy)?;
    others.iter_mut().try_for_each(|worker| worker.tell("spin 600000"))?;
    victim.tell("spin 600000")?;
    let agent = Agent::start(&[])?;
    std::thread::sleep(machine::patience(Duration::from_millis(5500)));
    cgroup::join(second.path(), victim.pid())?;
    std::thread::sleep(machine::patience(Duration::from_millis(5500)));
    let page = agent.scrape()?;
    let load = |cgroup: &Cgroup| gauge(&page, "observer_load1", &cgroup.label);
    let outcome = || {
        peak(&page, &first, 1.0)?;
        peak(&page, &second, 1.0)?;
        let (before, after, others) = (load(&first)?, load(&second)?, load(&greedy)?);
        ensure!(before > 0.0 && after > 0.0, "{before} before and {after} after it was moved");
        // Beside two that were active as long: half of theirs, wherever it was.
        let sum = before + after;
        ensure!((sum - others / 2.0).abs() < 0.02 * sum, "{before} and {after} of one task, {others} of two");
        Ok(())
    };
    explain(&agent, outcome())
}

/// All of a wait is booked where it ends, a moment after the move: what passed before is of the first cgroup's load nevertheless.
fn moved_and_served() -> Result<()> {
    const WAIT_MS: u64 = 6500;
    let mut waited = Vec::new();
    // Where the victim got its CPU for a moment in between, there was no long wait.
    for _ in 0..4 {
        let folder = Cgroup::for_test()?;
        let (greedy, first, second) = (folder.child("greedy")?, folder.child("first")?, folder.child("second")?);
        let Starving { mut victim, mut others } = Starving::of(&first, &greedy)?;
        let agent = Agent::start(&[])?;
        others.iter_mut().try_for_each(|worker| worker.tell(&format!("spin {WAIT_MS}")))?;
        victim.tell("spin 600000")?;
        std::thread::sleep(Duration::from_millis(WAIT_MS - 30));
        cgroup::join(second.path(), victim.pid())?;
        others.iter_mut().try_for_each(|worker| worker.line(Duration::from_secs(10)).map(drop))?;
        std::thread::sleep(machine::patience(Duration::from_millis(1500)));
        let page = agent.scrape()?;
        waited.push(gauge(&page, "observer_run_queue_wait_seconds_sum", &second.label)?);
        if waited.last().is_some_and(|waited| *waited > 3.0) {
            let outcome = peak(&page, &first, 1.0).and_then(|()| peak(&page, &second, 1.0));
            return explain(&agent, outcome);
        }
    }
    bail!("no long wait ended in the second cgroup: {waited:?} s")
}
