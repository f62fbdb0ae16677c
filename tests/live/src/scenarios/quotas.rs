//! What a quota keeps from running is no load, and neighbours are not blamed for it.

use super::{
    culprits::caused,
    load::{averages, gauge, look},
    run_queue::last_cpu,
};
use crate::{
    agent::{Agent, explain},
    cgroup::{self, Cgroup},
    machine::is_guest,
    quota::Quota,
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("what_a_quota_keeps_from_running_is_no_load", Place::Both, &[Need::Root, Need::Quota], || {
            throttled(20, 3)
        }),
        test("waits_over_many_periods_of_a_quota_are_no_load", Place::Both, &[Need::Root, Need::Quota], || {
            throttled(2, 20)
        }),
        test("a_throttled_crowd_is_as_many_as_are_not_kept", Place::Both, &[Need::Root, Need::Quota], not_kept),
        test(
            "what_a_task_was_throttled_for_goes_with_it_to_another_cgroup",
            Place::Both,
            // In 5.10 such a task waits for an idle CPU longer than the kernel's own cpu.stat says that it was throttled.
            &[Need::Root, Need::Quota, Need::Kernel(6, 1)],
            leaves_throttled,
        ),
        test(
            "who_wakes_up_beside_a_throttled_cgroup_is_not_throttled",
            Place::Both,
            &[Need::Root, Need::Quota],
            beside_throttled,
        ),
    ]
}

/// The kernel takes tasks that are throttled off its run queues, and so off the load average.
fn throttled(percent: u64, tasks: u64) -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let cgroup = folder.child("narrow")?;
    let quota = Quota::on(&mut folder, &cgroup, percent)?;
    let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(&cgroup) };
    let mut workers = (0..tasks).map(|_| Worker::start(seat, ["spin"])).collect::<Result<Vec<_>>>()?;
    workers.iter().try_for_each(|worker| quota.hold(worker.pid()))?;
    // One that has not seen them start: that is load, whatever their quota.
    let agent = Agent::start_anew(&[])?;
    let pids: Vec<u32> = workers.iter().map(Worker::pid).collect();
    // The first second has no load, whatever happens in it.
    std::thread::sleep(Duration::from_millis(2200));
    let before = (agent.scrape()?, truth::schedstat(&pids)?, quota.throttled()?);
    workers.iter_mut().try_for_each(|worker| worker.tell("spin 10000"))?;
    let busiest = busiest_second(&pids, || {
        workers.iter_mut().try_for_each(|worker| worker.line(Duration::from_mins(1)).map(drop))
    })?;
    let waited = (truth::schedstat(&pids)? - before.1).nanoseconds;
    // All tasks stand still for as long as the one CPU is kept from them.
    let kept = tasks * quota.throttled()?.saturating_sub(before.2).as_nanos() as u64;
    ensure!(kept > waited / 2, "{kept} ns throttled of {waited} ns waited: the quota hardly shows");
    std::thread::sleep(Duration::from_millis(1200));
    let page = agent.scrape()?;
    let caused = caused(&page, &cgroup.label)?;
    let outcome = || {
        let by = |kind: &str| caused.get(kind).copied().unwrap_or(0);
        // Tasks that are many do not end together: those that ended first were not kept any more.
        let least = kept.min(waited);
        ensure!(
            (least / 20 * 19..=kept / 20 * 21).contains(&by("throttled")),
            "{caused:?}; throttled {kept} ns of {waited} ns waited"
        );
        ensure!(by("other_pod") == 0, "pods are blamed: {caused:?}");
        // A host has neighbours that may well have run; where instructions are emulated the kernel itself takes its part.
        ensure!(!is_guest() || by("host") <= waited / 8, "neighbours are blamed: {caused:?}");
        // All are load for as long as one of them runs, and where neighbours make them wait. A quota is a fifth of a second at
        // most, but a tick that comes late leaves its tasks the CPU for longer.
        let peak = gauge(&page, "observer_load_peak", &cgroup.label)?;
        let most = tasks as f64 * (busiest + if is_guest() { 0.2 } else { 0.5 });
        // Of many it is the small difference of large sums, and may be nothing.
        let least = if tasks > 3 { 0.0 } else { 0.2 };
        ensure!(
            (least..most).contains(&peak),
            "the load is {peak} at its peak, {tasks} tasks ran {busiest} of a second"
        );
        Ok(())
    };
    let outcome = explain(&agent, outcome());
    drop(workers);
    drop(quota);
    outcome
}

/// The largest part of a second that the processes ran together, while something is done.
fn busiest_second(pids: &[u32], work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let is_done = AtomicBool::new(false);
    let sample = || {
        let mut samples = Vec::new();
        while !is_done.load(Relaxed) {
            samples.push((Instant::now(), truth::ran(pids)?));
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok::<_, anyhow::Error>(samples)
    };
    let samples = std::thread::scope(|scope| {
        let sampler = scope.spawn(sample);
        let outcome = work();
        is_done.store(true, Relaxed);
        outcome.and(sampler.join().expect("no panic"))
    })?;
    // From a sample to the first that is a second later or more: none of the agent's windows has more.
    let within = |at: usize| {
        let (begin, before) = samples[at];
        let after = samples[at..].iter().find(|(time, _)| *time - begin >= Duration::from_millis(1200))?;
        Some((after.1 - before) as f64 / 1e9)
    };
    (0..samples.len()).filter_map(within).reduce(f64::max).context("nothing was measured for a second")
}

/// Four spinners on one CPU, of which their quota leaves them half: four tasks for as long as they are not throttled.
fn not_kept() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let cgroup = folder.child("crowd")?;
    let quota = Quota::on(&mut folder, &cgroup, 50)?;
    let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(&cgroup) };
    let mut workers = (0..4).map(|_| Worker::start(seat, ["spin"])).collect::<Result<Vec<_>>>()?;
    workers.iter().try_for_each(|worker| quota.hold(worker.pid()))?;
    workers.iter_mut().try_for_each(|worker| worker.tell("spin 600000"))?;
    let agent = Agent::start(&[])?;
    let (before, begun) = (quota.throttled()?, Instant::now());
    look();
    look();
    let kept = quota.throttled()?.saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
    ensure!((0.2..0.8).contains(&kept), "{kept} of the time is throttled, not half");
    let outcome = explain(&agent, averages(&agent, &cgroup, 4.0 * (1.0 - kept)));
    drop(workers);
    drop(quota);
    outcome
}

/// A task is carried to and fro between a cgroup that leaves it little and one that leaves it all, mostly while it is kept from running.
/// It has nobody else to wait for.
fn leaves_throttled() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let cgroups = [folder.child("narrow")?, folder.child("wide")?];
    let quotas = [Quota::on(&mut folder, &cgroups[0], 20)?, Quota::on(&mut folder, &cgroups[1], 100)?];
    let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(&cgroups[0]) };
    let mut worker = Worker::start(seat, ["spin"])?;
    quotas[0].hold(worker.pid())?;
    let agent = Agent::start(&[])?;
    // The first second has no load, whatever happens in it.
    std::thread::sleep(Duration::from_millis(2200));
    let before = truth::schedstat(&[worker.pid()])?;
    worker.tell("spin 20000")?;
    for at in 1..=81 {
        std::thread::sleep(Duration::from_millis(if at % 2 == 0 { 40 } else { 70 }));
        let (cgroup, quota) = (&cgroups[at % 2], &quotas[at % 2]);
        cgroup::join(cgroup.path(), worker.pid())?;
        quota.hold(worker.pid())?;
    }
    std::thread::sleep(Duration::from_millis(1200));
    let waited = (truth::schedstat(&[worker.pid()])? - before).nanoseconds;
    let page = agent.scrape()?;
    let caused = cgroups.each_ref().map(|cgroup| caused(&page, &cgroup.label));
    let caused = caused.into_iter().collect::<Result<Vec<_>>>()?;
    let throttled: u64 = caused.iter().filter_map(|caused| caused.get("throttled")).sum();
    drop(worker);
    // A host has neighbours that take their turns, too.
    let least = waited / 100 * if is_guest() { 90 } else { 80 };
    let outcome = if waited > 1_000_000_000 && (least..=waited + waited / 4).contains(&throttled) {
        Ok(())
    } else {
        Err(anyhow::anyhow!("{throttled} ns of {waited} ns that it waited were for its quotas: {caused:?}"))
    };
    explain(&agent, outcome)
}

/// Tasks without a quota wake up by the dozen at the moments at which one with a quota loses the CPU.
fn beside_throttled() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let (limited, free) = (folder.child("limited")?, folder.child("free")?);
    let quota = Quota::on(&mut folder, &limited, 3)?;
    quota.first()?;
    let seat = |cgroup| Ok::<_, anyhow::Error>(Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(cgroup) });
    let mut spinner = Worker::start(seat(&limited)?, ["spin"])?;
    quota.hold(spinner.pid())?;
    let mut nappers = (0..12).map(|_| Worker::start(seat(&free)?, ["nap"])).collect::<Result<Vec<_>>>()?;
    let agent = Agent::start(&["--wait-threshold", "10us"])?;
    let before = quota.throttled()?;
    spinner.tell("spin 600000")?;
    nappers.iter_mut().try_for_each(|worker| worker.tell("nap 6000"))?;
    for worker in &mut nappers {
        worker.line(Duration::from_mins(1))?;
    }
    let throttled = quota.throttled()?.saturating_sub(before);
    std::thread::sleep(Duration::from_millis(1200));
    let caused = caused(&agent.scrape()?, &free.label)?;
    drop((spinner, nappers));
    let outcome = || {
        ensure!(throttled > Duration::from_secs(1), "the quota hardly shows: {throttled:?}");
        ensure!(caused.values().sum::<u64>() > 500_000_000, "they hardly waited: {caused:?}");
        ensure!(!caused.contains_key("throttled"), "throttled without a quota: {caused:?}");
        Ok(())
    };
    explain(&agent, outcome())
}
