//! P6: what the agent itself uses of a CPU: 110 pods that live, a sample each second, a scrape every 15 seconds.
//!
//! The scheduler's own count of the agent's run time, in four stretches of 15 seconds, each with one scrape.

use crate::{
    cpu,
    naming::{Naming, Node},
    report::{Row, Verdict},
    run::{Run, progress},
    statistics::Rounds,
};
use anyhow::Result;
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

const PODS: u32 = 110;
const STRETCHES: usize = 4;
const STRETCH: Duration = Duration::from_secs(15);

/// Measures, and adds two rows.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    for naming in Naming::ALL {
        named(run, naming)?;
    }
    Ok(())
}

fn named(run: &mut Run, naming: Naming) -> Result<()> {
    let home = run.arena.cgroup("agent")?;
    let node = Node::start(run, &home, PODS, naming)?;
    let mut client = node.client()?;
    thread::sleep(Duration::from_secs(3));
    client.get("/metrics", true)?;
    let mut percent = Rounds::default();
    for stretch in 0..STRETCHES {
        progress("P6", stretch, STRETCHES);
        let (start, before) = (Instant::now(), cpu::process_ns(node.pid())?);
        thread::sleep(STRETCH);
        client.get("/metrics", true)?;
        let used = cpu::process_ns(node.pid())? - before;
        percent.push(used as f64 / start.elapsed().as_nanos() as f64 * 100.0);
    }
    node.stop()?;
    run.report.rows.push(Row {
        id: "P6",
        measure: format!("percent of a CPU used by the agent, {PODS} pods{}, scraped every 15 s", naming.words()),
        ours: percent.both(),
        others: Vec::new(),
        compared: None,
        goal: "<= 0.05 %".into(),
        verdict: Verdict::at_most(percent.both(), 0.05),
        note: None,
        rounds: BTreeMap::from([("observer".into(), percent)]),
    });
    Ok(())
}
