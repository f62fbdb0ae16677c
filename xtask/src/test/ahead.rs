//! What the last level needs and what takes longest to build, built while the levels before it run: by a thread that the kernel gives
//! only what nobody else wants of the CPUs, and by the programs that it starts, which inherit that.

use super::{Level, cluster};
use crate::{progress, setup::privilege::Privilege, toolchain::Pair, workspace::Workspace};
use anyhow::{Result, ensure};
use std::{
    process::{Command, Stdio},
    thread::{self, JoinHandle},
};

/// A build that goes on.
#[derive(Debug)]
pub(super) struct Ahead(JoinHandle<Result<()>>);

impl Ahead {
    /// Begins, if the cluster is to be brought up here and there is another level before it. What fails is built again when it is needed,
    /// and fails aloud.
    pub(super) fn begin(workspace: &Workspace, pair: Option<&Pair>, levels: &[Level]) -> Option<Self> {
        let is_worthwhile = levels.contains(&Level::Cluster) && levels.len() > 1;
        if !is_worthwhile || Privilege::of_this_process() == Privilege::None {
            return None;
        }
        let (workspace, pair) = (workspace.clone(), pair?.clone());
        println!("\ncluster: what it needs is built beside the levels before it, in the time that they leave");
        let work = move || {
            ensure!(yield_to_all(), "no chrt here: it is built when it is needed");
            progress::without_a_word(|| cluster::build(&workspace, &pair).map(drop))
        };
        Some(Self(thread::spawn(work)))
    }

    /// Waits for its end.
    pub(super) fn wait(self) {
        progress::wait_for("what is built beside the tests", || self.0.is_finished());
        // The same is built again, or found.
        match self.0.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => println!("  beside the tests it could not be built: {error:#}"),
            Err(_) => println!("  beside the tests it could not be built: the thread panicked"),
        }
    }
}

/// Has this thread run when nobody else wants to; false if that is not to be had.
fn yield_to_all() -> bool {
    let mut command = Command::new("chrt");
    command.args(["--idle", "--pid", "0", &nix::unistd::gettid().to_string()]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_yields_and_what_it_starts_are_of_the_idle_class_and_no_other() {
        let policy = || {
            let output = Command::new("chrt").args(["--pid", "0"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().lines().next().unwrap_or_default().to_owned()
        };
        let before = policy();
        let (yields, inherited) = thread::spawn(move || (yield_to_all(), policy())).join().unwrap();
        assert!(yields && inherited.contains("SCHED_IDLE"), "{inherited}");
        assert_eq!(policy().split(':').next_back(), before.split(':').next_back());
    }
}
