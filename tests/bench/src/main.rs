//! What observer costs, beside an empty program and the shapes others use, in one run: `cargo xtask bench`.
//!
//! A file for each goal, P1 to P11; [`run::Run`] is what they share. The table says whether a goal is met; the exit code
//! never does, because a clock on a busy machine proves nothing.

mod agent;
mod api_pods;
mod api_server;
mod arena;
mod connections;
mod cpu;
mod heap;
mod machine;
mod memory;
mod naming;
mod p10_pod_changes;
mod p11_flows;
mod p1_switch;
mod p2_packet;
mod p3_packet_rate;
mod p4_throughput;
mod p5_scrape;
mod p6_own_cpu;
mod p7_memory;
mod p8_start;
mod p9_pod_list;
mod programs;
mod report;
mod run;
mod scrape;
mod statistics;
mod tenants;
mod traffic;
mod worker;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use run::Run;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Measures observer on this machine. Needs root.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    worker: Option<Hidden>,
    /// Only these goals, for instance P1,P2.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    only: Vec<String>,
    /// Rounds of each variant.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where the rounds and the machine's facts are written.
    #[arg(long, default_value = "target/bench.json", value_name = "FILE")]
    json: PathBuf,
    /// The agent.
    #[arg(long, env = "OBSERVER_BIN", default_value = "target/release/observer", value_name = "FILE")]
    observer: PathBuf,
    /// The directory of the eBPF objects.
    #[arg(long, default_value = "target/ebpf", value_name = "DIRECTORY")]
    objects: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// A process that a measurement needs.
    #[command(hide = true)]
    Worker {
        /// The cgroup to join.
        #[arg(long)]
        cgroup: Option<PathBuf>,
        #[command(subcommand)]
        role: worker::Role,
    },
}

/// A goal's name and its measurement.
type Measurement = (&'static str, fn(&mut Run) -> Result<()>);

const MEASUREMENTS: [Measurement; 11] = [
    ("P1", p1_switch::measure),
    ("P2", p2_packet::measure),
    ("P3", p3_packet_rate::measure),
    ("P4", p4_throughput::measure),
    ("P5", p5_scrape::measure),
    ("P6", p6_own_cpu::measure),
    ("P7", p7_memory::measure),
    ("P8", p8_start::measure),
    ("P9", p9_pod_list::measure),
    ("P10", p10_pod_changes::measure),
    ("P11", p11_flows::measure),
];

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("observer-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    if let Some(Hidden::Worker { cgroup, role }) = arguments.worker {
        return role.run(cgroup.as_deref());
    }
    let wanted = wanted(&arguments.only)?;
    let arena = arena::Arena::new()?;
    arena.clear_on_signals()?;
    let mut run = Run {
        arena,
        cpus: cpu::Cpus::read()?,
        rounds: arguments.rounds.into(),
        observer: arguments.observer,
        report: report::Report::new(machine::Machine::read()),
        programs: programs::Programs::load(&arguments.objects)?,
    };
    let mut failed = Vec::new();
    for (id, measure) in wanted {
        if let Err(error) = measure(&mut run) {
            run.report.rows.push(report::Row::failed(id, format!("{error:#}")));
            failed.push(id);
        }
    }
    println!("{}", run.report.table());
    write(&run.report, &arguments.json)?;
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
}

fn write(report: &report::Report, path: &Path) -> Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let json = serde_json::to_vec_pretty(report)?;
    std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
    eprintln!("every round is in {}", path.display());
    Ok(())
}

fn wanted(only: &[String]) -> Result<Vec<Measurement>> {
    let known = |id: &String| MEASUREMENTS.iter().any(|(name, _)| name.eq_ignore_ascii_case(id));
    if let Some(unknown) = only.iter().find(|id| !known(id)) {
        let names: Vec<_> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
        bail!("--only {unknown}: there is no such measurement; there are {}", names.join(", "));
    }
    let chosen = |name: &str| only.is_empty() || only.iter().any(|id| id.eq_ignore_ascii_case(name));
    Ok(MEASUREMENTS.into_iter().filter(|(name, _)| chosen(name)).collect())
}
