//! A plot of blocks: a column for each span of time, as high as the largest row in it.
//!
//! Our own, because it is forty lines, and the crates that draw lines do not do what matters here: a gap is a gap, a burst of one
//! row is seen at any width, and the axis begins at zero, so that growth looks like what it is.

use super::number;
use crate::cli::time;
use crate::history::{HistoryAnswer, Metric};
use std::fmt::Write as _;

const LINES: usize = 10;
/// An eighth of a line, two, and so on.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// What is there but smaller than an eighth: zero is seen to be known.
const ZERO: char = '_';

/// The plot, in as many columns.
pub(super) fn render(answer: &HistoryAnswer, metric: Metric, columns: usize) -> String {
    let heights = largest_by_column(answer, columns.saturating_sub(number::VALUE_COLUMNS + 2).max(8));
    let top = heights.iter().flatten().copied().fold(0.0, f64::max);
    let eighths = |height: f64| if top > 0.0 { (height / top * (LINES * 8) as f64).round() as usize } else { 0 };
    let mut text = String::new();
    for line in (0..LINES).rev() {
        let label = match line {
            _ if line == LINES - 1 => number::value(top, metric),
            0 => number::value(0.0, metric),
            _ => String::new(),
        };
        let drawn: String = heights
            .iter()
            .map(|height| match height.map(eighths) {
                None => ' ',
                Some(0) if line == 0 => ZERO,
                Some(eighths) => EIGHTHS[eighths.saturating_sub(line * 8).min(8)],
            })
            .collect();
        let _ = writeln!(text, "{label:>width$} │{}", drawn.trim_end(), width = number::VALUE_COLUMNS);
    }
    let (from, to) = ends(answer);
    let (from, to) = (time::minute(from), time::minute(to));
    let room = heights.len().saturating_sub(from.len());
    let _ = if room > to.len() {
        writeln!(text, "{:>width$}  {from}{to:>room$}", "", width = number::VALUE_COLUMNS)
    } else {
        // Under a plot that is too narrow for both.
        writeln!(text, "{from} to {to}")
    };
    text
}

/// From the first row to the end of the last: an agent that is young fills its plot.
fn ends(answer: &HistoryAnswer) -> (u64, u64) {
    let first = answer.rows.first().map_or(answer.since_unix_seconds, |row| row.time_unix_seconds);
    let last = answer.rows.last().map_or(answer.until_unix_seconds, |row| row.time_unix_seconds);
    (first, last + answer.step_seconds)
}

fn largest_by_column(answer: &HistoryAnswer, columns: usize) -> Vec<Option<f64>> {
    let (from, to) = ends(answer);
    let steps = ((to - from) / answer.step_seconds.max(1)) as usize;
    // A row has a column of its own, or shares one; it never takes part of one.
    let columns = columns.min(steps.max(1));
    let mut heights = vec![None::<f64>; columns];
    for row in &answer.rows {
        let at = ((row.time_unix_seconds - from) * columns as u64 / (to - from).max(1)) as usize;
        let height = &mut heights[at.min(columns - 1)];
        *height = Some(height.unwrap_or(0.0).max(row.value));
    }
    heights
}
