//! A real Kubernetes of one node on this machine, from the distribution's packages and one binary built from source: the bed of
//! the tests that need a cluster, and `cargo xtask cluster`.
//!
//! `needs` says what it is built with, `kube` and `images` build it. `up` brings it up: it writes `settings`, keeps a
//! `record` of what it changes, and starts `node`, which makes `namespaces` around itself and supervises the `parts` there. `down`
//! undoes it all. `hold` is both, for as long as somebody holds it; `census` shows that nothing is left.

mod census;
mod cgroups;
pub(crate) mod command;
mod control;
mod down;
mod enter;
mod hold;
mod images;
mod kube;
mod layout;
mod machine;
mod mode;
mod namespaces;
mod needs;
mod network;
mod node;
mod operator;
mod parts;
mod process;
mod record;
mod settings;
mod status;
mod supervisor;
mod sysctls;
mod up;
mod versions;

pub(crate) use census::Census;
pub(crate) use hold::Held;
pub(crate) use layout::Layout;
pub(crate) use mode::Mode;
pub(crate) use needs::{has_runtime, install_runtime, lacks_go, runtime};

use crate::{
    driven, progress,
    setup::{find, privilege::Privilege},
    workspace::Workspace,
};
use anyhow::Result;
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// What users have.
const KUBECTL: &str = "kubectl";
/// Variables by which clients are sent through a proxy, which knows no way to the node.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Builds all that a cluster is made of, unless it is there. Not as root.
///
/// # Errors
/// When something does not build or is not there.
pub(crate) fn prepare(workspace: &Workspace) -> Result<()> {
    // Whose it is, so that all of target/ can be removed by whoever made it.
    let _ = fs::create_dir_all(Layout::of(workspace).logs());
    kube::build(workspace)?;
    operator::fetch(workspace)?;
    images::build(workspace)
}

/// Builds what the tests need in somebody else's cluster: their images, and Kubernetes only where there is no kubectl.
///
/// # Errors
/// When something does not build or is not there.
pub(crate) fn prepare_for_another(workspace: &Workspace) -> Result<()> {
    if find(KUBECTL).is_none() {
        return prepare(workspace);
    }
    images::build(workspace)
}

/// The kubectl of the tests: on somebody else's cluster the one that is there before the one that was built.
pub(crate) fn kubectl(workspace: &Workspace, of_another: bool) -> PathBuf {
    let found = if of_another { find(KUBECTL) } else { None };
    found.unwrap_or_else(|| Layout::of(workspace).program(KUBECTL))
}

/// The program with the tests that need a cluster; [`prepare`] builds it.
pub(crate) fn harness(workspace: &Workspace) -> PathBuf {
    Layout::of(workspace).program(driven::CLUSTER)
}

/// Gives an image to the cluster that is up.
///
/// # Errors
/// When none is up, or it does not take the image.
pub(crate) fn load(workspace: &Workspace, archive: &Path) -> Result<()> {
    let command = command::as_root(Privilege::of_this_process(), &["load".into(), archive.into()])?;
    progress::run("loading the image", command, &workspace.log("build-logs", "cluster-load")?)?.success().map(drop)
}

/// Takes down what is left of a cluster that is not up any more, such as one whose keeper was killed: what it changed is not this
/// machine's own state.
///
/// # Errors
/// What could not be undone.
pub(crate) fn tidy(workspace: &Workspace) -> Result<()> {
    let command = command::as_root(Privilege::of_this_process(), &["tidy".into()])?;
    progress::run("tidying up after an earlier cluster", command, &workspace.log("build-logs", "cluster-tidy")?)?
        .success()
        .map(drop)
}

/// Says a line. Somebody who has read enough is no reason to stop half-way.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Takes away what would send a client of the cluster elsewhere.
fn without_proxies(command: &mut Command) {
    for variable in PROXIES {
        command.env_remove(variable);
    }
}

/// The last lines of a text, without what is blank.
fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_those_with_something_in_them() {
        assert_eq!(last_lines("a\nb\n\nc\n\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }
}
