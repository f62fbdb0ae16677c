//! Load: known numbers of active tasks, seen while they last and not after, and the sum against /proc/loadavg.

use super::run_queue::last_cpu;
use crate::{
    agent::{Agent, explain},
    cgroup::{self, Cgroup},
    machine::{is_guest, wait_until},
    page::Page,
    quota::Quota,
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::{Duration, Instant};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("three_spinners_on_one_cpu_are_a_load_of_three", Place::Both, &[Need::Root], three_spinners),
        test("two_tasks_in_uninterruptible_sleep_are_a_load_of_two", Place::Both, &[Need::Root], two_sleepers),
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
        test("a_burst_of_a_fifth_of_a_second_shows_in_the_peak", Place::Host, &[Need::Root], burst),
        test("the_shares_and_what_is_left_over_are_the_nodes_load", Place::Both, &[Need::Root], adds_up),
    ]
}

/// A gauge of a cgroup's; 0 before it has one.
pub(super) fn gauge(page: &Page, name: &str, cgroup: &str) -> Result<f64> {
    let samples = page.samples(name, &[("cgroup", cgroup)])?;
    Ok(samples.first().map_or(Ok(0.0), |sample| sample.value.parse())?)
}

/// Within a hundredth.
fn agree(what: &str, shown: f64, truth: f64) -> Result<()> {
    ensure!((shown - truth).abs() <= truth / 100.0, "{what} is {shown}, not {truth}");
    Ok(())
}

/// What the kernel keeps of its averages from one period of 5 s to the next.
pub(super) const KEPT: [f64; 3] = [1884.0 / 2048.0, 2014.0 / 2048.0, 2037.0 / 2048.0];

/// What the kernel's recipe makes of as many tasks after some periods.
pub(super) fn recipe(tasks: f64, kept: f64, periods: f64) -> f64 {
    tasks * (1.0 - kept.powf(periods))
}

/// Checks the averages of a cgroup whose tasks have been active since before the agent started. How many periods had passed
/// is what the averages over one and over fifteen minutes agree on.
fn averages(agent: &Agent, cgroup: &Cgroup, tasks: f64) -> Result<()> {
    let page = agent.scrape()?;
    let most = agent.started.elapsed().as_secs_f64() / 5.0;
    let load = |minutes: &str| gauge(&page, &format!("observer_load{minutes}"), &cgroup.label);
    let [one, five, fifteen] = [load("1")?, load("5")?, load("15")?];
    ensure!(one > 0.0 && fifteen > 0.0, "no period has passed");
    let ratio = |periods: f64| recipe(1.0, KEPT[0], periods) / recipe(1.0, KEPT[2], periods);
    let (mut low, mut high) = (0.5, most + 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if ratio(middle) > one / fifteen { low = middle } else { high = middle }
    }
    ensure!((most - if is_guest() { 8.0 } else { 2.5 }..=most).contains(&low), "{low} periods of {most}");
    agree("observer_load1", one, recipe(tasks, KEPT[0], low))?;
    agree("observer_load5", five, recipe(tasks, KEPT[1], low))?;
    agree("observer_load15", fifteen, recipe(tasks, KEPT[2], low))
}

/// Checks averages and peak of what is the same at every moment.
fn constant(agent: &Agent, cgroup: &Cgroup, tasks: f64) -> Result<()> {
    averages(agent, cgroup, tasks)?;
    peak(&agent.scrape()?, cgroup, tasks)
}

/// Checks the peak: the largest of a dozen windows. In an emulated kernel the agent's two looks, at what has ended and at what lasts, are
/// far apart, and a wait that ends between them is of the next window.
pub(super) fn peak(page: &Page, cgroup: &Cgroup, tasks: f64) -> Result<()> {
    let peak = gauge(page, "observer_load_peak", &cgroup.label)?;
    let most = if is_guest() { 0.05 } else { 0.01 };
    ensure!((peak - tasks).abs() <= tasks * most, "observer_load_peak is {peak}, not {tasks}");
    Ok(())
}

/// How long a known load is looked at: two periods and some windows; more of both where each takes longer.
pub(super) fn look() {
    std::thread::sleep(Duration::from_millis(if is_guest() { 25_000 } else { 12_500 }));
}

fn three_spinners() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("spinners")?;
    let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(&cgroup) };
    let mut workers = (0..3).map(|_| Worker::start(seat, ["spin"])).collect::<Result<Vec<_>>>()?;
    workers.iter_mut().try_for_each(|worker| worker.tell("spin 600000"))?;
    let agent = Agent::start(&[])?;
    look();
    explain(&agent, constant(&agent, &cgroup, 3.0))
}

/// In D when the agent starts, and until it ends.
fn two_sleepers() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("sleepers")?;
    let mut workers = (0..2).map(|_| Worker::start(Seat::in_cgroup(&cgroup), ["vfork"])).collect::<Result<Vec<_>>>()?;
    workers.iter_mut().try_for_each(|worker| worker.tell("vfork 600000"))?;
    for worker in &workers {
        let asleep = wait_until(Duration::from_secs(5), || Ok(truth::state(worker.pid())? == 'D'))?;
        ensure!(asleep, "a worker does not sleep");
    }
    let agent = Agent::start(&[])?;
    look();
    explain(&agent, constant(&agent, &cgroup, 2.0))
}

/// The kernel takes tasks that are throttled off its run queues, and so off the load average.
fn throttled(percent: u64, tasks: u64) -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let cgroup = folder.child("narrow")?;
    let quota = Quota::on(&mut folder, &cgroup, percent)?;
    let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(&cgroup) };
    let mut workers = (0..tasks).map(|_| Worker::start(seat, ["spin"])).collect::<Result<Vec<_>>>()?;
    workers.iter().try_for_each(|worker| quota.hold(worker.pid()))?;
    let agent = Agent::start(&[])?;
    let pids: Vec<u32> = workers.iter().map(Worker::pid).collect();
    // The first second has no load, whatever happens in it.
    std::thread::sleep(Duration::from_millis(2200));
    let before = (agent.scrape()?, truth::schedstat(&pids)?, quota.throttled()?);
    workers.iter_mut().try_for_each(|worker| worker.tell("spin 10000"))?;
    for worker in &mut workers {
        worker.line(Duration::from_mins(1))?;
    }
    let waited = (truth::schedstat(&pids)? - before.1).nanoseconds;
    // All tasks stand still for as long as the one CPU is kept from them.
    let kept = tasks * quota.throttled()?.saturating_sub(before.2).as_nanos() as u64;
    ensure!(kept > waited / 2, "{kept} ns throttled of {waited} ns waited: the quota hardly shows");
    std::thread::sleep(Duration::from_millis(1200));
    let page = agent.scrape()?;
    let caused = super::culprits::caused(&page, &cgroup.label)?;
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
        // Of three tasks that take turns on a fifth of a CPU: 0.6, and more where neighbours make them wait.
        let peak = gauge(&page, "observer_load_peak", &cgroup.label)?;
        let most = if is_guest() { 1.0 } else { 2.0 };
        // Of many it is the small difference of large sums, and may be nothing.
        let least = if tasks > 3 { 0.0 } else { 0.2 };
        ensure!((least..most).contains(&peak), "the load is {peak} at its peak");
        Ok(())
    };
    let outcome = explain(&agent, outcome());
    drop(workers);
    drop(quota);
    outcome
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
    let caused = cgroups.each_ref().map(|cgroup| super::culprits::caused(&page, &cgroup.label));
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

/// Eight tenths of a task's second, within a second or two of them; a mean over 15 s would be 0.05.
fn burst() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("bursts")?;
    let agent = Agent::start(&[])?;
    let mut workers = (0..4).map(|_| Worker::start(Seat::in_cgroup(&cgroup), ["spin"])).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_secs(2));
    let before = gauge(&agent.scrape()?, "observer_load_peak", &cgroup.label)?;
    workers.iter_mut().try_for_each(|worker| worker.tell("spin 200"))?;
    for worker in &mut workers {
        worker.line(Duration::from_mins(1))?;
    }
    std::thread::sleep(Duration::from_secs(10));
    let page = agent.scrape()?;
    let (highest, load) =
        (gauge(&page, "observer_load_peak", &cgroup.label)?, gauge(&page, "observer_load1", &cgroup.label)?);
    let again = gauge(&agent.scrape()?, "observer_load_peak", &cgroup.label)?;
    let outcome = || {
        ensure!(before < 0.3, "{before} before anything ran");
        // Cut in two at worst by the end of a window.
        ensure!((0.39..1.0).contains(&highest), "the peak is {highest}");
        ensure!(load < 0.1, "the mean is {load}");
        ensure!((again - highest).abs() < 1e-9, "a scrape changed the peak from {highest} to {again}");
        Ok(())
    };
    explain(&agent, outcome())
}

fn adds_up() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&["--series-limit", "1000"])?;
    let cgroups = (0..60).map(|at| folder.child(format!("c{at}"))).collect::<Result<Vec<_>>>()?;
    for cgroup in &cgroups {
        Worker::start(Seat::in_cgroup(cgroup), ["spin"])?.tell("spin 10")?;
    }
    std::thread::sleep(Duration::from_secs(6));
    let page = agent.scrape()?;
    explain(&agent, sums(&page).map(drop))
}

/// The kernel's load and what no entity has of it, after a check that all adds up.
pub(super) fn sums(page: &Page) -> Result<(f64, f64)> {
    let number = |name: &str| -> Result<f64> { Ok(page.one(name, &[])?.value.parse()?) };
    let (load, left) = (number("observer_node_load1")?, number("observer_node_load1_unattributed")?);
    let mut sum = 0.0;
    for sample in page.samples("observer_load1", &[])? {
        sum += sample.value.parse::<f64>()?;
    }
    ensure!((sum + left - load).abs() < 1e-6, "{sum} of the entities and {left} are not {load}");
    Ok((load, left))
}
