//! P4: what a bulk TCP transfer loses to the agent.
//!
//! As iperf3 does it, without needing it: writes of 128 KiB from one network namespace to another over a veth pair,
//! sender and receiver on CPUs of their own, until the receiver has read the last byte. Pairs of a run with the agent
//! and one without, in alternating order; the figure is the mean ratio with its 95 % interval.

use crate::{
    agent::Agent,
    report::{Compared, Row, Verdict},
    run::Run,
    statistics::{Rounds, ratio_interval},
    traffic,
};
use anyhow::Result;
use std::collections::BTreeMap;

/// Length of one transfer.
const MILLISECONDS: u32 = 1_000;
/// Fewer pairs make no interval worth having.
const PAIRS: usize = 15;

/// Measures, and adds a row.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let cgroup = run.arena.cgroup("p4")?;
    let home = run.arena.cgroup("agent")?;
    let mut pair = traffic::Pair::start(&run.cpus, &cgroup)?;
    let (mut on, mut off) = (Rounds::default(), Rounds::default());
    pair.bytes_per_second(MILLISECONDS)?;
    for round in 0..run.rounds.max(PAIRS) {
        run.progress("P4", round);
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                off.push(pair.bytes_per_second(MILLISECONDS)?);
            } else {
                let agent = Agent::start_ready(&run.observer, &home)?;
                on.push(pair.bytes_per_second(MILLISECONDS)?);
                agent.stop()?;
            }
        }
    }
    drop(pair);
    run.report.rows.push(row(&on, &off));
    Ok(())
}

fn row(on: &Rounds, off: &Rounds) -> Row {
    let interval = ratio_interval(on, off);
    let gigabits = |rounds: &Rounds| rounds.median() * 8e-9;
    let ratio: Rounds = on.0.iter().zip(&off.0).map(|(on, off)| on / off).collect();
    Row {
        id: "P4",
        measure: "TCP throughput over veth with the agent, as a ratio of without".into(),
        ours: ratio.both().map(|pair| crate::statistics::Pair { min: ratio.max(), ..pair }),
        others: Vec::new(),
        compared: interval.map(Compared::Interval),
        goal: "95 % interval inside 0.99..1.01".into(),
        verdict: Verdict::within(interval, 0.01),
        note: Some(format!(
            "{} pairs; medians {:.1} Gbit/s with and {:.1} Gbit/s without",
            on.0.len(),
            gigabits(on),
            gigabits(off)
        )),
        rounds: BTreeMap::from([("off".into(), off.clone()), ("observer".into(), on.clone())]),
    }
}
