//! Programs that cargo builds into target/tools, once.

use crate::{progress, toolchain::probe::said, workspace::Workspace};
use anyhow::{Context, Result};
use std::{fs, process::Command};

/// The release of cargo-deny.
pub(crate) const CARGO_DENY_VERSION: &str = "0.20.2";
/// Its crate and file name.
pub(crate) const CARGO_DENY: &str = "cargo-deny";

/// True when the pinned cargo-deny is there.
pub(crate) fn has_cargo_deny(workspace: &Workspace) -> bool {
    let says = said(workspace.foreign(&workspace.tool(CARGO_DENY)).arg("--version"));
    says.is_some_and(|says| says.trim() == format!("{CARGO_DENY} {CARGO_DENY_VERSION}"))
}

/// The command that builds cargo-deny. Without optimisation: it then takes a third of the time to build, and its work
/// here is done in a second either way.
pub(crate) fn cargo_deny_command(workspace: &Workspace) -> Command {
    let mut cargo = install_command(workspace, CARGO_DENY, CARGO_DENY_VERSION);
    cargo.arg("--debug").env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo
}

/// `cargo install` of one release into target/tools. It puts the program there when all of it is built, so an interrupted
/// build leaves nothing but what the next one goes on from.
pub(crate) fn install_command(workspace: &Workspace, name: &str, version: &str) -> Command {
    let mut cargo = workspace.cargo("install");
    cargo
        .args([name, "--version", version, "--locked", "--force", "--root"])
        .arg(workspace.tools())
        .arg("--target-dir")
        .arg(build_directory(workspace, name))
        // Flags for the workspace's own build are not for this one.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    cargo
}

/// Runs such a command.
///
/// # Errors
/// When the build fails.
pub(crate) fn install(workspace: &Workspace, name: &str, command: Command) -> Result<()> {
    let log = workspace.log("setup-logs", name)?;
    let finished = progress::run(&format!("building {name}"), command, &log)?.success()?;
    let directory = build_directory(workspace, name);
    fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    println!("  built {name} in {}", progress::seconds(finished.elapsed));
    Ok(())
}

fn build_directory(workspace: &Workspace, name: &str) -> std::path::PathBuf {
    workspace.target().join("tools-build").join(name)
}
