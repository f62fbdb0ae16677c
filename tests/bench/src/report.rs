//! The table that people read and the JSON that keeps every round.

use crate::{
    machine::Machine,
    statistics::{Interval, Pair, Rounds},
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write as _};

/// One measured property with its goal.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// The goal's name, `P1` to `P10`.
    pub(crate) id: &'static str,
    /// What is measured, with its unit.
    pub(crate) measure: String,
    /// observer's figure; `None` where it could not be measured.
    pub(crate) ours: Option<Pair>,
    /// What it is held against, each with its figure.
    pub(crate) others: Vec<(String, Pair)>,
    /// What the goal compares, if it is not [`Self::ours`] itself; `None` too where it could not be measured.
    pub(crate) compared: Option<Compared>,
    /// The goal in words.
    pub(crate) goal: String,
    /// Whether it is met.
    pub(crate) verdict: Verdict,
    /// Anything a reader must know: why a figure is missing, what was left out.
    pub(crate) note: Option<String>,
    /// Every round of every variant, raw.
    pub(crate) rounds: BTreeMap<String, Rounds>,
}

/// What a goal is held against.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Compared {
    /// A ratio of two figures.
    Ratio(Pair),
    /// A mean ratio with its 95 % interval.
    Interval(Interval),
}

/// Whether a goal is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// By the minimum and by the median.
    Met,
    /// By neither.
    Missed,
    /// The minimum and the median disagree, or the interval is too wide: measure again on a quieter machine.
    Unclear,
    /// Not measured.
    Open,
    /// Shown without a goal of its own.
    Shown,
}

impl Verdict {
    /// A figure that should not exceed `limit`.
    pub(crate) fn at_most(figure: Option<Pair>, limit: f64) -> Self {
        match figure.map(|pair| (pair.min <= limit, pair.median <= limit)) {
            Some((true, true)) => Self::Met,
            Some((false, false)) => Self::Missed,
            Some(_) => Self::Unclear,
            None => Self::Open,
        }
    }

    /// An interval that should lie within `1 - tolerance ..= 1 + tolerance`.
    pub(crate) fn within(interval: Option<Interval>, tolerance: f64) -> Self {
        let allowed = 1.0 - tolerance..=1.0 + tolerance;
        match interval {
            Some(Interval { low, high, .. }) if allowed.contains(&low) && allowed.contains(&high) => Self::Met,
            Some(Interval { low, high, .. }) if high < *allowed.start() || low > *allowed.end() => Self::Missed,
            Some(_) => Self::Unclear,
            None => Self::Open,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Unclear => "unclear",
            Self::Open => "open",
            Self::Shown => "",
        }
    }
}

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The layout of this document; grows when a reader would have to change.
    version: u32,
    machine: Machine,
    /// The rows, by goal.
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// A report without rows.
    pub(crate) fn new(machine: Machine) -> Self {
        Self { version: 1, machine, rows: Vec::new() }
    }

    /// The table: a line per row, below it a line per shape with ours as a ratio of it.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![["id", "measure", "best", "median", "ours/it", "goal", ""].map(String::from)];
        for row in &self.rows {
            lines.extend(row.lines());
        }
        let mut text = format!("{}\n\n", self.machine.headline());
        let widths: Vec<usize> =
            (0..7).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
        for line in &lines {
            let mut printed = String::new();
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                if (2..=4).contains(&column) {
                    let _ = write!(printed, "{gap}{cell:>width$}");
                } else {
                    let _ = write!(printed, "{gap}{cell:<width$}");
                }
            }
            let _ = writeln!(text, "{}", printed.trim_end());
        }
        for (id, note) in self.rows.iter().filter_map(|row| Some((row.id, row.note.as_ref()?))) {
            let _ = write!(text, "\n{id}: {note}");
        }
        text
    }
}

impl Row {
    /// The row of a measurement that could not be made.
    pub(crate) fn failed(id: &'static str, reason: String) -> Self {
        Self {
            id,
            measure: "could not be measured, see below".into(),
            ours: None,
            others: Vec::new(),
            compared: None,
            goal: String::new(),
            verdict: Verdict::Open,
            note: Some(reason),
            rounds: BTreeMap::new(),
        }
    }

    fn lines(&self) -> Vec<[String; 7]> {
        let cell = |pair: Option<Pair>, pick: fn(Pair) -> f64| pair.map_or("-".into(), |pair| number(pick(pair)));
        let mut lines = vec![[
            self.id.to_owned(),
            self.measure.clone(),
            cell(self.ours, |pair| pair.min),
            cell(self.ours, |pair| pair.median),
            String::new(),
            match self.compared {
                Some(Compared::Ratio(Pair { min, median })) => {
                    format!("{}; is {} / {}", self.goal, number(min), number(median))
                }
                Some(Compared::Interval(Interval { low, high, .. })) => {
                    format!("{}; is {low:.4}..{high:.4}", self.goal)
                }
                None => self.goal.clone(),
            },
            self.verdict.word().to_owned(),
        ]];
        for (name, figure) in &self.others {
            let ratio = self.ours.map(|ours| ours.ratio(*figure));
            lines.push([
                String::new(),
                format!("  {name}"),
                number(figure.min),
                number(figure.median),
                cell(ratio, |pair| pair.min),
                String::new(),
                String::new(),
            ]);
        }
        lines
    }
}

/// Three significant digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".into(),
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_that_only_the_minimum_meets_is_unclear() {
        let verdict = |min, median| Verdict::at_most(Some(Pair { min, median }), 0.5);
        assert_eq!(verdict(0.4, 0.45), Verdict::Met);
        assert_eq!(verdict(0.4, 0.55), Verdict::Unclear);
        assert_eq!(verdict(0.6, 0.65), Verdict::Missed);
        assert_eq!(Verdict::at_most(None, 0.5), Verdict::Open);
    }

    #[test]
    fn an_interval_that_reaches_over_the_bound_is_unclear() {
        let verdict = |low, high| Verdict::within(Some(Interval { low, mean: 1.0, high }), 0.01);
        assert_eq!(verdict(0.995, 1.004), Verdict::Met);
        assert_eq!(verdict(0.98, 1.001), Verdict::Unclear);
        assert_eq!(verdict(0.95, 0.97), Verdict::Missed);
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!([1234.5, 99.96, 12.34, 1.234, 0.0123].map(number), ["1234", "100", "12.3", "1.23", "0.0123"]);
    }
}
