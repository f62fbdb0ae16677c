//! The agent: one task that samples, books and answers scrapes.
//!
//! [`start`] does everything that needs privileges and gives them up; [`serve`] is what then runs until it is told to stop.

mod books;
mod clock;
mod directory;
mod dns;
mod far_ends;
mod homes;
mod memory;
mod oom_kills;
pub mod open_files;
mod own_cpu;
mod pods;
mod pressure;
mod quotas;
mod remember;
mod resources;
mod scopes;
mod serve;
mod start;
mod station;
mod summary;
mod ticks;
mod translations;
mod turns;

use crate::{config::AgentConfig, kernel};
use anyhow::{Context as _, ensure};

/// When an agent ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At SIGTERM or SIGINT alone.
    Signal,
    /// When nobody holds the other end of standard input any more, too: whoever started it is gone.
    StdinCloses,
}

/// Runs the agent until SIGTERM or SIGINT. When this returns, nothing is attached any more.
///
/// # Errors
/// What stands in the way of counting, in one line: a missing privilege, no v2 hierarchy, another agent, a port in use.
pub fn run(config: AgentConfig, until: Until) -> anyhow::Result<()> {
    kernel::tame_allocator();
    let summary_interval = config.summary_interval;
    let sample_interval = config.sample_interval;
    let open_files = open_files::raise().context("cannot tell how many files may be open")?;
    ensure!(
        open_files >= open_files::LEAST,
        "{open_files} files may be open at once (RLIMIT_NOFILE), and the agent needs {}, since its programs and their tables are files; {}",
        open_files::LEAST,
        open_files::FIX
    );
    // A thread more would be a megabyte more, and privileges are dropped for a process of one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = start::start(config, &runtime, open_files)?;
    runtime.block_on(serve::serve(started, until, sample_interval, summary_interval))
}
