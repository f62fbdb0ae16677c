//! A cron job that runs all the time: its pods live for a moment, take each other's addresses, and leave; its books stay.

use super::outages;
use crate::{
    cluster::{PATIENCE, in_node, xtask},
    installed::{Agent, Amount, expect, sum},
    kubectl::{apply, get, kubectl},
    namespace,
    pod::{Sink, script},
    trial::{is_again, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    thread::sleep,
    time::{Duration, Instant},
};

const SENT: &str = "observer_network_transmit_bytes_total";
const WORKLOAD_SENT: &str = "observer_workload_network_transmit_bytes_total";
const NAME: &str = "churn";
/// How often it runs.
const RUNS: u64 = 60;
/// Runs at the same time.
const AT_ONCE: u64 = 6;
/// A finished pod's series stay so long, and so much may pass until that is seen.
const STAYS: Duration = Duration::from_secs(120 + 20);

pub(super) fn tests() -> Vec<Trial> {
    // How long they stay does not depend on the mode.
    vec![if is_again() {
        test("sixty_runs_of_a_cron_job_are_booked_to_the_byte", || sixty_runs().map(drop))
    } else {
        test("sixty_runs_of_a_cron_job_are_booked_to_the_byte_and_leave_no_series_behind", pods_leave)
    }]
}

/// What a run sends: no two the same.
const fn amount(run: u64) -> Amount {
    Amount { datagrams: 10 + run, size: 200 }
}

/// What is there when all have run.
struct Ran {
    /// What they sent to.
    sink: Sink,
    /// When the last one had ended.
    ended: Instant,
    /// What is booked.
    total: u64,
    agent: Agent,
}

fn sixty_runs() -> Result<Ran> {
    let agent = Agent::install()?;
    let sink = Sink::start(&agent.node)?;
    apply(&cron_job(&agent, &sink))?;
    let (mut addresses, mut seen, mut highest) = (BTreeMap::new(), BTreeSet::new(), 0);
    let mut ended = Instant::now();
    for first in (0..RUNS).step_by(AT_ONCE as usize) {
        let runs = first..(first + AT_ONCE).min(RUNS);
        reuse_addresses()?;
        for run in runs.clone() {
            kubectl(&["create", "job", &format!("--from=cronjob/{NAME}"), &format!("{NAME}-{run}")])?;
        }
        let jobs: Vec<_> = runs.map(|run| format!("job/{NAME}-{run}")).collect();
        let limit = format!("--timeout={}s", PATIENCE.as_secs());
        let jobs = jobs.iter().map(String::as_str);
        kubectl(&["wait", "--for=condition=Complete", &limit].into_iter().chain(jobs).collect::<Vec<_>>())?;
        ended = Instant::now();
        // The books of a workload only go up.
        let page = Agent::page()?;
        let booked = sum(&page, WORKLOAD_SENT, &labels())?;
        ensure!(booked >= highest, "the workload's counter fell from {highest} to {booked}");
        highest = booked;
        seen.extend(page.samples(SENT, &labels())?.iter().map(|sample| sample.label("pod").to_owned()));
        for (pod, address) in pods()? {
            addresses.insert(pod, address);
        }
    }
    let total = (0..RUNS).map(|run| amount(run).on_the_wire()).sum();
    Agent::settles(PATIENCE, |page| {
        expect(page, WORKLOAD_SENT, &labels(), total)?;
        seen.extend(page.samples(SENT, &labels())?.iter().map(|sample| sample.label("pod").to_owned()));
        for sample in page.samples(SENT, &labels())? {
            let run = run_of(sample.label("pod"))?;
            // Whoever had the address before sent another amount.
            let expected = amount(run).on_the_wire();
            ensure!(sample.integer()? == expected, "{:?} has {}, and sent {expected}", sample.labels, sample.value);
        }
        Ok(())
    })?;
    ensure!(seen.len() as u64 >= RUNS / 2, "only {} of {RUNS} pods were ever on the page: {seen:?}", seen.len());
    if xtask().is_some() {
        let distinct: BTreeSet<_> = addresses.values().collect();
        ensure!(distinct.len() < addresses.len(), "no address was used twice: {addresses:?}");
    }
    kubectl(&["delete", "cronjob", NAME])?;
    Ok(Ran { sink, ended, total, agent })
}

fn pods_leave() -> Result<()> {
    let Ran { sink, ended, total, agent } = sixty_runs()?;
    // Two minutes in which nothing is to be done here are enough for a server that hangs.
    outages::server_hangs_meanwhile(&agent, sink);
    // They leave, also while the API still lists them; the workload's sum stays, and nothing becomes `other`.
    let gone = wait_until(STAYS.saturating_sub(ended.elapsed()) + PATIENCE, || {
        sleep(Duration::from_secs(1));
        Ok(Agent::page()?.samples(SENT, &labels())?.is_empty())
    })?;
    ensure!(gone, "series of finished pods are still there: {:?}", Agent::page()?.samples(SENT, &labels())?);
    expect(&Agent::page()?, WORKLOAD_SENT, &labels(), total)
}

fn labels() -> [(&'static str, &'static str); 3] {
    [("namespace", namespace::name()), ("workload", NAME), ("workload_type", "cronjob")]
}

/// `churn-17-abcde` is of run 17.
fn run_of(pod: &str) -> Result<u64> {
    let number = pod.strip_prefix("churn-").and_then(|rest| rest.split('-').next()).and_then(|run| run.parse().ok());
    number.with_context(|| format!("{pod} is no pod of a run, by its name"))
}

/// Its pods that are there, and their addresses.
fn pods() -> Result<Vec<(String, String)>> {
    let pods = get(&["pods", "--selector", &format!("app={NAME}")])?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pods = pods["items"].as_array().into_iter().flatten();
    Ok(pods.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"]))).collect())
}

fn cron_job(agent: &Agent, sink: &Sink) -> serde_json::Value {
    // Its number is in its name: all runs are made of one template.
    let send = format!("run=${{HOSTNAME#churn-}}; exec talk to {} $((10 + ${{run%%-*}})) 200", sink.address);
    let mut pod = script(NAME, &send);
    pod["spec"]["nodeName"] = agent.node.as_str().into();
    let template = json!({ "metadata": { "labels": { "app": NAME } }, "spec": pod["spec"] });
    let job = json!({ "spec": { "backoffLimit": 0, "template": template } });
    json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "name": NAME },
        // The API forgets a run, and its pod, when as many later ones are over.
        "spec": { "schedule": "0 0 1 1 *", "suspend": true, "successfulJobsHistoryLimit": AT_ONCE, "jobTemplate": job },
    })
}

/// Forgets which address was given last, so that the next pods are given those that were just set free. Of an own cluster.
fn reuse_addresses() -> Result<()> {
    if xtask().is_none() {
        return Ok(());
    }
    in_node(&["sh", "-c", "rm -f /var/lib/cni/networks/*/last_reserved_ip.*"]).map(drop)
}
