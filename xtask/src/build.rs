//! Builds: the eBPF objects, from source with `core`, and the host's binaries around them.

use crate::{
    page, progress,
    toolchain::{Pair, linker},
    workspace::{Profile, Workspace},
};
use anyhow::{Context, Result};
use std::{ffi::OsString, fs, path::Path, process::Command};

/// An eBPF object: a binary of the crate observer-ebpf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// The binary, and the feature that it needs.
    binary: &'static str,
    feature: &'static str,
    /// Its file under target/ebpf.
    pub(crate) file: &'static str,
}

/// The programs of the agent.
pub(crate) const PROGRAMS: Object = Object { binary: "observer-ebpf", feature: "programs", file: "observer.bpf.o" };

/// The same, with a few log lines off the hot paths; takes the place of the other until the next build.
pub(crate) const LOGGING_PROGRAMS: Object = Object { feature: "log", ..PROGRAMS };

/// What the benchmark measures them against.
pub(crate) const SHAPES: Object = Object { binary: "shapes", feature: "shapes", file: "shapes.bpf.o" };

/// The BPF target of the host's byte order.
const TARGET: &str = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// Builds what the agent's binary carries: its programs, and its page.
///
/// # Errors
/// When one of them does not build.
pub(crate) fn embedded(workspace: &Workspace, pair: &Pair, programs: Object) -> Result<()> {
    object(workspace, pair, programs)?;
    page::build(workspace)
}

/// Builds an eBPF object and puts it under target/ebpf, unless the same is there.
///
/// # Errors
/// When linker and compiler do not match, or the build fails.
pub(crate) fn object(workspace: &Workspace, pair: &Pair, object: Object) -> Result<()> {
    linker::verify(workspace, pair)?;
    // Beside the host's directory: the same crates, with other flags.
    let directory = workspace.target().join("ebpf-build");
    let command = object_command(workspace, pair, object, &directory);
    let log = workspace.log("build-logs", object.file)?;
    let finished = progress::run(&format!("building {}", object.file), command, &log)?.success()?;
    let built = directory.join(TARGET).join("release").join(object.binary);
    if replace(&built, &workspace.object(object.file))? {
        println!("build: target/ebpf/{} in {}", object.file, progress::seconds(finished.elapsed));
    }
    Ok(())
}

fn object_command(workspace: &Workspace, pair: &Pair, object: Object, directory: &Path) -> Command {
    let cargo = pair.rust.cargo.as_deref().expect("a pair that was chosen is complete");
    let mut command = workspace.foreign(cargo);
    command
        .args(["build", "--locked", "--release", "--package", "observer-ebpf", "--bin", object.binary])
        .args(["--features", object.feature, "--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(directory)
        .env("RUSTC", &pair.rust.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", encoded(&flags(workspace)))
        .env(format!("CARGO_TARGET_{}_LINKER", TARGET.replace('-', "_").to_uppercase()), workspace.tool(linker::NAME));
    if !pair.rust.nightly {
        // `core` from source and its intrinsics are unstable; the distribution's compiler is a stable one.
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

/// Debug information is for the BTF; it names source files.
fn flags(workspace: &Workspace) -> Vec<String> {
    // Which struct pt_regs the programs are given: aya-ebpf asks.
    let processor = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    let mut flags = vec![processor, "-Cdebuginfo=2".into(), "-Clink-arg=--btf".into()];
    flags.extend(workspace.path_flags());
    flags
}

/// Flags as cargo takes them when one may hold a space.
fn encoded(flags: &[String]) -> OsString {
    flags.join("\x1f").into()
}

/// Copies `from` to `to` in one step, unless they are equal: what embeds it is then not built again. True when it did.
fn replace(from: &Path, to: &Path) -> Result<bool> {
    let new = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    let directory = to.parent().expect("an object is in a directory");
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let draft =
        tempfile::NamedTempFile::new_in(directory).with_context(|| format!("write in {}", directory.display()))?;
    fs::write(draft.path(), new).with_context(|| format!("write {}", draft.path().display()))?;
    // Made for its owner alone; the agent is built by whoever needs it.
    fs::set_permissions(draft.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .context("open the object to all")?;
    draft.persist(to).with_context(|| format!("write {}", to.display()))?;
    Ok(true)
}

/// Builds host packages of the workspace.
///
/// # Errors
/// When the build fails.
pub(crate) fn host(workspace: &Workspace, profile: Profile, packages: &[&str]) -> Result<()> {
    host_with(workspace, profile, packages, &[])
}

/// [`host`], with features that nobody has by default.
///
/// # Errors
/// When the build fails.
pub(crate) fn host_with(workspace: &Workspace, profile: Profile, packages: &[&str], features: &[&str]) -> Result<()> {
    let mut cargo = workspace.cargo("build");
    cargo.args(features.iter().flat_map(|feature| ["--features", feature]));
    cargo.args(["--profile", profile.name()]).args(packages.iter().flat_map(|package| ["--package", package]));
    let what = packages.join(", ");
    let log = workspace.log("build-logs", &packages.join("-"))?;
    let finished = progress::run(&format!("building {what}"), cargo, &log)?.success()?;
    if finished.output.contains("Compiling") {
        println!("build: {what} ({}) in {}", profile.name(), progress::seconds(finished.elapsed));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_object_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("built"), directory.path().join("ebpf/observer.bpf.o"));
        fs::write(&from, "one").unwrap();
        assert!(replace(&from, &to).unwrap());
        assert!(!replace(&from, &to).unwrap());
        fs::write(&from, "two").unwrap();
        assert!(replace(&from, &to).unwrap());
        assert_eq!(fs::read_to_string(&to).unwrap(), "two");
        assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }
}
