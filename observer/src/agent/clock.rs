//! The wall clock, which the books do not have.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch; zero before it.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since the epoch.
pub(super) fn unix_seconds() -> u64 {
    unix_ms() / 1000
}
