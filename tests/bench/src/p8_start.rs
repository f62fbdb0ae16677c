//! P8: from the start of the agent to the first scrape that is right.
//!
//! A cgroup talks all the time. The clock runs from before the agent's process is made until a page shows bytes of that
//! cgroup: a whole number of its packets, so neither too few programs nor a wrong name would pass.

use crate::{
    agent::Agent,
    report::{Row, Verdict},
    run::{Run, progress},
    scrape,
    statistics::Rounds,
    tenants::PACKET_BYTES,
    worker::Worker,
};
use anyhow::{Result, bail, ensure};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// Fewer starts say nothing about the slow ones.
const STARTS: usize = 20;
const FAMILY: &str = "observer_network_transmit_bytes_total";

/// Measures, and adds a row.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let home = run.arena.cgroup("agent")?;
    let cgroup = run.arena.cgroup("p8")?;
    let label = format!("cgroup=\"{}\"", run.arena.label(&cgroup)?);
    let mut talker = Worker::start(&["tenant", "1"], Some(&cgroup))?;
    talker.hear()?;
    let mut times = Rounds::default();
    let starts = run.rounds.max(STARTS);
    for start in 0..starts {
        progress("P8", start, starts);
        times.push(first_right_scrape(&run.observer, &home, &label)?);
    }
    drop(talker);
    run.report.rows.push(Row {
        id: "P8",
        measure: "ms from the start to the first right scrape".into(),
        ours: times.both(),
        others: Vec::new(),
        compared: None,
        goal: "<= 150 ms".into(),
        verdict: Verdict::at_most(times.both(), 150.0),
        note: Some(format!("the slowest of {starts} starts took {:.0} ms", times.max())),
        rounds: BTreeMap::from([("observer".into(), times)]),
    });
    Ok(())
}

/// Milliseconds.
fn first_right_scrape(observer: &Path, home: &Path, label: &str) -> Result<f64> {
    let agent = Agent::start(observer, home, None)?;
    let start = agent.started();
    let mut client = agent.client()?;
    let bytes = loop {
        let response = client.get("/metrics", false)?;
        if let Some(bytes) = scrape::value(&response.body, FAMILY, label).filter(|bytes| *bytes > 0.0) {
            break bytes;
        }
        if start.elapsed() > Duration::from_secs(10) {
            bail!("no scrape within 10 s showed bytes of {label}");
        }
    };
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    ensure!(
        (bytes as u64).is_multiple_of(PACKET_BYTES),
        "{bytes} bytes is no whole number of packets of {PACKET_BYTES}"
    );
    agent.stop()?;
    Ok(milliseconds)
}
