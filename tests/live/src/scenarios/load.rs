//! Load: known numbers of active tasks, seen while they last and not after, and the sum against /proc/loadavg.

use super::run_queue::last_cpu;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::{self, is_guest, wait_until},
    page::Page,
    quota::Quota,
    trial::{Need, Place, test},
    truth,
    worker::{Priority, Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::time::{Duration, Instant};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("three_spinners_on_one_cpu_are_a_load_of_three", Place::Both, &[Need::Root], three_spinners),
        test("two_tasks_in_uninterruptible_sleep_are_a_load_of_two", Place::Both, &[Need::Root], two_sleepers),
        test("a_task_that_starves_for_seconds_is_active_all_the_time", Place::Both, &[Need::Root], starves),
        test("what_a_quota_keeps_from_running_is_no_load", Place::Both, &[Need::Root, Need::Quota], throttled),
        test("a_burst_of_a_fifth_of_a_second_shows_in_the_peak", Place::Host, &[Need::Root], burst),
        test("the_shares_and_what_is_left_over_are_the_nodes_load", Place::Both, &[Need::Root], adds_up),
        test(
            "after_mixed_loads_the_sum_of_the_shares_is_the_kernels_and_nothing_is_left",
            Place::Host,
            &[Need::Root, Need::Command("stress-ng")],
            mixed_loads,
        ),
    ]
}

/// A gauge of a cgroup's; 0 before it has one.
fn gauge(page: &Page, name: &str, cgroup: &str) -> Result<f64> {
    let samples = page.samples(name, &[("cgroup", cgroup)])?;
    Ok(samples.first().map_or(Ok(0.0), |sample| sample.value.parse())?)
}

/// Within a hundredth.
fn agree(what: &str, shown: f64, truth: f64) -> Result<()> {
    ensure!((shown - truth).abs() <= truth / 100.0, "{what} is {shown}, not {truth}");
    Ok(())
}

/// What the kernel keeps of its averages from one period of 5 s to the next.
const KEPT: [f64; 3] = [1884.0 / 2048.0, 2014.0 / 2048.0, 2037.0 / 2048.0];

/// What the kernel's recipe makes of as many tasks after some periods.
fn recipe(tasks: f64, kept: f64, periods: f64) -> f64 {
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
    agree("observer_load15", fifteen, recipe(tasks, KEPT[2], low))?;
    peak(&page, cgroup, tasks)
}

/// Checks the peak. It is the largest of a dozen windows, and whoever keeps the agent from a CPU between its two looks at the
/// kernel moves a wait from one to the next: so not to the hundredth.
fn peak(page: &Page, cgroup: &Cgroup, tasks: f64) -> Result<()> {
    let peak = gauge(page, "observer_load_peak", &cgroup.label)?;
    ensure!((peak - tasks).abs() <= tasks * 0.05, "observer_load_peak is {peak}, not {tasks}");
    Ok(())
}

/// How long a known load is looked at: two periods and some windows.
fn look() {
    std::thread::sleep(machine::patience(Duration::from_millis(12_500)));
}

fn three_spinners() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("spinners")?;
    let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(&cgroup) };
    let mut workers = (0..3).map(|_| Worker::start(seat, ["spin"])).collect::<Result<Vec<_>>>()?;
    workers.iter_mut().try_for_each(|worker| worker.tell("spin 600000"))?;
    let agent = Agent::start(&[])?;
    look();
    explain(&agent, averages(&agent, &cgroup, 3.0))
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
    explain(&agent, averages(&agent, &cgroup, 2.0))
}

/// Two spinners of high priority leave a CPU to a third of the lowest for some milliseconds in half a minute: its wait does
/// not end while it is looked at.
fn starves() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (greedy, meek) = (folder.child("greedy")?, folder.child("meek")?);
    let cpu = Some(last_cpu()?);
    let high = Seat { cpu, priority: Some(Priority::High), ..Seat::in_cgroup(&greedy) };
    let idle = Seat { cpu, priority: Some(Priority::Idle), ..Seat::in_cgroup(&meek) };
    let mut victim = Worker::start(idle, ["spin"])?;
    let mut others = (0..2).map(|_| Worker::start(high, ["spin"])).collect::<Result<Vec<_>>>()?;
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
            // On a host one reading of a dozen may miss the one that starves, and the next window has two seconds of it.
            if is_guest() {
                peak(&page, cgroup, tasks)?;
            }
            let load = gauge(&page, "observer_load1", &cgroup.label)?;
            let possible = recipe(tasks, KEPT[0], 0.5)..=recipe(tasks, KEPT[0], 4.0);
            ensure!(possible.contains(&load), "observer_load1 is {load}, not within {possible:?}");
        }
        Ok(())
    };
    explain(&agent, outcome().with_context(|| format!("it got the CPU {} times", waits.count)))
}

/// The kernel takes tasks that are throttled off its run queues, and so off the load average.
fn throttled() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let cgroup = folder.child("narrow")?;
    let quota = Quota::on(&mut folder, &cgroup, 20)?;
    let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(&cgroup) };
    let mut workers = (0..3).map(|_| Worker::start(seat, ["spin"])).collect::<Result<Vec<_>>>()?;
    workers.iter().try_for_each(|worker| quota.hold(worker.pid()))?;
    let agent = Agent::start(&[])?;
    let pids: Vec<u32> = workers.iter().map(Worker::pid).collect();
    let before = (agent.scrape()?, truth::schedstat(&pids)?, quota.throttled()?);
    workers.iter_mut().try_for_each(|worker| worker.tell("spin 10000"))?;
    for worker in &mut workers {
        worker.line(Duration::from_mins(1))?;
    }
    let waited = (truth::schedstat(&pids)? - before.1).nanoseconds;
    // Three tasks stand still for as long as the one CPU is kept from them.
    let kept = 3 * quota.throttled()?.saturating_sub(before.2).as_nanos() as u64;
    ensure!(kept > waited / 2, "{kept} ns throttled of {waited} ns waited: the quota hardly shows");
    std::thread::sleep(Duration::from_millis(1200));
    let page = agent.scrape()?;
    let caused = super::culprits::caused(&page, &cgroup.label)?;
    let outcome = || {
        let by = |kind: &str| caused.get(kind).copied().unwrap_or(0);
        ensure!(by("throttled").abs_diff(kept) <= kept / 20, "{caused:?}; throttled {kept} ns of {waited} ns waited");
        ensure!(by("other_pod") == 0, "pods are blamed: {caused:?}");
        // A host has neighbours that may well have run; where instructions are emulated the kernel itself takes its part.
        ensure!(!is_guest() || by("host") <= waited / 8, "neighbours are blamed: {caused:?}");
        // A fifth of a CPU, on which three tasks take turns: 0.6, and more where neighbours make them wait.
        let peak = gauge(&page, "observer_load_peak", &cgroup.label)?;
        let most = if is_guest() { 1.0 } else { 2.0 };
        ensure!((0.2..most).contains(&peak), "the load is {peak} at its peak");
        Ok(())
    };
    let outcome = explain(&agent, outcome());
    drop(workers);
    drop(quota);
    outcome
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
fn sums(page: &Page) -> Result<(f64, f64)> {
    let number = |name: &str| -> Result<f64> { Ok(page.one(name, &[])?.value.parse()?) };
    let (load, left) = (number("observer_node_load1")?, number("observer_node_load1_unattributed")?);
    let mut sum = 0.0;
    for sample in page.samples("observer_load1", &[])? {
        sum += sample.value.parse::<f64>()?;
    }
    ensure!((sum + left - load).abs() < 1e-6, "{sum} of the entities and {left} are not {load}");
    Ok((load, left))
}

/// A minute of everything that is hard to count, then calm; ten minutes where there is time.
fn mixed_loads() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (one, other) = (folder.child("one")?, folder.child("other")?);
    let agent = Agent::start(&[])?;
    let length = if machine::has_time() { Duration::from_mins(10) } else { Duration::from_secs(45) };
    // What was there before the agent has to fade first.
    let begun = Instant::now();
    let fade = Duration::from_secs(if machine::has_time() { 240 } else { 10 });
    while begun.elapsed() < fade && load_now()? > 0.2 {
        std::thread::sleep(Duration::from_secs(1));
    }
    let first = sums(&agent.scrape()?)?.1;
    let mut stress = stress(&one, &other, length)?;
    let started = Instant::now();
    let (mut ours, mut kernels, mut samples) = (0.0, 0.0, 0);
    while started.elapsed() < length {
        std::thread::sleep(Duration::from_secs(5));
        let page = agent.scrape()?;
        let (load, left) = sums(&page)?;
        // That of before fades as the kernel's own does.
        let before = first * KEPT[0].powf(started.elapsed().as_secs_f64() / 5.0);
        kernels += load - before;
        ours += load - left;
        samples += 1;
    }
    for child in &mut stress {
        let status = child.wait()?;
        ensure!(status.success(), "stress-ng: {status}");
    }
    let residual = (kernels - ours) / kernels;
    println!(
        "{samples} samples: the kernel's load {:.2}, ours {:.2} on average",
        kernels / f64::from(samples),
        ours / f64::from(samples)
    );
    let outcome = ensure_near(residual);
    explain(&agent, outcome)?;
    // Nothing drifts: what is left over fades as the kernel's load does.
    let calm = Duration::from_secs(if machine::has_time() { 300 } else { 20 });
    let before = sums(&agent.scrape()?)?.1;
    std::thread::sleep(calm);
    let (load, left) = sums(&agent.scrape()?)?;
    let most = before.abs() * (-calm.as_secs_f64() / 60.0).exp() * 1.25 + 0.5;
    let outcome = || {
        ensure!(
            left.abs() <= most,
            "{left} of {load} is left over after {calm:?}, of {before} before: more than {most}"
        );
        Ok(())
    };
    explain(&agent, outcome())
}

/// A tenth over ten minutes; a short run has few of the kernel's samples.
fn ensure_near(residual: f64) -> Result<()> {
    let most = if machine::has_time() { 0.10 } else { 0.25 };
    ensure!(residual.abs() <= most, "the residual is {:.1} % of the kernel's load", residual * 100.0);
    Ok(())
}

fn load_now() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// Spinners, bursts, threads, forks, switches, uninterruptible sleeps and writes, in two cgroups.
fn stress(one: &Cgroup, other: &Cgroup, length: Duration) -> Result<Vec<std::process::Child>> {
    let timeout = format!("{}s", length.as_secs());
    let mixes: [&[&str]; 2] = [
        &["--cpu", "2", "--cpu-load", "60", "--vfork", "2", "--fork", "1", "--pthread", "1"],
        &["--switch", "2", "--io", "1", "--hdd", "1", "--hdd-bytes", "16m", "--nanosleep", "1", "--clone", "1"],
    ];
    let start = |(cgroup, mix): (&Cgroup, &[&str])| {
        let job = ["exec", "stress-ng", "--quiet", "--timeout", &timeout].into_iter().chain(mix.iter().copied());
        let mut command = Seat::in_cgroup(cgroup).command(job);
        let command =
            command.current_dir("/tmp").stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.spawn().context("start stress-ng")
    };
    [one, other].into_iter().zip(mixes).map(start).collect()
}
