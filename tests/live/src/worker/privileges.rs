//! A program with some of root's capabilities.

use super::become_program;
use anyhow::{Context as _, Result};
use caps::{CapSet, Capability};
use std::ffi::OsString;

/// Becomes a program that has no capabilities but these.
#[derive(clap::Args)]
pub(super) struct Bound {
    /// One that it keeps, as `CAP_BPF`.
    #[arg(long)]
    keep: Vec<Capability>,
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Bound {
    pub(super) fn run(self) -> Result<()> {
        // What is beyond the bounding set is lost when the program begins, also for root.
        for capability in caps::runtime::procfs_all_supported(None)? {
            if !self.keep.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).with_context(|| format!("let go of {capability}"))?;
            }
        }
        become_program(&self.command)
    }
}
