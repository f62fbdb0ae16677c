//! Commands inside the node: in its network and with its files, as an administrator on a node has them.

use super::{
    cgroups::{self, Hierarchies},
    layout::Layout,
    namespaces, node,
    record::{self, Record},
    status,
};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// The group of what is run in the node from outside; it ends with the cluster.
const GROUP: &str = "exec";

/// Becomes a command in the node, without one a shell. As root. Returns only when that fails.
///
/// # Errors
/// When no cluster is up, or the command cannot be started.
pub(super) fn exec(workspace: &Workspace, words: &[OsString]) -> Result<()> {
    let layout = Layout::of(workspace);
    enter()?;
    let shell = [OsString::from("sh")];
    let words = if words.is_empty() { &shell } else { words };
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("KUBECONFIG", layout.kubeconfig()).env("PATH", search_path(&layout));
    super::without_proxies(&mut command);
    Err(command.exec()).with_context(|| format!("start {}", words[0].to_string_lossy()))
}

/// Gives images to the node's containerd. As root.
///
/// # Errors
/// When no cluster is up, or containerd does not take one.
pub(super) fn load(workspace: &Workspace, archives: &[PathBuf]) -> Result<()> {
    let layout = Layout::of(workspace);
    let whole = |path: &PathBuf| path.canonicalize().with_context(|| format!("open {}", path.display()));
    let archives = archives.iter().map(whole).collect::<Result<Vec<_>>>()?;
    enter()?;
    for archive in &archives {
        let ctr = |program: &str| {
            let mut command = Command::new(program);
            command.env("PATH", search_path(&layout));
            command
        };
        node::import(ctr, archive)?;
        super::say(&format!("cluster: loaded {}", archive.display()));
    }
    Ok(())
}

fn search_path(layout: &Layout) -> OsString {
    let mut path = layout.search_path();
    if let Some(own) = std::env::var_os("PATH") {
        path.push(":");
        path.push(own);
    }
    path
}

/// Makes this process one of the node's.
fn enter() -> Result<()> {
    ensure!(Record::read().is_some_and(|record| status::is_up(&record)), "no cluster is up: `cargo xtask cluster up`");
    let processes = record::processes();
    let process = processes.get(node::NAME).context("the record does not name the node's process")?;
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    cgroups::enter(&Hierarchies::of_this_machine()?.programs().join(GROUP), std::process::id())?;
    namespaces::enter(process)?;
    // The other mount namespace begins at its root.
    std::env::set_current_dir(&folder)
        .or_else(|_| std::env::set_current_dir(Path::new("/")))
        .context("enter a directory")
}
