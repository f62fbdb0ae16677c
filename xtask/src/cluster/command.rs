//! `cargo xtask cluster`: its commands, and which of them run as root.

use super::{
    control::{self, Request},
    down, enter, hold, kube,
    mode::Mode,
    node,
    parts::Part,
    prepare, say, status, up,
};
use crate::{
    setup::{SetupArgs, privilege::Privilege},
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

/// A Kubernetes cluster of one node on this machine, for tests and to try things.
///
/// A real one: etcd, the API server, the controllers, the scheduler, a kubelet, kube-proxy and containerd. It needs no container
/// engine and no registry. The node is a network and a mount namespace of its own with no way out of this machine; process
/// numbers and cgroups are the machine's. A machine has one at a time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask cluster up                            builds what is missing; then 10 s
  cargo xtask cluster up --mode v2                  a node with cgroups of version 2 alone
  cargo xtask cluster exec -- kubectl get pods -A   in the node, with all its programs
  cargo xtask cluster load target/image/observer.tar
  cargo xtask cluster stop kube-apiserver           and `start`: see what the agent makes of it
  cargo xtask cluster down                          leaves nothing behind")]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Build what is missing and bring the cluster up; one that is up stays, and what of it has ended is started again.
    Up {
        #[command(flatten)]
        setup: SetupArgs,
        /// How the node sees this machine's cgroups. Without it: `hybrid`, where the machine has both versions.
        #[arg(long, value_enum)]
        mode: Option<Mode>,
    },
    /// Take it down: processes, pods, cgroups, links, mounts and directories, and the settings that it changed.
    Down,
    /// Say what runs. Fails when not all of it does, or the node is not Ready.
    Status,
    /// Run a command in the node's network and with its files; without one a shell.
    Exec {
        /// The command and its arguments.
        #[arg(last = true, value_name = "COMMAND")]
        words: Vec<OsString>,
    },
    /// Give images to the node: archives as `cargo xtask image` and `docker save` write them.
    Load {
        /// The archives.
        #[arg(required = true, value_name = "FILE")]
        archives: Vec<PathBuf>,
    },
    /// Start a part that was stopped.
    Start {
        /// The part.
        #[arg(value_enum)]
        part: Part,
    },
    /// Stop a part as if it had crashed.
    Stop {
        /// The part.
        #[arg(value_enum)]
        part: Part,
    },
    /// What takes longest of what `up` builds.
    #[command(hide = true)]
    BuildKubernetes,
    /// What `up` does as root.
    #[command(hide = true)]
    BringUp {
        #[arg(long, value_enum)]
        mode: Option<Mode>,
    },
    /// Bring the cluster up, and down when standard input ends.
    #[command(hide = true)]
    Hold { mode: Mode },
    /// Take down what is left of one that is not up any more.
    #[command(hide = true)]
    Tidy,
    /// The first process of the node.
    #[command(hide = true)]
    Node,
}

impl ClusterArgs {
    /// The set-up that the command begins with, if it begins with one.
    pub(crate) const fn setup(&self) -> Option<&SetupArgs> {
        match &self.action {
            Action::Up { setup, .. } => Some(setup),
            _ => None,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// When it cannot be done.
    pub(crate) fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let root = self.action.words();
        match self.action {
            Action::Up { .. } => prepare(workspace)?,
            Action::BuildKubernetes => return kube::build(workspace).map(|()| ExitCode::SUCCESS),
            Action::Status => return Ok(if status::print(workspace) { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
            _ => {}
        }
        let privilege = Privilege::of_this_process();
        if privilege == Privilege::Root {
            return self.action.perform(workspace).map(|()| ExitCode::SUCCESS);
        }
        let mut command = as_root(privilege, &root)?;
        let status = command.status().context("run sudo")?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

impl Action {
    /// How this program is told to do it as root.
    fn words(&self) -> Vec<OsString> {
        let with = |name: &str, rest: Vec<OsString>| [vec![name.into()], rest].concat();
        match self {
            Self::Up { mode, .. } | Self::BringUp { mode } => {
                with("bring-up", mode.iter().map(|mode| format!("--mode={}", mode.name()).into()).collect())
            }
            Self::BuildKubernetes => with("build-kubernetes", Vec::new()),
            Self::Down => with("down", Vec::new()),
            Self::Status => with("status", Vec::new()),
            Self::Exec { words } => with("exec", [vec!["--".into()], words.clone()].concat()),
            Self::Load { archives } => with("load", archives.iter().map(Into::into).collect()),
            Self::Start { part } => with("start", vec![part.name().into()]),
            Self::Stop { part } => with("stop", vec![part.name().into()]),
            Self::Hold { mode } => with("hold", vec![mode.name().into()]),
            Self::Tidy => with("tidy", Vec::new()),
            Self::Node => with("node", Vec::new()),
        }
    }

    /// Does it, as root.
    fn perform(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Up { mode, .. } | Self::BringUp { mode } => up::up(workspace, mode, &mut say),
            Self::Down => down::down(workspace),
            Self::Status | Self::BuildKubernetes => Ok(()),
            Self::Exec { words } => enter::exec(workspace, &words),
            Self::Load { archives } => enter::load(workspace, &archives),
            Self::Start { part } => control::ask(Request::Start(part)),
            Self::Stop { part } => control::ask(Request::Stop(part)),
            Self::Hold { mode } => hold::hold(workspace, mode),
            Self::Tidy => down::remains(&mut say),
            Self::Node => node::run(workspace),
        }
    }
}

/// This program as root, with `cluster` and `words` as its arguments.
///
/// # Errors
/// When root is not to be had.
pub(super) fn as_root(privilege: Privilege, words: &[OsString]) -> Result<Command> {
    let program = std::env::current_exe().context("find this program")?;
    let path = format!("PATH={}", std::env::var("PATH").unwrap_or_default());
    let program = program.to_string_lossy();
    let mut command = privilege.command(&["env", &path, &program, "cluster"])?;
    command.args(words);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        cluster: ClusterArgs,
    }

    /// What root is told to do for a command line.
    fn as_root(line: &[&str]) -> Vec<OsString> {
        Line::parse_from([&["xtask"], line].concat()).cluster.action.words()
    }

    #[test]
    fn what_root_is_told_to_do_is_understood_as_the_same() {
        for line in [
            &["down"][..],
            &["bring-up", "--mode=v2"],
            &["exec", "--", "sh", "-c", "echo --mode"],
            &["load", "a.tar", "b.tar"],
            &["stop", "kube-apiserver"],
            &["hold", "hybrid"],
            &["tidy"],
        ] {
            assert_eq!(as_root(line), line.iter().map(OsString::from).collect::<Vec<_>>());
        }
        assert_eq!(as_root(&["up", "--mode", "v2"]), ["bring-up", "--mode=v2"]);
        assert_eq!(as_root(&["up"]), ["bring-up"]);
    }
}
