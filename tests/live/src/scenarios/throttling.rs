//! Throttling and pressure against the kernel's own files.

use super::run_queue::Crowd;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    controllers::{Controlled, figure},
    page::Page,
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{fs, time::Duration};

const NEEDS: &[Need] = &[Need::Root, Need::Controller("cpu")];

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("the_throttling_of_a_cgroup_is_that_of_cpu_stat", Place::Both, NEEDS, throttling),
        test("a_quota_on_the_cgroup_above_is_on_that_one_and_not_on_those_below", Place::Both, NEEDS, quota_above),
        test("the_pressure_of_a_cgroup_is_that_of_its_files", Place::Both, &[Need::Root, Need::Pressure], pressure),
    ]
}

/// A tenth of a CPU: less than a busy host leaves of one.
fn narrow(controlled: &Controlled) -> Result<()> {
    controlled.set(("cpu.max", "10000 100000"), ("cpu.cfs_quota_us", "10000"))
}

/// Four spinners on one CPU, in a cgroup and under its controller.
fn spinners(controlled: &Controlled) -> Result<Crowd> {
    let crowd = Crowd::start(&controlled.cgroup, 4, 0)?;
    crowd.pids().iter().try_for_each(|pid| controlled.take(*pid))?;
    Ok(crowd)
}

/// An error unless the page has the figures of a cgroup's file. Returns how long it was throttled, in nanoseconds.
fn agrees(page: &Page, controlled: &Controlled, text: &str) -> Result<u64> {
    let labels = [("cgroup", controlled.cgroup.label.as_str())];
    for (name, truth) in [
        ("observer_cpu_periods_total", figure(text, "nr_periods")?),
        ("observer_cpu_throttled_periods_total", figure(text, "nr_throttled")?),
    ] {
        let shown = page.one(name, &labels)?.integer()?;
        ensure!(shown == truth, "{name} is {shown}, not {truth}");
    }
    let truth =
        if controlled.is_v1() { figure(text, "throttled_time")? } else { figure(text, "throttled_usec")? * 1000 };
    let shown = page.one("observer_cpu_throttled_seconds_total", &labels)?.nanoseconds()?;
    ensure!(shown == truth, "throttled for {shown} ns on the page, {truth} in cpu.stat");
    Ok(truth)
}

/// The page and the file when both say the same for a while.
fn at_rest(agent: &Agent, controlled: &Controlled) -> Result<(Page, String)> {
    let stat = || controlled.says("cpu.stat", "cpu.stat");
    // Periods go on for a moment after the last task slept.
    std::thread::sleep(Duration::from_millis(2200));
    let text = stat()?;
    let page = agent.scrape()?;
    ensure!(figure(&stat()?, "nr_periods")? == figure(&text, "nr_periods")?, "the cgroup is not at rest");
    Ok((page, text))
}

fn throttling() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let controlled = Controlled::make(&mut folder, "narrow", "cpu")?;
    narrow(&controlled)?;
    let agent = Agent::start(&[])?;
    let mut crowd = spinners(&controlled)?;
    crowd.begin(Duration::from_secs(2))?;
    crowd.finish()?;
    crowd.truth()?;
    let (page, text) = at_rest(&agent, &controlled)?;
    let throttled = explain(&agent, agrees(&page, &controlled, &text))?;
    ensure!(throttled > 200_000_000, "hardly throttled: {text}");
    Ok(())
}

fn quota_above() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let mut pod = Controlled::make(&mut folder, "pod", "cpu")?;
    narrow(&pod)?;
    let container = Controlled::make(&mut pod.cgroup, "container", "cpu")?;
    let mut crowd = spinners(&container)?;
    crowd.begin(Duration::from_secs(3))?;
    std::thread::sleep(Duration::from_millis(500));
    let agent = Agent::start(&[])?;
    crowd.finish()?;
    crowd.truth()?;
    let (page, text) = at_rest(&agent, &pod)?;
    let throttled = explain(&agent, agrees(&page, &pod, &text))?;
    ensure!(throttled > 200_000_000, "hardly throttled: {text}");
    let labels = [("cgroup", container.cgroup.label.as_str())];
    let below = page.samples("observer_cpu_throttled_seconds_total", &labels)?;
    ensure!(below.iter().all(|sample| sample.value == "0"), "the container had no quota: {below:?}");
    ensure!(page.cpu(&container.cgroup.label)? > 0, "the container has no CPU time");
    Ok(())
}

fn pressure() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("crowd")?;
    let agent = Agent::start(&["--pressure"])?;
    let mut crowd = Crowd::start(&cgroup, 3, 0)?;
    crowd.begin(Duration::from_secs(2))?;
    crowd.finish()?;
    crowd.truth()?;
    // So that the cgroup is among those whose files are read.
    std::thread::sleep(Duration::from_millis(2200));
    let mut stalled = 0;
    for resource in ["cpu", "memory", "io"] {
        let path = cgroup.path().join(format!("{resource}.pressure"));
        let truth = fs::read_to_string(&path)?;
        let page = agent.scrape()?;
        ensure!(totals(&fs::read_to_string(&path)?)? == totals(&truth)?, "the cgroup is not at rest");
        for (kind, total) in totals(&truth)? {
            let labels = [("cgroup", cgroup.label.as_str()), ("resource", resource), ("kind", kind)];
            let shown = page.one("observer_pressure_seconds_total", &labels)?.nanoseconds()?;
            ensure!(shown == total * 1000, "{resource} {kind}: {shown} ns on the page, {total} us by the kernel");
            stalled += total;
        }
    }
    ensure!(stalled > 500_000, "three tasks on one CPU for two seconds were stalled for {stalled} us");
    drop(agent);
    let agent = Agent::start(&[])?;
    std::thread::sleep(Duration::from_millis(1500));
    ensure!(!agent.scrape()?.text.contains("observer_pressure_"), "nobody asked for pressure");
    Ok(())
}

/// Each kind of stall with its total.
fn totals(text: &str) -> Result<Vec<(&str, u64)>> {
    text.lines()
        .map(|line| {
            let (kind, _) = line.split_once(' ').context("a line without figures")?;
            Ok((kind, line.rsplit_once("total=").context("a line without a total")?.1.parse()?))
        })
        .collect()
}
