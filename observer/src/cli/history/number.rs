//! Values and times for people.

use crate::history::Metric;
use jiff::Timestamp;

/// Columns of a value: `999.9 MB/s`.
pub(super) const VALUE_COLUMNS: usize = 11;

/// With a unit that fits.
pub(super) fn value(value: f64, metric: Metric) -> String {
    let scaled = |unit: &str| {
        let (scaled, prefix) = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
            .into_iter()
            .find(|(size, _)| value >= size * 0.9995)
            .map_or((value, ""), |(size, prefix)| (value / size, prefix));
        format!("{scaled:.1} {prefix}{unit}")
    };
    match metric {
        Metric::Egress | Metric::Ingress => scaled("B/s"),
        Metric::Memory => scaled("B"),
        Metric::Load | Metric::Wait => format!("{value:.3}"),
    }
}

/// Date, hour and minute, UTC.
pub(super) fn time(unix_seconds: u64) -> String {
    formatted(unix_seconds, "%Y-%m-%d %H:%M")
}

/// With the second.
pub(super) fn exact_time(unix_seconds: u64) -> String {
    formatted(unix_seconds, "%Y-%m-%d %H:%M:%S")
}

fn formatted(unix_seconds: u64, format: &str) -> String {
    let time = i64::try_from(unix_seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    // Beyond the year 9999.
    time.map_or_else(|| unix_seconds.to_string(), |time| time.strftime(format).to_string())
}
