//! How many files the agent may have open: its programs and their tables are files, and so are connections.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The least that it needs. Half of them are the programs', their tables' and the agent's own.
pub const LEAST: usize = 256;
/// What helps.
pub const FIX: &str = "raise the limit, with `ulimit -n` or LimitNOFILE= of its service";

/// Raises the limit as far as it may be. Returns what it is.
///
/// # Errors
/// When it cannot be read.
pub fn raise() -> nix::Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Of a limit, what is neither the programs' nor a connection's: a quarter is for connections.
pub(super) fn spare(limit: usize) -> usize {
    limit.saturating_sub(LEAST / 2) / 4 * 3
}
