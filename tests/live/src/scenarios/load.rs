//! Load: known numbers of active tasks, seen while they last and not after, and the sum against /proc/loadavg.

use super::{long_run::Stage, run_queue::last_cpu};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::{is_guest, wait_until},
    page::Page,
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("three_spinners_on_one_cpu_are_a_load_of_three", Place::Both, &[Need::Root], three_spinners),
        test("two_tasks_in_uninterruptible_sleep_are_a_load_of_two", Place::Both, &[Need::Root], two_sleepers),
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
pub(super) fn averages(agent: &Agent, cgroup: &Cgroup, tasks: f64) -> Result<()> {
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
    // It counts from some time between the start and being ready, which in an emulated kernel are minutes apart.
    let least = agent.ready.elapsed().as_secs_f64() / 5.0 - 2.5;
    ensure!((least..=most).contains(&low), "{low} periods, not {least} to {most}");
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
    let agent = Agent::start_anew(&[])?;
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
    let agent = Agent::start_anew(&[])?;
    look();
    explain(&agent, constant(&agent, &cgroup, 2.0))
}

/// A part of the long run: eight tenths of a task's second, within a second or two of them; a mean over 15 s would be 0.05.
pub(super) fn burst(Stage { agent, folder, .. }: &Stage) -> Result<()> {
    let cgroup = folder.child("bursts")?;
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
    explain(agent, outcome())
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
