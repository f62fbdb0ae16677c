//! P3: how many small packets a second are lost to the agent.
//!
//! UDP of 64 bytes from one network namespace to another over a veth pair, one system call per packet, sender and
//! receiver on CPUs of their own. In turns: nothing attached; the empty program, both directions; an empty program at
//! each of the kernel's two tracepoints that every packet passes, which are no cgroup's; the real
//! agent with all its programs, started for its turn and ended after it. The sender's CPU does the work of both hosts up to the
//! receiver's socket, so it runs both hooks: the dearest case there is for a program per packet. It never waits, so a
//! second is a second of its CPU, whoever else wants that CPU.

use crate::{
    agent::Agent,
    cpu::Clock,
    report::{Row, Verdict},
    run::{Run, progress},
    statistics::{Pair, Rounds},
    traffic,
};
use anyhow::{Context as _, Result};
use aya::programs::CgroupSkbAttachType;
use std::{collections::BTreeMap, fs::File};

/// Packets in one measurement: some 20 ms. A round takes the best of some.
const PACKETS: u32 = 5_000;
const RUNS: usize = 20;

/// Packets per second, in the rounds of each variant.
#[derive(Default)]
struct Rates {
    off: Rounds,
    empty: Rounds,
    traced: Rounds,
    agent: Rounds,
}

/// Measures, and adds a row.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let cgroup = run.arena.cgroup("p3")?;
    let directory = File::open(&*cgroup).with_context(|| format!("open {}", cgroup.display()))?;
    let home = run.arena.cgroup("agent")?;
    let mut pair = traffic::Pair::start(&run.cpus, run.cpus.two(), &cgroup)?;
    let mut rates = Rates::default();
    let clock = Clock::choose(|| pair.send_packets(1_000))?;
    for round in 0..run.rounds {
        progress("P3", round, run.rounds);
        for turn in 0..4 {
            match (turn + round) % 4 {
                0 => rates.off.push(best(&mut pair, clock)?),
                1 => {
                    let programs = &mut run.programs;
                    let _egress = programs.attach_to_cgroup("empty_egress", &directory, CgroupSkbAttachType::Egress)?;
                    let _ingress =
                        programs.attach_to_cgroup("empty_ingress", &directory, CgroupSkbAttachType::Ingress)?;
                    rates.empty.push(best(&mut pair, clock)?);
                }
                2 => {
                    let _sent = run.programs.attach("sent_empty")?;
                    let _received = run.programs.attach("received_empty")?;
                    rates.traced.push(best(&mut pair, clock)?);
                }
                _ => {
                    let agent = Agent::start_ready(&run.observer, &home, None)?;
                    rates.agent.push(best(&mut pair, clock)?);
                    agent.stop()?;
                }
            }
        }
    }
    drop(pair);
    run.report.rows.push(row(&rates));
    Ok(())
}

/// Packets per second.
fn best(pair: &mut traffic::Pair, clock: Clock) -> Result<f64> {
    let mut best = 0.0f64;
    for _ in 0..RUNS {
        let nanoseconds = pair.send_packets(PACKETS)?.by_clock(clock);
        best = best.max(f64::from(PACKETS) / nanoseconds * 1e9);
    }
    Ok(best)
}

/// Percent fewer than without: by the best round of each, and by the median of the rounds' own ratios.
fn loss(on: &Rounds, off: &Rounds) -> Option<Pair> {
    let ratios: Rounds = on.0.iter().zip(&off.0).map(|(on, off)| on / off).collect();
    let percent = |ratio: f64| (1.0 - ratio) * 100.0;
    ratios.both().map(|ratio| Pair { min: percent(on.max() / off.max()), median: percent(ratio.median) })
}

fn row(rates: &Rates) -> Row {
    let Rates { off, empty, traced, agent } = rates;
    let ours = loss(agent, off);
    let others = [("empty program, both directions", empty), ("empty programs at two tracepoints", traced)];
    Row {
        id: "P3",
        measure: "percent fewer UDP packets of 64 B per second, everything on".into(),
        ours,
        others: others.into_iter().filter_map(|(name, rounds)| Some((name.into(), loss(rounds, off)?))).collect(),
        compared: None,
        goal: "<= 2 %".into(),
        verdict: Verdict::at_most(ours, 2.0),
        note: Some(format!("without any program {:.0} packets per second at best", off.max())),
        rounds: BTreeMap::from([
            ("off".into(), off.clone()),
            ("empty program".into(), empty.clone()),
            ("empty programs at two tracepoints".into(), traced.clone()),
            ("observer".into(), agent.clone()),
        ]),
    }
}
