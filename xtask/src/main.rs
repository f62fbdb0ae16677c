//! `cargo xtask`: sets up, builds, runs, tests and measures observer.

mod bench;
mod build;
mod cluster;
mod deploy;
mod driven;
mod go;
mod guest;
mod image;
mod page;
mod progress;
mod run;
mod setup;
mod test;
mod toolchain;
mod workspace;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use setup::{Outcome, Purpose, SetupArgs};
use std::{ffi::OsString, process::ExitCode};
use toolchain::Pair;
use workspace::{Profile, Workspace};

const EXAMPLES: &str = "\
Examples:
  cargo xtask run                            who sends, who waits; Ctrl-C ends it
  cargo xtask run --no-install               only list what is missing here
  cargo xtask run -- --max-cgroups 512       more for the agent
  cargo xtask test --level unit              only the unit tests
  cargo xtask test --level live -- veth      live tests with `veth` in their names
  cargo xtask bench -- --only P1,P2
  cargo xtask deploy --render                deploy/observer.yaml, after a change of the chart";

/// Sets up, builds, runs, tests and measures observer.
///
/// Two commands are all a newcomer needs: `cargo xtask run` and `cargo xtask test`. Each first lists what is missing on this
/// machine, installs it, and does its work; a second run finds nothing missing. Root is needed for apt and for the
/// agent, and taken through sudo when this is not root. Everything that is built is under target/.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build everything and start the agent in the foreground: metrics, and a summary every five seconds.
    Run {
        #[command(flatten)]
        setup: SetupArgs,
        /// More for the agent: `cargo xtask run -- --metrics-listen 127.0.0.1:9999`.
        #[arg(last = true, value_name = "AGENT-ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Build the eBPF object (target/ebpf/observer.bpf.o) and the agent (target/release/observer).
    Build {
        #[command(flatten)]
        setup: SetupArgs,
        /// How the agent is built.
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
        /// For work on the kernel programs: they log a few lines, which the agent shows with `RUST_LOG=debug`.
        #[arg(long)]
        kernel_log: bool,
    },
    /// Run every test, from the format of the code to the agent on several kernels, and end with `N passed, N failed`.
    Test(test::TestArgs),
    /// Measure what observer costs beside an empty program and the shapes others use.
    Bench {
        #[command(flatten)]
        setup: SetupArgs,
        /// For the benchmark: `cargo xtask bench --only P1,P2`; `cargo xtask bench -- --help` lists them. `--only L1` is the load average
        /// over ten minutes, for half an hour.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "BENCH-ARGUMENT")]
        arguments: Vec<String>,
    },
    /// Install all that the other commands need, and do nothing else.
    Setup {
        #[command(flatten)]
        setup: SetupArgs,
    },
    Guest(guest::command::GuestArgs),
    /// Write an image of the agent for container runtimes, target/image/observer.tar, without a container engine.
    ///
    /// It is a static binary and nothing else, and the same for the same commit, to the byte. It loads with
    /// `ctr images import`, `docker load` and `kind load image-archive`.
    Image {
        #[command(flatten)]
        setup: SetupArgs,
        #[command(flatten)]
        image: image::ImageArgs,
    },
    Cluster(cluster::command::ClusterArgs),
    /// Write deploy/observer.yaml, or compare it with the chart that it is made of.
    Deploy {
        #[command(flatten)]
        setup: SetupArgs,
        #[command(flatten)]
        action: deploy::Action,
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::this();
    match task {
        Task::Run { setup, arguments } => after_setup(&workspace, &[Purpose::Build], &setup, |pair| {
            run::run(&workspace, &complete(pair)?, &arguments)?;
            Ok(ExitCode::SUCCESS)
        }),
        Task::Build { setup, profile, kernel_log } => after_setup(&workspace, &[Purpose::Build], &setup, |pair| {
            let (programs, features): (_, &[&str]) =
                if kernel_log { (build::LOGGING_PROGRAMS, &["observer/kernel-log"]) } else { (build::PROGRAMS, &[]) };
            build::embedded(&workspace, &complete(pair)?, programs)?;
            build::host_with(&workspace, profile, &["observer"], features)?;
            println!("build: {}", workspace.binary(profile, "observer").display());
            Ok(ExitCode::SUCCESS)
        }),
        Task::Test(args) => {
            after_setup(&workspace, &args.purposes(), &args.setup, |pair| test::run(&workspace, pair.as_ref(), &args))
        }
        Task::Bench { setup, arguments } => {
            let tools = if bench::is_load(&arguments)? { Purpose::Live } else { Purpose::Bench };
            after_setup(&workspace, &[Purpose::Build, tools], &setup, |pair| {
                bench::run(&workspace, &complete(pair)?, &arguments)?;
                Ok(ExitCode::SUCCESS)
            })
        }
        Task::Setup { setup } => after_setup(&workspace, &Purpose::ALL, &setup, |_| Ok(ExitCode::SUCCESS)),
        Task::Guest(args) => args.run(&workspace),
        Task::Image { setup, image } => after_setup(&workspace, &[Purpose::Build], &setup, |pair| {
            image::run(&workspace, &complete(pair)?, image)?;
            Ok(ExitCode::SUCCESS)
        }),
        Task::Deploy { setup, action } => {
            after_setup(&workspace, &[Purpose::Deploy], &setup, |_| deploy::run(&workspace, &action))
        }
        Task::Cluster(args) => match args.setup().cloned() {
            Some(setup) => after_setup(&workspace, &[Purpose::Cluster], &setup, |_| args.run(&workspace)),
            None => args.run(&workspace),
        },
    }
}

/// Sets up and goes on, unless only a list was asked for.
fn after_setup(
    workspace: &Workspace,
    purposes: &[Purpose],
    args: &SetupArgs,
    work: impl FnOnce(Option<Pair>) -> Result<ExitCode>,
) -> Result<ExitCode> {
    match setup::prepare(workspace, purposes, args)? {
        Outcome::Ready(pair) => work(pair),
        Outcome::Listed(nothing_missing) => Ok(if nothing_missing { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

/// The eBPF tool-chain of a set-up for [`Purpose::Build`].
fn complete(pair: Option<Pair>) -> Result<Pair> {
    pair.context("the set-up found no eBPF tool-chain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_benchmark_needs_no_dashes_before_it() {
        for words in [&["--only", "P1,P2"][..], &["--rounds", "30", "--json", "FILE"]] {
            let line = [&["xtask", "bench", "--no-install"][..], words].concat();
            let Task::Bench { setup, arguments } = Arguments::try_parse_from(line).unwrap().task else {
                unreachable!()
            };
            assert!(setup.no_install);
            assert_eq!(arguments, words);
        }
    }
}
