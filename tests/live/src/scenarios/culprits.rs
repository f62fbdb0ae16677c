//! Who makes whom wait.

use super::run_queue::last_cpu;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    http,
    machine::is_guest,
    page::Page,
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{collections::BTreeMap, time::Duration};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("a_neighbour_that_spins_is_blamed_and_its_victim_is_not", Place::Both, &[Need::Root], neighbours),
        test("containers_of_one_pod_and_threads_of_one_container_are_told_apart", Place::Both, &[Need::Root], at_home),
    ]
}

/// A cgroup's waits by cause, in nanoseconds.
pub(super) fn caused(page: &Page, cgroup: &str) -> Result<BTreeMap<String, u64>> {
    let samples = page.samples("observer_run_queue_wait_caused_seconds_total", &[("cgroup", cgroup)])?;
    samples.iter().map(|sample| Ok((sample.label("by").to_owned(), sample.nanoseconds()?))).collect()
}

/// What the debug listener tells of victims and culprits that go by their cgroups, in seconds.
fn pairs(agent: &Agent) -> Result<BTreeMap<(String, String), f64>> {
    let answer = http::get(agent.debug_address()?, "/api/v1/pairs?top=1000")?;
    let json: serde_json::Value = serde_json::from_str(answer.text()?)?;
    let pairs = json["pairs"].as_array().context("no pairs")?;
    let path = |who: &serde_json::Value| who["cgroup"].as_str().unwrap_or_default().to_owned();
    let pair = |pair: &serde_json::Value| {
        let seconds = pair["wait_seconds"].as_f64().context("no wait_seconds")?;
        Ok(((path(&pair["victim"]), path(&pair["culprit"])), seconds))
    };
    pairs.iter().map(pair).collect()
}

/// A container's cgroup in a pod of that number.
fn container(folder: &Cgroup, pod: u8, container: u8) -> Result<(Cgroup, Cgroup)> {
    let pod = folder.child(format!("pod{pod:08x}-0000-4000-8000-000000000000"))?;
    let inner = pod.child(format!("{container:064x}"))?;
    Ok((inner, pod))
}

fn workers(cgroup: &Cgroup, job: &'static str, count: usize) -> Result<Vec<Worker>> {
    let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(cgroup) };
    (0..count).map(|_| Worker::start(seat, [job])).collect()
}

fn run(groups: &mut [(&mut Vec<Worker>, &str)], length: Duration) -> Result<()> {
    for (workers, job) in groups.iter_mut() {
        workers.iter_mut().try_for_each(|worker| worker.tell(&format!("{job} {}", length.as_millis())))?;
    }
    for (workers, _) in groups {
        for worker in workers.iter_mut() {
            worker.line(Duration::from_mins(1))?;
        }
    }
    Ok(())
}

fn pids(workers: &[Worker]) -> Vec<u32> {
    workers.iter().map(Worker::pid).collect()
}

/// One task naps and works for a moment, two of another pod spin on its CPU.
fn neighbours() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let ((victim, _pod), (culprit, _other_pod)) = (container(&folder, 1, 1)?, container(&folder, 2, 2)?);
    let agent = Agent::start(&[])?;
    let (mut napping, mut spinning) = (workers(&victim, "nap", 1)?, workers(&culprit, "spin", 2)?);
    let before = (truth::schedstat(&pids(&napping))?, truth::ran(&pids(&napping))?);
    run(&mut [(&mut napping, "nap"), (&mut spinning, "spin")], Duration::from_secs(5))?;
    let waited = (truth::schedstat(&pids(&napping))? - before.0).nanoseconds;
    let ran = truth::ran(&pids(&napping))? - before.1;
    let spinners_waited = truth::schedstat(&pids(&spinning))?.nanoseconds;
    let page = agent.scrape()?;
    let (victims, culprits) = (caused(&page, &victim.label)?, caused(&page, &culprit.label)?);
    let named = pairs(&agent)?;
    let outcome = || {
        let by = |causes: &BTreeMap<String, u64>, kind: &str| causes.get(kind).copied().unwrap_or(0);
        ensure!(waited > 500_000_000, "the victim waited only {waited} ns");
        // Nearly all of its waits are for the spinners, and longer than the threshold.
        let pair = named.get(&(victim.label.clone(), culprit.label.clone())).copied().unwrap_or(0.0);
        let told = by(&victims, "other_pod") as f64 / 1e9;
        // Its small parts are taken in lumps of 17 ms.
        ensure!((pair - told).abs() < 0.01 * told + 0.05, "the pair has {pair} s of {told} s: {named:?}");
        let others = by(&victims, "other_pod") + by(&victims, "host");
        ensure!(others >= waited / 10 * 9 && others <= waited + waited / 100, "{victims:?} of {waited} ns");
        ensure!(by(&victims, "other_pod") >= waited / 5, "{victims:?} of {waited} ns");
        ensure!(!is_guest() || by(&victims, "host") <= waited / 20, "{victims:?} of {waited} ns");
        // Either spinner waits for the other, and for the victim no longer than that ran.
        let all = culprits.values().sum::<u64>();
        ensure!(all >= spinners_waited / 100 * 97, "{culprits:?} of {spinners_waited} ns");
        let at_home = by(&culprits, "same_container") + by(&culprits, "host");
        ensure!(at_home >= all / 2, "{culprits:?} of {spinners_waited} ns");
        ensure!(by(&culprits, "other_pod") <= 2 * ran + ran / 20, "{culprits:?}, though the victim ran {ran} ns");
        Ok(())
    };
    explain(&agent, outcome())
}

/// Two containers of a pod, one with two spinners: each waits for its own and for the other.
fn at_home() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let ((first, _pod), (second, _same_pod)) = (container(&folder, 1, 1)?, container(&folder, 1, 2)?);
    let agent = Agent::start(&[])?;
    let (mut pair, mut single) = (workers(&first, "spin", 2)?, workers(&second, "spin", 1)?);
    run(&mut [(&mut pair, "spin"), (&mut single, "spin")], Duration::from_secs(4))?;
    let truths = [truth::schedstat(&pids(&pair))?.nanoseconds, truth::schedstat(&pids(&single))?.nanoseconds];
    let page = agent.scrape()?;
    let (pairs, singles) = (caused(&page, &first.label)?, caused(&page, &second.label)?);
    let outcome = || {
        let share = |causes: &BTreeMap<String, u64>, kind: &str, of: u64| {
            causes.get(kind).copied().unwrap_or(0) as f64 / of as f64
        };
        // Of three spinners on one CPU each waits for two: of the pair, one is its own. On a host, for neighbours too.
        let (own, other) = (share(&pairs, "same_container", truths[0]), share(&pairs, "same_pod", truths[0]));
        ensure!(own / other > 0.8 && own / other < 1.25, "{pairs:?} of {} ns", truths[0]);
        ensure!(own + other + share(&pairs, "host", truths[0]) > 0.97, "{pairs:?} of {} ns", truths[0]);
        let (other, host) = (share(&singles, "same_pod", truths[1]), share(&singles, "host", truths[1]));
        ensure!(other > 0.3 && other + host > 0.97, "{singles:?} of {} ns", truths[1]);
        Ok(())
    };
    explain(&agent, outcome())
}
