//! One series in one window or period.

use super::METRICS;

/// Mean and peak of a metric. In a row of one window they are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// The mean, weighted by time.
    pub mean: f32,
    /// The largest window.
    pub peak: f32,
}

/// All metrics of a series, by the order of [`Metric::ALL`](super::Metric::ALL). `None` is not known, which zero is not: a program
/// that is down, a figure that this node does not have.
pub type Row = [Option<Cell>; METRICS];

/// The row of a window.
pub fn reading(values: [Option<f64>; METRICS]) -> Row {
    values.map(|value| value.map(|value| Cell { mean: value as f32, peak: value as f32 }))
}

/// Adds what others had in the same window.
pub(super) fn add(row: &mut Row, other: &Row) {
    for (cell, other) in row.iter_mut().zip(other) {
        *cell = match (*cell, *other) {
            (Some(cell), Some(other)) => Some(Cell { mean: cell.mean + other.mean, peak: cell.peak + other.peak }),
            // A sum of which a part is unknown is unknown.
            _ => None,
        };
    }
}
