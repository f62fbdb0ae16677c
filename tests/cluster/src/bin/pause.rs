//! The first process of a pod: keeps its namespaces, and buries the processes that its containers leave behind where they share
//! one namespace of process numbers.

use nix::{
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect();
    // The first process of a namespace is sent no signal that it does not wait for; one that is blocked waits.
    if signals.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => bury(),
            Ok(_) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// All that have ended: signals of one kind that come together are one.
fn bury() {
    let next = || waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
    while next().is_ok_and(|status| status != WaitStatus::StillAlive) {}
}
