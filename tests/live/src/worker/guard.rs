//! The guard: outlives the tests for a moment, to end the agents that they leave when they are killed. A parent's death
//! signal is not enough: the kernel forgets it when the agent changes its user.

use super::{listen, not_understood, say};
use crate::syscalls;
use anyhow::{Context as _, Result};
use std::os::fd::{AsFd as _, OwnedFd};

/// Understands `watch PID`. When the tests are gone, so is every process that was watched.
pub(super) fn guard() -> Result<()> {
    // What a terminal or a service manager sends to the tests' process group is not for us.
    nix::unistd::setsid().context("leave the session of the tests")?;
    let mut watched: Vec<OwnedFd> = Vec::new();
    say("ready")?;
    while let Some(line) = listen()? {
        let words: Vec<&str> = line.split(' ').collect();
        let ["watch", pid] = words[..] else { return not_understood(&words) };
        watched.retain(|ward| syscalls::signal_process(ward.as_fd(), 0).is_ok());
        watched.push(syscalls::open_process(pid.parse()?).with_context(|| format!("watch {pid}"))?);
        say("watching")?;
    }
    for ward in &watched {
        // One that has ended by itself is none the worse for it.
        let _ = syscalls::signal_process(ward.as_fd(), libc::SIGKILL);
    }
    Ok(())
}
