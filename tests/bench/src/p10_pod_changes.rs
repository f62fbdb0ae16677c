//! P10: what the agent uses of a CPU for pods that change: ten changes a second, against none, in turns.
//!
//! Every second change is a container that was restarted, and so has another id; the others say nothing that the agent
//! needs, as most of the kubelet's do not. Both are whole pods of just under 4 kB.

use crate::{
    api_pods,
    api_server::ApiServer,
    cpu,
    naming::{Naming, Node},
    report::{Row, Verdict},
    run::{Run, progress},
    statistics::Rounds,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

const PODS: u32 = 110;
const PER_SECOND: u32 = 10;
/// Half of a round.
const STRETCH: Duration = Duration::from_secs(5);

/// Measures, and adds a row.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let home = run.arena.cgroup("agent")?;
    let node = Node::start(run, &home, PODS, Naming::Api)?;
    let api = node.api.as_ref().context("an API server")?;
    thread::sleep(Duration::from_secs(3));
    let (mut changing, mut quiet) = (Rounds::default(), Rounds::default());
    let mut changes = Changes::default();
    for round in 0..run.rounds {
        progress("P10", round, run.rounds);
        // Whoever is second has the other's turn before it.
        for change in [round % 2 == 0, round % 2 != 0] {
            let rounds = if change { &mut changing } else { &mut quiet };
            let turn = || {
                if change {
                    changes.send(api);
                }
            };
            rounds.push(percent(node.pid(), turn)?);
        }
    }
    ensure!(api.has_told_all(), "the agent stopped watching");
    node.stop()?;
    let added = changing.over(&quiet);
    run.report.rows.push(Row {
        id: "P10",
        measure: format!("percent of a CPU added by {PER_SECOND} pod changes a second, {PODS} pods"),
        ours: added,
        others: Vec::new(),
        compared: None,
        goal: String::new(),
        verdict: Verdict::Shown,
        note: Some(format!(
            "{:.3} % with the changes and {:.3} % without (medians); {} changes of {} bytes on average",
            changing.median(),
            quiet.median(),
            changes.sent,
            changes.bytes / u64::from(changes.sent.max(1))
        )),
        rounds: BTreeMap::from([("changing".into(), changing), ("quiet".into(), quiet)]),
    });
    Ok(())
}

/// What a process uses of a CPU over a stretch in which `act` is called at each tick.
fn percent(pid: u32, mut act: impl FnMut()) -> Result<f64> {
    let (start, before) = (Instant::now(), cpu::process_ns(pid)?);
    let tick = Duration::from_secs(1) / PER_SECOND;
    let mut next = start;
    while next - start < STRETCH {
        act();
        next += tick;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let used = cpu::process_ns(pid)? - before;
    Ok(used as f64 / start.elapsed().as_nanos() as f64 * 100.0)
}

/// The changes so far.
#[derive(Debug, Default)]
struct Changes {
    sent: u32,
    bytes: u64,
}

impl Changes {
    /// Sends the next: to each pod in turn, one that restarts its container and then one that does not.
    fn send(&mut self, api: &ApiServer) {
        let (number, restarts) = (self.sent / 2 % PODS, 1 + self.sent / 2 / PODS);
        self.bytes += api.modified(api_pods::pod(number, restarts)) as u64;
        self.sent += 1;
    }
}
