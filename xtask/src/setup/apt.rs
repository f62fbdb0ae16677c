//! Debian's packages: what could be installed, and installing it.

use super::privilege::Privilege;
use crate::{progress, toolchain::probe::said, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet, fs, os::unix::process::CommandExt as _, path::Path, process::Command, time::Duration,
};

/// True on Debian and its relatives.
pub(crate) fn is_there() -> bool {
    Path::new("/usr/bin/apt-get").is_file() && Path::new("/usr/bin/dpkg").is_file()
}

/// True when no package list has been fetched, as in a fresh container: apt then knows no package at all.
pub(crate) fn lists_are_empty() -> bool {
    let entries = fs::read_dir("/var/lib/apt/lists").into_iter().flatten().flatten();
    !entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().contains("_Packages"))
}

/// The version that an install of a package would bring.
pub(crate) fn candidate(package: &str) -> Option<String> {
    let policy = said(query("apt-cache").args(["policy", package]))?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// True when a package is installed and apt knows no later version.
pub(crate) fn is_current(package: &str) -> bool {
    let policy = said(query("apt-cache").args(["policy", package])).unwrap_or_default();
    let version = |field: &str| policy.lines().find_map(|line| line.trim().strip_prefix(field));
    version("Installed: ").is_some_and(|installed| installed != "(none)" && version("Candidate: ") == Some(installed))
}

/// All that a package's candidate depends on, and what that depends on.
pub(crate) fn dependencies(package: &str) -> BTreeSet<String> {
    let arguments = ["depends", "--recurse", "--important", package];
    let tree = said(query("apt-cache").args(arguments)).unwrap_or_default();
    tree.lines().filter(|line| !line.starts_with(' ')).map(|line| line.trim().to_owned()).collect()
}

/// True when packages can be installed beside all that is installed: Debian's rustc-web takes the place of its rustc, and
/// is not beside its rustup.
pub(crate) fn installs_without_removing(packages: &[&str]) -> bool {
    let mut simulation = query("apt-get");
    simulation.args(["install", "--simulate", "--no-remove", "--no-install-recommends"]).args(packages);
    said(&mut simulation).is_some()
}

/// Fetches the package lists.
///
/// # Errors
/// When apt fails, or needs a privilege that is not to be had.
pub(crate) fn update(workspace: &Workspace, privilege: Privilege) -> Result<()> {
    let command = apt_get(privilege, &["update"])?;
    let finished = progress::run("apt-get update", command, &workspace.log("setup-logs", "apt-update")?)?.success()?;
    println!("  fetched the package lists in {}", progress::seconds(finished.elapsed));
    Ok(())
}

/// Installs packages without recommended ones and removes none. Lists that are missing or too old, and an install that was
/// interrupted before, are put right on the way.
///
/// # Errors
/// When apt fails all the same, or needs a privilege that is not to be had.
pub(crate) fn install(workspace: &Workspace, privilege: Privilege, packages: &[String]) -> Result<()> {
    if lists_are_empty() {
        update(workspace, privilege)?;
    }
    let log = workspace.log("setup-logs", "apt-install")?;
    let attempt = || -> Result<_> {
        let mut arguments = vec!["install", "--yes", "--no-install-recommends", "--no-remove"];
        arguments.extend(packages.iter().map(String::as_str));
        progress::run("apt-get install", apt_get(privilege, &arguments)?, &log)
    };
    let mut finished = attempt()?;
    if !finished.status.success() {
        if finished.output.contains("dpkg --configure -a") {
            println!("  an earlier install was interrupted: dpkg --configure -a");
            let command = detached(privilege, &["dpkg", "--configure", "-a"])?;
            progress::run("dpkg --configure -a", command, &workspace.log("setup-logs", "dpkg")?)?.success()?;
        } else {
            println!("  apt-get install failed; the package lists may be old:");
            update(workspace, privilege)?;
        }
        finished = attempt()?;
    }
    let finished = finished.success()?;
    println!("  installed {} in {}", packages.join(" "), progress::seconds(finished.elapsed));
    Ok(())
}

/// Takes programs out of a package into target/tools/bin. For packages whose installation would start a service, or take
/// the place of another.
///
/// # Errors
/// When the package cannot be fetched or has no such programs.
pub(crate) fn unpack(workspace: &Workspace, privilege: Privilege, package: &str, programs: &[&str]) -> Result<()> {
    let directory = tempfile::tempdir_in(workspace.target()).context("make a directory under target/")?;
    let tree = directory.path().join("tree");
    let elapsed = unpack_whole(workspace, privilege, package, &tree)?;
    fs::create_dir_all(workspace.tools().join("bin")).context("make target/tools/bin")?;
    for program in programs {
        take(&tree, program, &workspace.tool(program)).with_context(|| format!("take {program} out of {package}"))?;
    }
    println!("  unpacked {package} in {}", progress::seconds(elapsed));
    Ok(())
}

/// Unpacks all files of a package into a directory, over what is there. Says how long it took.
///
/// # Errors
/// When the package cannot be fetched.
pub(crate) fn unpack_whole(
    workspace: &Workspace,
    privilege: Privilege,
    package: &str,
    into: &Path,
) -> Result<Duration> {
    let directory = tempfile::tempdir_in(workspace.target()).context("make a directory under target/")?;
    let log = workspace.log("setup-logs", &format!("download-{package}"))?;
    let attempt = || -> Result<_> {
        let mut download = query("apt-get");
        // The sandbox user of apt may not write here.
        download.args(["-o", "APT::Sandbox::User=root", "download", package]).current_dir(&directory);
        progress::run(&format!("apt-get download {package}"), download, &log)
    };
    let mut finished = attempt()?;
    if !finished.status.success() {
        println!("  apt-get download failed; the package lists may be old:");
        // Needs root, which the download does not: that it is not to be had is not what went wrong.
        if update(workspace, privilege).is_ok() {
            finished = attempt()?;
        }
    }
    let finished = finished.success()?;
    let mut files = fs::read_dir(&directory).context("read what apt-get downloaded")?.flatten();
    let archive = files.next().with_context(|| format!("apt-get download {package} left no file"))?.path();
    let mut extract = Command::new("dpkg-deb");
    extract.arg("-x").arg(&archive).arg(into);
    progress::run("dpkg-deb", extract, &workspace.log("setup-logs", "dpkg-deb")?)?.success()?;
    Ok(finished.elapsed)
}

/// Moves a program out of an unpacked package. Before Debian 13 some are in /bin, which is /usr/bin on the machine and not
/// in the package.
fn take(tree: &Path, program: &str, to: &Path) -> Result<()> {
    let places = ["usr/bin", "bin"].map(|place| tree.join(place).join(program));
    let from = places.iter().find(|place| place.is_file()).context("it is in neither usr/bin nor bin")?;
    fs::rename(from, to).with_context(|| format!("move it to {}", to.display()))
}

fn apt_get(privilege: Privilege, arguments: &[&str]) -> Result<Command> {
    // Another apt at work (unattended upgrades) is waited for.
    let mut words =
        vec!["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", "-o", "DPkg::Lock::Timeout=600"];
    words.extend(arguments);
    detached(privilege, &words)
}

/// A command as root that a Ctrl-C at the terminal does not reach: it goes on to its end, and no package is left half
/// installed.
fn detached(privilege: Privilege, words: &[&str]) -> Result<Command> {
    let mut command = privilege.command(words)?;
    command.process_group(0);
    Ok(command)
}

fn query(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_both_layouts_of_packages() {
        for place in ["bin", "usr/bin"] {
            let directory = tempfile::tempdir().unwrap();
            let tree = directory.path().join("tree");
            fs::create_dir_all(tree.join(place)).unwrap();
            fs::write(tree.join(place).join("busybox"), place).unwrap();
            let to = directory.path().join("busybox");
            take(&tree, "busybox", &to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), place);
            assert!(take(&tree, "ash", &to).unwrap_err().to_string().contains("neither"));
        }
    }
}
