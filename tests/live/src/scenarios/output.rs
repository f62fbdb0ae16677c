//! What a person at the terminal sees: the summary, and the log in both formats.

use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::wait_until,
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("the_summary_names_the_heaviest_sender_and_the_longest_waiter", Place::Both, &[Need::Root], summary),
        test("the_log_can_be_json_line_by_line", Place::Both, &[Need::Root], json_log),
    ]
}

fn summary() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (sender, waiter) = (folder.child("heavy-sender")?, folder.child("long-waiter")?);
    let agent = Agent::start(&["--summary-interval", "2s"])?;
    let sink = Worker::start(Seat::default(), ["udp-sink", "--bind", "127.0.0.1:0"])?;
    let mut talk = Worker::start(Seat::in_cgroup(&sender), ["udp-talk", "--to", &sink.greeting, "--size", "8000"])?;
    let cpu = Some(std::thread::available_parallelism()?.get() - 1);
    let mut spinners = Vec::new();
    for _ in 0..5 {
        spinners.push(Worker::start(Seat { cpu, ..Seat::in_cgroup(&waiter) }, ["spin"])?);
    }
    for spinner in &mut spinners {
        spinner.tell("spin 6000")?;
    }
    talk.tell("pace 12000 2000")?;
    let named = wait_until(Duration::from_secs(12), || {
        let text = agent.log_text();
        Ok(text.contains(&sender.label) && text.contains(&waiter.label))
    })?;
    explain(&agent, named.then_some(()).context("the summary does not name them"))
}

fn json_log() -> Result<()> {
    let agent = Agent::start(&["--log-format", "json"])?;
    let log = agent.log_text();
    ensure!(log.lines().count() > 0, "no log");
    for line in log.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        ensure!(parsed["level"].is_string() && parsed["timestamp"].is_string(), "{line}");
    }
    Ok(())
}
