//! P1: what a context switch costs more with a run-queue sampler attached.
//!
//! Two processes pass a byte to and fro over two pipes, both on one CPU: every hand-over is two switches and a wakeup
//! before each, and nothing else happens. Time is the CPU time of the two, which the scheduler charges with the switch
//! and with the programs on it, and which a neighbour on the same CPU does not lengthen; switches are counted by the
//! scheduler too. `perf bench sched pipe` does the same and tells wall time over an assumed number of switches.

use crate::{
    cpu::{schedstat, thread_ns},
    programs::{Attached, Programs},
    report::{Compared, Row, Verdict},
    run::{Run, progress},
    statistics::{Pair, Rounds},
    worker::Worker,
};
use anyhow::{Result, ensure};
use observer::kernel::program;

/// A variant: its name and its programs, the one on `sched_switch` last.
struct Variant {
    name: &'static str,
    programs: &'static [&'static str],
    total: Rounds,
    body: Rounds,
    /// Why it cannot run on this kernel.
    missing: Option<String>,
}

const OFF: usize = 0;
const EMPTY: usize = 1;
const OURS: usize = 2;
const CGROUP_HASH: usize = 3;
const PID_ARRAY: usize = 4;

fn variants() -> Vec<Variant> {
    let variant =
        |name, programs| Variant { name, programs, total: Rounds::default(), body: Rounds::default(), missing: None };
    vec![
        variant("off", &[]),
        variant("empty program", &["switch_empty"]),
        variant("observer", &[program::MIGRATE, program::SWITCH]),
        variant("one hook, hash by cgroup id", &["switch_cgroup_hash"]),
        variant("three hooks, array by pid", &["array_wakeup", "array_wakeup_new", "array_switch"]),
        variant("three hooks, hash by pid", &["hash_wakeup", "hash_wakeup_new", "hash_switch"]),
        variant("observer without the causes of waits", &["plain:observer_switch"]),
    ]
}

/// Measures, and adds two rows: the whole cost, and the program's body alone.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let mut variants = variants();
    variants[OURS].missing = run.programs.missing(program::SWITCH);
    run.cpus.pin()?;
    let mut peer = Worker::start(&["pong"], None)?;
    peer.ping_pong(1_000)?;
    for round in 0..run.rounds {
        progress("P1", round, run.rounds);
        run.programs.reload()?;
        for at in 0..variants.len() {
            let at = (at + round) % variants.len();
            let variant = &mut variants[at];
            if variant.missing.is_none() {
                variant.total.push(total(&mut run.programs, &mut peer, variant)?);
            }
        }
        let statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime)?;
        for variant in variants.iter_mut().filter(|variant| !variant.programs.is_empty() && variant.missing.is_none()) {
            variant.body.push(body(&mut run.programs, &mut peer, variant)?);
        }
        drop(statistics);
    }
    run.cpus.unpin()?;
    run.report.rows.extend([total_row(&variants), body_row(&variants)]);
    Ok(())
}

/// Hand-overs in one run: some 20 ms, so that most runs are not disturbed.
const HAND_OVERS: u32 = 5_000;
/// Runs per round, of which the smallest counts.
const RUNS: usize = 5;

fn attach(programs: &mut Programs, variant: &Variant) -> Result<Vec<Attached>> {
    variant.programs.iter().map(|name| programs.attach(name)).collect()
}

/// Nanoseconds per switch.
fn total(programs: &mut Programs, peer: &mut Worker, variant: &Variant) -> Result<f64> {
    let attached = attach(programs, variant)?;
    peer.ping_pong(HAND_OVERS / 10)?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let before = used(peer)?;
        peer.ping_pong(HAND_OVERS)?;
        let after = used(peer)?;
        let switches = after.1 - before.1;
        ensure!(switches >= u64::from(HAND_OVERS) * 2, "{switches} switches for {HAND_OVERS} hand-overs");
        best = best.min((after.0 - before.0) as f64 / switches as f64);
    }
    drop(attached);
    Ok(best)
}

/// CPU time of both, and how often either came onto a CPU.
fn used(peer: &Worker) -> Result<(u64, u64)> {
    let (own, other) = (schedstat(std::process::id())?, schedstat(peer.pid())?);
    Ok((thread_ns()? + other.run_ns, own.switches_in + other.switches_in))
}

/// Nanoseconds in the variant's programs per switch, by the kernel's statistics, which include two reads of the clock
/// per run and leave out the way into the program.
fn body(programs: &mut Programs, peer: &mut Worker, variant: &Variant) -> Result<f64> {
    let attached = attach(programs, variant)?;
    let before = variant.programs.iter().map(|name| programs.run_time(name)).collect::<Result<Vec<_>>>()?;
    peer.ping_pong(HAND_OVERS * 4)?;
    let (mut nanoseconds, mut switches) = (0, 0);
    for (name, before) in variant.programs.iter().zip(before) {
        let after = programs.run_time(name)?;
        nanoseconds += after.nanoseconds - before.nanoseconds;
        switches = after.runs - before.runs;
    }
    drop(attached);
    ensure!(switches > 0, "the kernel's statistics did not count");
    Ok(nanoseconds as f64 / switches as f64)
}

fn total_row(variants: &[Variant]) -> Row {
    let off = &variants[OFF].total;
    let added = |variant: &Variant| variant.total.over(off);
    let compared = ratio(added(&variants[OURS]), added(&variants[PID_ARRAY]));
    Row {
        id: "P1",
        measure: "ns added per context switch".into(),
        ours: added(&variants[OURS]),
        others: others(variants, added),
        compared: compared.map(Compared::Ratio),
        goal: "<= 0.5 x three hooks, array by pid".into(),
        verdict: Verdict::at_most(compared, 0.5),
        note: Some(format!(
            "without any program a switch takes {:.0} / {:.0} ns (min / median) here; a real Rezolus sampler is not run by this benchmark",
            off.min(),
            off.median()
        )),
        rounds: variants.iter().map(|variant| (variant.name.to_owned(), variant.total.clone())).collect(),
    }
}

fn body_row(variants: &[Variant]) -> Row {
    let over = |variant: &Variant| variant.body.over(&variants[EMPTY].body);
    let compared = ratio(over(&variants[OURS]), over(&variants[CGROUP_HASH]));
    Row {
        id: "P1",
        measure: "ns in the programs per switch, over the empty program".into(),
        ours: over(&variants[OURS]),
        others: others(variants, over).split_off(1),
        compared: compared.map(Compared::Ratio),
        goal: "<= 0.6 x one hook, hash by cgroup id".into(),
        verdict: Verdict::at_most(compared, 0.6),
        note: variants[OURS].missing.clone(),
        rounds: variants.iter().map(|variant| (variant.name.to_owned(), variant.body.clone())).collect(),
    }
}

fn others(variants: &[Variant], figure: impl Fn(&Variant) -> Option<Pair>) -> Vec<(String, Pair)> {
    let held_against = variants.iter().enumerate().filter(|(at, _)| *at != OFF && *at != OURS);
    held_against.filter_map(|(_, variant)| Some((variant.name.to_owned(), figure(variant)?))).collect()
}

fn ratio(ours: Option<Pair>, other: Option<Pair>) -> Option<Pair> {
    Some(ours?.ratio(other?))
}
