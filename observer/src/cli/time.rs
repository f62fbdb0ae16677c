//! Times for people, UTC.

use jiff::Timestamp;

/// The date.
pub(super) fn day(unix_seconds: u64) -> String {
    formatted(unix_seconds, "%Y-%m-%d")
}

/// Date, hour and minute.
pub(super) fn minute(unix_seconds: u64) -> String {
    formatted(unix_seconds, "%Y-%m-%d %H:%M")
}

/// With the second.
pub(super) fn second(unix_seconds: u64) -> String {
    formatted(unix_seconds, "%Y-%m-%d %H:%M:%S")
}

fn formatted(unix_seconds: u64, format: &str) -> String {
    let time = i64::try_from(unix_seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    // Beyond the year 9999.
    time.map_or_else(|| unix_seconds.to_string(), |time| time.strftime(format).to_string())
}
