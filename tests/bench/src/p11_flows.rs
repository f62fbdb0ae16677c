//! P11: 10 000 open connections, told of while their packets go on.

use crate::{
    agent::Agent,
    report::{Compared, Row, Verdict},
    run::{Run, progress},
    statistics::{Pair, Rounds},
    worker::Worker,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const CONNECTIONS: u32 = 10_000;
/// Each holds its part of them: a process may not have that many files.
const WORKERS: u32 = 2;
/// Those that were opened are a flow each; those that were accepted are one, and the largest.
const PATH: &str = "/api/v1/flows?top=10000";
/// How long bytes go to and fro in a round.
const ROUND_MS: u64 = 500;
/// Between two requests: rates are since the one before.
const PAUSE: Duration = Duration::from_millis(600);

/// Measures, and adds two rows.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let (home, talkers) = (run.arena.cgroup("agent")?, run.arena.cgroup("talkers")?);
    let agent = Agent::start_ready(&run.observer, &home, None)?;
    let part = (CONNECTIONS / WORKERS).to_string();
    let start = |_| Worker::start(&["connections", &part], Some(&talkers));
    let mut workers = (0..WORKERS).map(start).collect::<Result<Vec<_>>>()?;
    for worker in &mut workers {
        ensure!(worker.hear()? == "ready", "the connections were not made");
    }
    let worker = &mut workers[0];
    let mut client = agent.debug_client()?;
    let (mut listed, mut quiet, mut busy) = (Rounds::default(), Rounds::default(), Rounds::default());
    // The first makes two looks, a second apart.
    client.get(PATH, false)?;
    for round in 0..run.rounds {
        progress("P11", round, run.rounds);
        thread::sleep(PAUSE);
        let begun = Instant::now();
        let answer = client.get(PATH, false)?;
        listed.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(
            answer.status == 200 && open_connections(&answer.body)? >= u64::from(2 * CONNECTIONS - 100),
            "not all are told of"
        );
        quiet.push(turns(worker)?);
        let goes_on = AtomicBool::new(true);
        busy.push(thread::scope(|scope| {
            scope.spawn(|| {
                while goes_on.load(Ordering::Relaxed) {
                    // Each waits a second for its rates where it comes too soon: a look twice a second all the same.
                    let _ = client.get(PATH, false);
                    thread::sleep(PAUSE);
                }
            });
            let made = turns(worker);
            goes_on.store(false, Ordering::Relaxed);
            made
        })?);
    }
    agent.stop()?;
    let ratio = Pair { min: busy.max() / quiet.max(), median: busy.median() / quiet.median() };
    run.report.rows.push(Row {
        id: "P11",
        measure: format!("ms to tell of {CONNECTIONS} connections, both ends"),
        ours: listed.both(),
        others: Vec::new(),
        compared: None,
        goal: "<= 100 ms".into(),
        verdict: Verdict::at_most(listed.both(), 100.0),
        note: None,
        rounds: BTreeMap::from([("listed".into(), listed)]),
    });
    run.report.rows.push(Row {
        id: "P11",
        measure: "bytes to and fro in half a second on one of them, while all are told of".into(),
        ours: Some(Pair { min: busy.max(), median: busy.median() }),
        others: vec![("the same, while nobody asks".into(), Pair { min: quiet.max(), median: quiet.median() })],
        compared: Some(Compared::Ratio(ratio)),
        goal: "no slower".into(),
        verdict: Verdict::Shown,
        note: None,
        rounds: BTreeMap::from([("told of".into(), busy), ("quiet".into(), quiet)]),
    });
    Ok(())
}

fn turns(worker: &mut Worker) -> Result<f64> {
    worker.tell(&format!("turns {ROUND_MS}"))?;
    Ok(worker.hear()?.parse()?)
}

/// The sum over all flows.
fn open_connections(body: &[u8]) -> Result<u64> {
    let json: serde_json::Value = serde_json::from_slice(body)?;
    let flows = json["flows"].as_array().context("no flows")?;
    Ok(flows.iter().filter_map(|flow| flow["open_connections"].as_u64()).sum())
}
