//! What every measurement of one run shares.

use crate::{arena::Arena, cpu::Cpus, programs::Programs, report::Report};
use std::path::PathBuf;

/// The run: where measurements happen and where their rows go.
pub(crate) struct Run {
    /// The cgroup that holds all that is started.
    pub(crate) arena: Arena,
    /// The CPUs as this process found them.
    pub(crate) cpus: Cpus,
    /// The kernel programs.
    pub(crate) programs: Programs,
    /// Rounds of each variant.
    pub(crate) rounds: usize,
    /// The agent's binary.
    pub(crate) observer: PathBuf,
    /// The rows so far.
    pub(crate) report: Report,
}

/// Tells on stderr how far a measurement is.
pub(crate) fn progress(id: &str, round: usize, rounds: usize) {
    eprint!("\r{id}: round {} of {rounds}{}", round + 1, if round + 1 == rounds { "\n" } else { "  " });
}
