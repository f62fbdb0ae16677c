//! `cargo xtask bench`: builds what is measured and what measures, and becomes the latter.

use crate::{
    build,
    setup::privilege::Privilege,
    toolchain::Pair,
    workspace::{Profile, Workspace},
};
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt as _;

/// Builds and becomes the benchmark, as root. Returns only when that fails.
///
/// # Errors
/// When a build fails, the benchmark cannot be started, or root is not to be had.
pub(crate) fn run(workspace: &Workspace, pair: &Pair, arguments: &[String]) -> Result<()> {
    build::object(workspace, pair, build::PROGRAMS)?;
    build::object(workspace, pair, build::SHAPES)?;
    build::host(workspace, Profile::Release, &["observer"])?;
    build::host(workspace, Profile::TestRelease, &["observer-bench"])?;
    let agent = workspace.binary(Profile::Release, "observer");
    let bench = workspace.binary(Profile::TestRelease, "observer-bench");
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
