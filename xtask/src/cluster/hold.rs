//! A cluster for as long as somebody wants it: a process of its own brings it up, waits until its standard input ends, and
//! takes it down. So it goes with whoever holds it, however that one ends.

use super::{command, down, mode::Mode, record::Record, say, status, up};
use crate::{setup::privilege::Privilege, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
};

/// The line that says that it is up.
const UP: &str = "cluster: held";

/// A cluster that is up until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    keeper: Child,
}

impl Held {
    /// Brings one up, which is built. What is said on the way goes to `say`.
    ///
    /// # Errors
    /// When it does not come up, or one is up already: that one is somebody else's.
    pub(crate) fn start(mode: Mode, mut say: impl FnMut(&str)) -> Result<Self> {
        let mut command = command::as_root(Privilege::of_this_process(), &["hold".into(), mode.name().into()])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().context("start what holds the cluster")?;
        let said = keeper.stdout.take().context("its output")?;
        let mut up = false;
        for line in BufReader::new(said).lines() {
            let line = line.context("hear what holds the cluster")?;
            if line == UP {
                up = true;
                break;
            }
            say(&line);
        }
        if !up {
            let mut errors = String::new();
            keeper.stderr.take().context("its errors")?.read_to_string(&mut errors).context("hear its errors")?;
            keeper.wait().context("wait for what holds the cluster")?;
            bail!("{}", errors.trim().trim_start_matches("xtask: "));
        }
        Ok(Self { keeper })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // What could not be undone is in its errors.
        let mut errors = String::new();
        if let Some(mut said) = self.keeper.stderr.take() {
            let _ = said.read_to_string(&mut errors);
        }
        let _ = self.keeper.wait();
        if !errors.trim().is_empty() {
            eprintln!("{}", errors.trim());
        }
    }
}

/// The process that holds it. As root.
///
/// # Errors
/// When it does not come up or cannot be taken down.
pub(super) fn hold(workspace: &Workspace, mode: Mode) -> Result<()> {
    // An interrupt at the terminal is for whoever holds this; this one has to see the end through.
    nix::unistd::setsid().context("leave the terminal's session")?;
    if Record::read().is_some_and(|record| status::is_up(&record)) {
        bail!("a cluster is up already: `cargo xtask cluster down` first, or test it with --kubeconfig");
    }
    up::up(workspace, Some(mode), &mut say)?;
    say(UP);
    let mut ignored = Vec::new();
    // An error is an end too.
    let _ = std::io::stdin().read_to_end(&mut ignored);
    down::quietly(workspace).map(drop)
}
