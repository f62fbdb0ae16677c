//! The rows as a table that fits a screen: as many lines as that takes, each of the same span of time.

use super::number;
use crate::cli::time;
use crate::history::{HistoryAnswer, Metric};
use std::{collections::BTreeMap, fmt::Write as _};

/// Lines at most, or one more where the range does not begin with one.
const LINES: u64 = 31;
/// Spans of a line that people think in, in seconds.
const SPANS: [u64; 13] = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600];

/// A line: mean times covered time, covered time, peak.
#[derive(Clone, Copy, Default)]
struct Line {
    weighted: f64,
    covered: f64,
    peak: f64,
}

/// Both columns. A span without rows has no line.
pub(super) fn render(mean: &HistoryAnswer, peak: &HistoryAnswer, metric: Metric) -> String {
    let span = span_of(mean);
    let mut lines = BTreeMap::<u64, Line>::new();
    for row in &mean.rows {
        let line = lines.entry(row.time_unix_seconds / span).or_default();
        line.weighted += row.value * row.covered_seconds;
        line.covered += row.covered_seconds;
    }
    for row in &peak.rows {
        let line = lines.entry(row.time_unix_seconds / span).or_default();
        line.peak = line.peak.max(row.value);
    }
    let mut text = String::new();
    let width = number::VALUE_COLUMNS;
    let time_columns = if span < 60 { 19 } else { 16 };
    let _ = writeln!(text, "{:<time_columns$} {:>width$} {:>width$}", told(span), "mean", "peak");
    for (number, Line { weighted, covered, peak }) in lines {
        let start = number * span;
        let time = if span < 60 { time::second(start) } else { time::minute(start) };
        let mean = if covered > 0.0 { number::value(weighted / covered, metric) } else { "-".into() };
        let _ = writeln!(text, "{time} {mean:>width$} {:>width$}", number::value(peak, metric));
    }
    text
}

fn span_of(answer: &HistoryAnswer) -> u64 {
    let times = || answer.rows.iter().map(|row| row.time_unix_seconds);
    let range = times().max().unwrap_or(0) - times().min().unwrap_or(0) + answer.step_seconds;
    let least = answer.step_seconds.max(range.div_ceil(LINES));
    SPANS.into_iter().find(|span| *span >= least).unwrap_or(2 * 24 * 3600)
}

fn told(span: u64) -> String {
    match span {
        0..60 => format!("from (UTC), {span} s"),
        60..3600 => format!("UTC, {} min", span / 60),
        3600..86400 => format!("UTC, {} h", span / 3600),
        _ => format!("UTC, {} d", span / 86400),
    }
}
