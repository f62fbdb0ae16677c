//! Values for people.

use crate::history::Metric;

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
