//! P2: what a packet costs more, in each direction, with a byte counter attached to its cgroup.
//!
//! Two views. The bodies alone: `BPF_PROG_TEST_RUN` runs each program a million times on a packet that has a socket, as
//! the kernel makes one for this. And end to end: UDP of 64 bytes on a loopback, in a cgroup and a network namespace of
//! its own, each packet passing the hook of the sender and the hook of the receiver. The receiver's buffer is full, so
//! that no wakeup and no copy is part of it.

use crate::{
    cpu::{Clock, Taken, thread_ns},
    programs::{Attached, Programs},
    report::{Compared, Row, Verdict},
    run::{Run, progress},
    statistics::Rounds,
    worker::Worker,
};
use anyhow::{Context as _, Result};
use aya::programs::CgroupSkbAttachType;
use observer::kernel::program;
use std::{collections::BTreeMap, fs::File};

/// A variant: its name and its programs by direction.
struct Variant {
    name: &'static str,
    programs: Option<[&'static str; 2]>,
    /// Bodies by direction, then end to end.
    egress: Rounds,
    ingress: Rounds,
    packet: Rounds,
    /// Why it cannot run on this kernel.
    missing: Option<String>,
}

const OFF: usize = 0;
const EMPTY: usize = 1;
const OURS: usize = 2;
const HASH: usize = 3;

fn variants() -> Vec<Variant> {
    let variant = |name, programs| Variant {
        name,
        programs,
        egress: Rounds::default(),
        ingress: Rounds::default(),
        packet: Rounds::default(),
        missing: None,
    };
    vec![
        variant("off", None),
        variant("empty program", Some(["empty_egress", "empty_ingress"])),
        variant("observer", Some([program::EGRESS, program::INGRESS])),
        variant("per-CPU hash by cgroup id", Some(["percpu_hash_egress", "percpu_hash_ingress"])),
        variant("hash by cgroup id and scope, atomics", Some(["scope_hash_egress", "scope_hash_ingress"])),
        variant("LRU flow table", Some(["flow_table_egress", "flow_table_ingress"])),
        variant("an atomic addition, nobody's", Some(["atomic_addition_egress", "atomic_addition_ingress"])),
    ]
}

/// Measures, and adds a row for each direction's body and one for the whole way.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let mut variants = variants();
    variants[OURS].missing = [program::EGRESS, program::INGRESS].iter().find_map(|name| run.programs.missing(name));
    let cgroup = run.arena.cgroup("p2")?;
    let directory = File::open(&*cgroup).with_context(|| format!("open {}", cgroup.display()))?;
    run.cpus.pin()?;
    let mut flood = Worker::start(&["flood"], Some(&cgroup))?;
    let clock = Clock::choose(|| burst(&mut flood, 1_000))?;
    let frame = frame();
    for round in 0..run.rounds {
        progress("P2", round, run.rounds);
        run.programs.reload()?;
        for at in 0..variants.len() {
            let at = (at + round) % variants.len();
            let variant = &mut variants[at];
            if variant.missing.is_some() {
                continue;
            }
            if let Some([egress, ingress]) = variant.programs {
                variant.egress.push(body(&mut run.programs, egress, &frame)?);
                variant.ingress.push(body(&mut run.programs, ingress, &frame)?);
            }
            let attached = attach(&mut run.programs, variant, &directory)?;
            variant.packet.push(whole_way(&mut flood, clock)?);
            drop(attached);
        }
    }
    run.cpus.unpin()?;
    drop(flood);
    run.report.rows.extend([
        row(&variants, "ns per packet sent, over the empty program (body)", |variant| &variant.egress),
        row(&variants, "ns per packet received, over the empty program (body)", |variant| &variant.ingress),
        row(&variants, "ns added per packet, both directions, over the empty program", |variant| &variant.packet),
    ]);
    run.report.rows.push(added(&variants));
    Ok(())
}

fn attach(programs: &mut Programs, variant: &Variant, cgroup: &File) -> Result<Option<[Attached; 2]>> {
    let Some([egress, ingress]) = variant.programs else { return Ok(None) };
    Ok(Some([
        programs.attach_to_cgroup(egress, cgroup, CgroupSkbAttachType::Egress)?,
        programs.attach_to_cgroup(ingress, cgroup, CgroupSkbAttachType::Ingress)?,
    ]))
}

/// Runs of a program's body: some 20 ms.
const BODIES: u32 = 500_000;
/// Packets in one run: some 5 ms, so that most runs are not disturbed.
const PACKETS: u32 = 5_000;
/// Runs per round, of which the smallest counts.
const RUNS: usize = 5;

/// Nanoseconds per run of a program, by this thread's CPU clock: the kernel's own answer is cut to whole nanoseconds.
fn body(programs: &mut Programs, name: &str, frame: &[u8]) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let before = thread_ns()?;
        programs.test_run(name, frame, BODIES / RUNS as u32)?;
        best = best.min((thread_ns()? - before) as f64 / f64::from(BODIES / RUNS as u32));
    }
    Ok(best)
}

/// Nanoseconds per packet.
fn whole_way(flood: &mut Worker, clock: Clock) -> Result<f64> {
    burst(flood, 500)?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        best = best.min(burst(flood, PACKETS)?.by_clock(clock) / f64::from(PACKETS));
    }
    Ok(best)
}

fn burst(flood: &mut Worker, packets: u32) -> Result<Taken> {
    flood.ask(&packets.to_string())?.parse()
}

/// An Ethernet frame with a UDP datagram of 64 bytes from 127.0.0.1 to itself; test runs want the frame, the program
/// sees the packet.
fn frame() -> Vec<u8> {
    const PAYLOAD: u8 = 64;
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 20 + 8 + PAYLOAD, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    frame.extend([0x30, 0x39, 0x30, 0x39, 0, 8 + PAYLOAD, 0, 0]);
    frame.extend([0; PAYLOAD as usize]);
    frame
}

fn row(variants: &[Variant], measure: &str, pick: fn(&Variant) -> &Rounds) -> Row {
    let over = |variant: &Variant| pick(variant).over(pick(&variants[EMPTY]));
    let (ours, hash) = (over(&variants[OURS]), over(&variants[HASH]));
    let compared = ours.zip(hash).map(|(ours, hash)| ours.ratio(hash));
    let others = variants[HASH..].iter().filter_map(|variant| Some((variant.name.to_owned(), over(variant)?)));
    Row {
        id: "P2",
        measure: measure.into(),
        ours,
        others: others.collect(),
        compared: compared.map(Compared::Ratio),
        goal: "<= 0.5 x per-CPU hash by cgroup id".into(),
        verdict: Verdict::at_most(compared, 0.5),
        note: variants[OURS].missing.clone(),
        rounds: variants.iter().map(|variant| (variant.name.to_owned(), pick(variant).clone())).collect(),
    }
}

/// The whole cost of being attached, which the empty program shares: for the reader, not for the goal.
fn added(variants: &[Variant]) -> Row {
    let off = &variants[OFF].packet;
    let added = |variant: &Variant| variant.packet.over(off);
    let others = variants.iter().enumerate().filter(|(at, _)| *at != OFF && *at != OURS);
    Row {
        id: "P2",
        measure: "ns added per packet, both directions, over no program".into(),
        ours: added(&variants[OURS]),
        others: others.filter_map(|(_, variant)| Some((variant.name.to_owned(), added(variant)?))).collect(),
        compared: None,
        goal: "(the price of any program is in it)".into(),
        verdict: Verdict::Shown,
        note: Some(format!(
            "without any program a packet takes {:.0} / {:.0} ns (min / median) here",
            off.min(),
            off.median()
        )),
        rounds: BTreeMap::new(),
    }
}
