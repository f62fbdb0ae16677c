//! `cargo xtask test`: the levels in their order, a table at the end, and a last line for programs to read.

mod agent;
mod ahead;
mod circumstances;
mod cluster;
mod deploy;
mod level;
pub(crate) mod skipped;
mod tally;

pub(crate) use circumstances::Circumstances;
pub(crate) use level::Level;

use crate::{
    build, progress,
    setup::{Purpose, SetupArgs},
    toolchain::Pair,
    workspace::Workspace,
};
use ahead::Ahead;
use anyhow::Result;
use std::{
    cell::Cell,
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};
use tally::Tally;

/// What is tested, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    pub(crate) setup: SetupArgs,
    /// Only this level; repeatable.
    #[arg(long = "level", value_enum, value_name = "NAME")]
    levels: Vec<Level>,
    /// The level `cluster` in this cluster, in a namespace of its own, and not in one that it brings up.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// For the test harnesses, filters and flags: `cargo xtask test --level live -- veth --nocapture`.
    #[arg(last = true, value_name = "HARNESS-ARGUMENT")]
    arguments: Vec<String>,
}

impl TestArgs {
    /// The levels that were chosen, in their order.
    fn levels(&self) -> Vec<Level> {
        let chosen = |level: &Level| self.levels.is_empty() || self.levels.contains(level);
        Level::ALL.into_iter().filter(chosen).collect()
    }

    /// What they need.
    pub(crate) fn purposes(&self) -> Vec<Purpose> {
        let purposes: BTreeSet<_> = self.levels().iter().flat_map(|level| level.purposes()).copied().collect();
        purposes.into_iter().collect()
    }
}

/// What a level runs with.
struct Context<'a> {
    workspace: &'a Workspace,
    pair: Option<&'a Pair>,
    kubeconfig: Option<&'a Path>,
    arguments: &'a [String],
    circumstances: Circumstances,
    /// What is built meanwhile, for whoever needs it.
    ahead: Cell<Option<Ahead>>,
}

/// A level that ran.
struct Ran {
    level: Level,
    tally: Tally,
    elapsed: Duration,
}

/// Runs the chosen levels, every one whatever became of those before. Failure when a test failed.
///
/// # Errors
/// When the eBPF object does not build, without which the levels that need it mean nothing.
pub(crate) fn run(workspace: &Workspace, pair: Option<&Pair>, args: &TestArgs) -> Result<ExitCode> {
    if let Some(pair) = pair {
        build::embedded(workspace, pair, build::PROGRAMS)?;
    }
    let circumstances = Circumstances::read(|name| std::env::var_os(name));
    let (kubeconfig, arguments) = (args.kubeconfig.as_deref(), args.arguments.as_slice());
    let levels = args.levels();
    let ahead = if kubeconfig.is_none() { Ahead::begin(workspace, &levels) } else { None };
    let context = Context { workspace, pair, kubeconfig, arguments, circumstances, ahead: Cell::new(ahead) };
    let ran: Vec<_> = levels.into_iter().map(|level| run_level(&context, level)).collect();
    print_skipped(&ran);
    print_failures(&ran);
    print_table(&ran);
    let failed: usize = ran.iter().map(|ran| ran.tally.failed.len()).sum();
    println!("{}", closing(&ran));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_level(context: &Context<'_>, level: Level) -> Ran {
    println!("\n{}: {}", level.name(), level.what());
    let started = Instant::now();
    let mut tally = level.run(context).unwrap_or_else(|error| Tally::one_failed(format!("{error:#}")));
    if tally.is_empty() && context.arguments.is_empty() {
        tally = Tally::one_failed("no test ran");
    }
    let elapsed = started.elapsed();
    println!("  {} in {}", counts(tally.passed, tally.failed.len(), tally.skipped.len()), progress::seconds(elapsed));
    for line in skipped::lines(&tally.skipped) {
        println!("  {line}");
    }
    for test in &tally.failed {
        println!("  FAILED: {test}");
    }
    Ran { level, tally, elapsed }
}

/// Again, since they may have scrolled away.
fn print_skipped(ran: &[Ran]) {
    for Ran { level, tally, elapsed: _ } in ran.iter().filter(|ran| !ran.tally.skipped.is_empty()) {
        println!("\nskipped in {} (one by one: target/test-logs/{0}.log):", level.name());
        for line in skipped::lines(&tally.skipped) {
            println!("  {line}");
        }
    }
}

/// Again, for the same reason.
fn print_failures(ran: &[Ran]) {
    for Ran { level, tally, elapsed: _ } in ran.iter().filter(|ran| !ran.tally.failed.is_empty()) {
        println!("\nfailed in {} (all of it: target/test-logs/{0}.log):", level.name());
        for test in &tally.failed {
            println!("  {test}");
        }
    }
}

fn print_table(ran: &[Ran]) {
    println!("\n{:<10} {:>7} {:>7} {:>8}   time", "level", "passed", "failed", "skipped");
    for Ran { level, tally, elapsed } in ran {
        let Tally { passed, failed, skipped } = tally;
        let time = progress::seconds(*elapsed);
        println!("{:<10} {passed:>7} {:>7} {:>8}   {time}", level.name(), failed.len(), skipped.len());
    }
    println!();
}

/// The last lines. The very last is for programs: exactly `N passed, N failed`; what was skipped is on one before it.
fn closing(ran: &[Ran]) -> String {
    let sum = |count: fn(&Tally) -> usize| ran.iter().map(|ran| count(&ran.tally)).sum::<usize>();
    let skipped = sum(|tally| tally.skipped.len());
    let result = counts(sum(|tally| tally.passed), sum(|tally| tally.failed.len()), 0);
    if skipped == 0 { result } else { format!("{skipped} skipped\n{result}") }
}

fn counts(passed: usize, failed: usize, skipped: usize) -> String {
    if skipped == 0 {
        format!("{passed} passed, {failed} failed")
    } else {
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skipped::Skipped;

    fn args(levels: &[Level]) -> TestArgs {
        TestArgs { setup: SetupArgs::default(), levels: levels.to_vec(), kubeconfig: None, arguments: Vec::new() }
    }

    #[test]
    fn levels_run_in_their_order_and_all_of_them_unless_told_otherwise() {
        assert_eq!(args(&[]).levels(), Level::ALL);
        assert_eq!(args(&[Level::Live, Level::Format]).levels(), [Level::Format, Level::Live]);
    }

    #[test]
    fn only_what_the_levels_need_is_set_up() {
        assert_eq!(args(&[Level::Format]).purposes(), [Purpose::Lint]);
        assert!(!args(&[Level::Unit]).purposes().contains(&Purpose::Build));
        assert!(args(&[Level::Live]).purposes().contains(&Purpose::Build));
    }

    #[test]
    fn the_last_line_sums_all_levels_and_says_nothing_of_what_was_skipped() {
        let ran = |passed, failed: &[&str], skipped: &[&str]| Ran {
            level: Level::Unit,
            tally: Tally {
                passed,
                failed: failed.iter().map(ToString::to_string).collect(),
                skipped: skipped.iter().map(|name| Skipped::test(*name, "no root")).collect(),
            },
            elapsed: Duration::ZERO,
        };
        assert_eq!(closing(&[ran(3, &[], &[]), ran(4, &[], &[])]), "7 passed, 0 failed");
        assert_eq!(closing(&[ran(3, &["a"], &[]), ran(4, &["b"], &["c"])]), "1 skipped\n7 passed, 2 failed");
    }
}
