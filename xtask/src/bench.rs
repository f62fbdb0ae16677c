//! `cargo xtask bench`: builds what is measured and what measures, and becomes the latter. L1, the load of ten minutes, is measured by
//! tests of the agent on this kernel.

use crate::{
    build,
    setup::privilege::Privilege,
    toolchain::Pair,
    workspace::{Profile, Workspace},
};
use anyhow::{Context, Result, ensure};
use std::{os::unix::process::CommandExt as _, path::Path};

/// Builds and becomes the benchmark, as root. Returns only when that fails, or when the load was measured.
///
/// # Errors
/// When a build fails, the benchmark cannot be started, root is not to be had, or the load misses its goal.
pub(crate) fn run(workspace: &Workspace, pair: &Pair, arguments: &[String]) -> Result<()> {
    build::embedded(workspace, pair, build::PROGRAMS)?;
    build::object(workspace, pair, build::SHAPES)?;
    build::host(workspace, Profile::Release, &["observer"])?;
    let agent = workspace.binary(Profile::Release, "observer");
    if is_load(arguments)? {
        return load(workspace, &agent);
    }
    build::host(workspace, Profile::Release, &["observer-bench"])?;
    let bench = workspace.binary(Profile::Release, "observer-bench");
    let agent = format!("OBSERVER_BIN={}", agent.display());
    let bench = bench.to_string_lossy();
    let words: Vec<_> = ["env", &agent, &bench].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let privilege = Privilege::of_this_process();
    if privilege == Privilege::Sudo {
        println!("bench: not root, so it runs through sudo");
    }
    let mut command = privilege.command(&words)?;
    Err(command.current_dir(workspace.root()).exec()).with_context(|| format!("start {bench}"))
}

/// The goal that is measured on its own.
const LOAD: &str = "L1";
/// The tests that measure it, some twenty and some eleven minutes each.
const LOAD_TESTS: [&str; 2] = [
    "after_mixed_loads_the_sum_of_the_shares_is_the_kernels_and_nothing_is_left",
    "a_look_at_proc_a_hundred_times_a_second_finds_as_many_active_tasks",
];

/// Whether the arguments name that goal.
///
/// # Errors
/// When they name others beside it, or anything else.
pub(crate) fn is_load(arguments: &[String]) -> Result<bool> {
    let words: Vec<_> = arguments.iter().flat_map(|word| word.split([',', '='])).collect();
    let named = words.contains(&LOAD);
    ensure!(!named || words == ["--only", LOAD], "{LOAD} takes half an hour and is measured alone: --only {LOAD}");
    Ok(named)
}

fn load(workspace: &Workspace, agent: &Path) -> Result<()> {
    build::host(workspace, Profile::TestRelease, &["observer-live"])?;
    let harness = workspace.binary(Profile::TestRelease, "observer-live");
    let (agent, harness) = (format!("OBSERVER_BIN={}", agent.display()), harness.to_string_lossy());
    for test in LOAD_TESTS {
        let words = ["env", &agent, "OBSERVER_LONG=1", &harness, test, "--nocapture"];
        let mut command = Privilege::of_this_process().command(&words)?;
        let status = command.current_dir(workspace.root()).status().with_context(|| format!("start {harness}"))?;
        ensure!(status.success(), "{test}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_measured_by_tests_that_there_are() {
        let tests = include_str!("../../tests/live/src/scenarios/mixes.rs");
        for name in LOAD_TESTS {
            assert!(tests.contains(&format!("\"{name}\"")), "{name}");
        }
    }

    #[test]
    fn the_load_is_measured_alone() {
        let is_load = |words: &[&str]| is_load(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert!(is_load(&["--only", "L1"]).unwrap() && is_load(&["--only=L1"]).unwrap());
        assert!(!is_load(&["--only", "P1,P2"]).unwrap() && !is_load(&[]).unwrap());
        assert!(is_load(&["--only", "P1,L1"]).is_err() && is_load(&["--only", "L1", "--rounds", "3"]).is_err());
    }
}
