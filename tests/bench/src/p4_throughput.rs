//! P4: what a bulk TCP transfer loses to the agent.
//!
//! As iperf3 does it, without needing it: writes of 128 KiB from one network namespace to another over a veth pair, until
//! the receiver has read the last byte. Two views, in turns with nothing attached, with the empty programs, and with the
//! real agent, the order rotating. As iperf3 tells it: both ends on CPUs of their own, by the wall clock; the figure is
//! the mean ratio of the pairs with its 95 % interval. And what it costs: both ends on one CPU, by the CPU time of the
//! two, so that all the work of both hosts counts and nothing hides behind a CPU that would have been idle.

use crate::{
    agent::Agent,
    arena::Cgroup,
    cpu::Clock,
    programs::{Attached, Programs},
    report::{Compared, Row, Verdict},
    run::{Run, progress},
    statistics::{Interval, Pair, Rounds, ratio_interval},
    traffic,
};
use anyhow::{Context as _, Result};
use aya::programs::CgroupSkbAttachType;
use std::{collections::BTreeMap, fs::File};

/// Size of one transfer: some 30 to 100 ms. A turn takes the best of some.
const MEBIBYTES: u32 = 64;
const RUNS: usize = 8;
/// Fewer pairs make no interval worth having.
const PAIRS: usize = 30;

/// Bytes per second, in the rounds of each variant.
#[derive(Default)]
struct Rates {
    off: Rounds,
    empty: Rounds,
    agent: Rounds,
}

/// A veth pair and the clock its transfers are taken by.
struct Link {
    pair: traffic::Pair,
    clock: Clock,
}

/// Measures, and adds two rows.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let cgroup = run.arena.cgroup("p4")?;
    let home = run.arena.cgroup("agent")?;
    let (one, other) = run.cpus.two();
    let mut shared = traffic::Pair::start(&run.cpus, (one, one), &cgroup)?;
    // Whose time softirqs are charged to can be told from UDP, whose sender never waits.
    let clock = Clock::choose(|| shared.send_packets(1_000))?;
    let apart = traffic::Pair::start(&run.cpus, (one, other), &cgroup)?;
    let mut links = [Link { pair: apart, clock: Clock::Wall }, Link { pair: shared, clock }];
    let mut rates = [Rates::default(), Rates::default()];
    let pairs = run.rounds.max(PAIRS);
    for round in 0..pairs {
        progress("P4", round, pairs);
        for turn in 0..3 {
            let variant = (turn + round) % 3;
            let empty = if variant == 1 { Some(attach_empty(&mut run.programs, &cgroup)?) } else { None };
            let agent = if variant == 2 { Some(Agent::start_ready(&run.observer, &home, None)?) } else { None };
            for (link, rates) in links.iter_mut().zip(&mut rates) {
                let rounds = [&mut rates.off, &mut rates.empty, &mut rates.agent];
                rounds.into_iter().nth(variant).expect("three variants").push(best(link)?);
            }
            drop(empty);
            agent.map(Agent::stop).transpose()?;
        }
    }
    let [apart, shared] = &rates;
    run.report.rows.extend([throughput_row(apart), cost_row(shared)]);
    Ok(())
}

/// The empty program wherever observer has one on the way of a transfer.
fn attach_empty(programs: &mut Programs, cgroup: &Cgroup) -> Result<[Attached; 3]> {
    let directory = File::open(&**cgroup).with_context(|| format!("open {}", cgroup.display()))?;
    Ok([
        programs.attach_to_cgroup("empty_egress", &directory, CgroupSkbAttachType::Egress)?,
        programs.attach_to_cgroup("empty_ingress", &directory, CgroupSkbAttachType::Ingress)?,
        programs.attach("switch_empty")?,
    ])
}

/// Bytes per second.
fn best(link: &mut Link) -> Result<f64> {
    let mut best = 0.0f64;
    for _ in 0..RUNS {
        let nanoseconds = link.pair.send_mebibytes(MEBIBYTES)?.by_clock(link.clock);
        best = best.max(f64::from(MEBIBYTES) * 1024.0 * 1024.0 / nanoseconds * 1e9);
    }
    Ok(best)
}

/// With something attached as a ratio of without: by the best round of each, and by the median of the rounds' ratios.
fn ratio(on: &Rounds, off: &Rounds) -> Option<Pair> {
    let ratios: Rounds = on.0.iter().zip(&off.0).map(|(on, off)| on / off).collect();
    ratios.both().map(|pair| Pair { min: on.max() / off.max(), ..pair })
}

fn throughput_row(rates: &Rates) -> Row {
    let Rates { off, empty, agent } = rates;
    let interval = ratio_interval(agent, off);
    let gigabits = |rounds: &Rounds| rounds.median() * 8e-9;
    Row {
        id: "P4",
        measure: "TCP throughput over veth as a ratio of without".into(),
        ours: ratio(agent, off),
        others: ratio(empty, off).into_iter().map(|pair| ("empty programs".into(), pair)).collect(),
        compared: interval.map(Compared::Interval),
        goal: "95 % interval inside 0.99..1.01".into(),
        verdict: Verdict::within(interval, 0.01),
        note: Some(format!(
            "{} pairs; medians {:.1} Gbit/s with and {:.1} Gbit/s without; mean ratio {}, of empty programs {}",
            agent.0.len(),
            gigabits(agent),
            gigabits(off),
            told(interval),
            told(ratio_interval(empty, off))
        )),
        rounds: rounds(rates),
    }
}

/// A mean ratio with its 95 % interval.
fn told(interval: Option<Interval>) -> String {
    interval.map_or("unknown".into(), |Interval { low, mean, high }| format!("{mean:.4} ({low:.4}..{high:.4})"))
}

fn cost_row(rates: &Rates) -> Row {
    let percent = |on: &Rounds| {
        ratio(on, &rates.off)
            .map(|Pair { min, median }| Pair { min: (1.0 / min - 1.0) * 100.0, median: (1.0 / median - 1.0) * 100.0 })
    };
    Row {
        id: "P4",
        measure: "percent more CPU time per byte, the work of both ends".into(),
        ours: percent(&rates.agent),
        others: percent(&rates.empty).into_iter().map(|pair| ("empty programs".into(), pair)).collect(),
        compared: None,
        goal: "(the price of any program is in it)".into(),
        verdict: Verdict::Shown,
        note: None,
        rounds: rounds(rates),
    }
}

fn rounds(rates: &Rates) -> BTreeMap<String, Rounds> {
    let Rates { off, empty, agent } = rates;
    BTreeMap::from([
        ("off".into(), off.clone()),
        ("empty programs".into(), empty.clone()),
        ("observer".into(), agent.clone()),
    ])
}
