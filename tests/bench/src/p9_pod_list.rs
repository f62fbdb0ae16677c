//! P9: a list of 10 000 pods, which no node has: the memory and the time that it takes to read it.
//!
//! The list that an agent begins with, and the one after a watch that is too old, which is gathered while all pods are known.
//! The first waits until the start's own peak is over and forgotten.

use crate::{
    agent::Agent,
    api_pods,
    api_server::ApiServer,
    memory::{Memory, forget_peak},
    naming::wait_for_names,
    report::{Compared, Row, Verdict},
    run::{Run, progress},
    statistics::Rounds,
};
use anyhow::Result;
use std::{collections::BTreeMap, path::Path, thread, time::Duration};

const PODS: u32 = 10_000;
/// Each starts an agent and takes some seconds; memory hardly differs between two.
const MOST_ROUNDS: usize = 5;
/// Scrapes, a second apart, before memory counts as steady.
const SCRAPES: usize = 3;

/// The rounds of a list.
#[derive(Default)]
struct List {
    peak: Rounds,
    steady: Rounds,
    ratio: Rounds,
    milliseconds: Rounds,
}

/// Measures, and adds three rows.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let home = run.arena.cgroup("agent")?;
    let pods: Vec<_> = (0..PODS).map(api_pods::small).collect();
    let (mut first, mut again) = (List::default(), List::default());
    let mut bytes = 0;
    let rounds = run.rounds.min(MOST_ROUNDS);
    for round in 0..rounds {
        progress("P9", round, rounds);
        let api = ApiServer::start(&pods)?;
        bytes = api.list_bytes();
        one_agent(&run.observer, &home, &api, [&mut first, &mut again])?;
    }
    let what = format!("{PODS} pods in {:.1} MB", bytes as f64 / 1e6);
    run.report.rows.push(memory_row(format!("MiB at most while {what} are listed"), &first));
    run.report.rows.push(memory_row(format!("MiB at most while {what} are listed again, all known"), &again));
    run.report.rows.push(Row {
        id: "P9",
        measure: format!("ms until the list of {what} is in the books"),
        ours: first.milliseconds.both(),
        others: again.milliseconds.both().into_iter().map(|pair| ("the same, listed again".into(), pair)).collect(),
        compared: None,
        goal: String::new(),
        verdict: Verdict::Shown,
        note: None,
        rounds: BTreeMap::from([("first".into(), first.milliseconds), ("again".into(), again.milliseconds)]),
    });
    Ok(())
}

fn one_agent(observer: &Path, home: &Path, api: &ApiServer, [first, again]: [&mut List; 2]) -> Result<()> {
    api.hold_lists(true);
    let agent = Agent::start_ready(observer, home, Some(api))?;
    thread::sleep(Duration::from_secs(1));
    for (list, is_first) in [(first, true), (again, false)] {
        forget_peak(agent.pid())?;
        if is_first {
            api.hold_lists(false);
        } else {
            api.expire_watches();
        }
        list.milliseconds.push(api.list_taken()?.as_secs_f64() * 1e3);
        wait_for_names(&agent, PODS)?;
        let mut client = agent.client()?;
        for _ in 0..SCRAPES {
            thread::sleep(Duration::from_secs(1));
            client.get("/metrics", true)?;
        }
        let memory = Memory::of(agent.pid())?;
        list.peak.push(memory.peak);
        list.steady.push(memory.resident);
        list.ratio.push(memory.peak / memory.resident);
    }
    agent.stop()
}

fn memory_row(measure: String, list: &List) -> Row {
    let ratio = list.ratio.both();
    Row {
        id: "P9",
        measure,
        ours: list.peak.both(),
        others: list.steady.both().into_iter().map(|pair| ("steady after it".into(), pair)).collect(),
        compared: ratio.map(Compared::Ratio),
        goal: "<= 2 x steady".into(),
        verdict: Verdict::at_most(ratio, 2.0),
        note: None,
        rounds: BTreeMap::from([("peak".into(), list.peak.clone()), ("steady".into(), list.steady.clone())]),
    }
}
