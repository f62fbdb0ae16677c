//! Folding seconds into minutes and minutes into hours. Pure: time is what the blocks say.
//!
//! A mean is over the time that the agent watched in the period, whether the series was there or not: mean times covered time
//! is what it had, and the means of all workloads add up. A window in which a value was not known counts for nothing.

use super::{Block, Cell, METRICS, Row, SeriesId, Step};
use std::collections::BTreeMap;

/// The minute and the hour that are not over.
#[derive(Clone, Debug)]
pub struct Folder {
    minute: Open,
    hour: Open,
}

impl Default for Folder {
    fn default() -> Self {
        Self { minute: Open::new(Step::Minute), hour: Open::new(Step::Hour) }
    }
}

/// What is over since a window came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Closed {
    /// A minute.
    pub minute: Option<Block>,
    /// An hour.
    pub hour: Option<Block>,
    /// The window is the first of its minute.
    pub begins_minute: bool,
    /// The minute that is over is the first of its hour.
    pub begins_hour: bool,
}

impl Folder {
    /// Goes on with the windows of a minute and the minutes of an hour that were not over.
    pub fn resumed(windows: &[Block], minutes: &[Block]) -> Self {
        let mut folder = Self::default();
        for minute in minutes {
            folder.hour.push(minute);
        }
        for window in windows {
            folder.minute.push(window);
        }
        folder
    }

    /// Adds a window. What it does not belong to is over.
    pub fn push(&mut self, window: &Block) -> Closed {
        let begins_minute = !self.minute.is_open_at(window.time);
        let minute = self.minute.push(window);
        let begins_hour = minute.as_ref().is_some_and(|minute| !self.hour.is_open_at(minute.time));
        let hour = minute.as_ref().and_then(|minute| self.hour.push(minute));
        Closed { minute, hour, begins_minute, begins_hour }
    }

    /// The periods of a step that are not over, as if they were: one, or two where a clock has jumped.
    pub(super) fn so_far(&self, step: Step) -> Vec<Block> {
        match step {
            Step::Second => Vec::new(),
            Step::Minute => self.minute.block().into_iter().collect(),
            Step::Hour => {
                let mut hour = self.hour.clone();
                let before = self.minute.block().and_then(|minute| hour.push(&minute));
                before.into_iter().chain(hour.block()).collect()
            }
        }
    }
}

/// A period that is not over.
#[derive(Clone, Debug)]
struct Open {
    step: Step,
    /// When it begins; `None` before the first block.
    time: Option<u64>,
    covered_ms: u64,
    series: BTreeMap<SeriesId, Sums>,
}

/// A series in it.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Means times milliseconds.
    weighted: [f64; METRICS],
    peak: [f32; METRICS],
    /// How long the series was there and the value not known.
    unknown_ms: [u32; METRICS],
    /// Whether it ever was known. That a series was not there tells nothing.
    known: [bool; METRICS],
}

impl Open {
    fn new(step: Step) -> Self {
        Self { step, time: None, covered_ms: 0, series: BTreeMap::new() }
    }

    fn is_open_at(&self, time: u64) -> bool {
        self.time == Some(self.step.start_of(time))
    }

    /// Adds a block; returns the period before, if it is of another.
    fn push(&mut self, block: &Block) -> Option<Block> {
        let start = self.step.start_of(block.time);
        let closed = if self.time.is_some_and(|time| time != start) { self.close() } else { None };
        self.time = Some(start);
        self.covered_ms += block.covered_ms;
        for (id, row) in &block.rows {
            self.series.entry(*id).or_default().add(row, block.covered_ms);
        }
        closed
    }

    fn close(&mut self) -> Option<Block> {
        let block = self.block();
        *self = Self::new(self.step);
        block
    }

    fn block(&self) -> Option<Block> {
        let covered_ms = self.covered_ms;
        let rows = self.series.iter().map(|(id, sums)| (*id, sums.row(covered_ms))).collect();
        self.time.map(|time| Block { time, covered_ms, rows })
    }
}

impl Sums {
    fn add(&mut self, row: &Row, covered_ms: u64) {
        for (place, cell) in row.iter().enumerate() {
            match cell {
                Some(Cell { mean, peak }) => {
                    self.weighted[place] += f64::from(*mean) * covered_ms as f64;
                    self.peak[place] = self.peak[place].max(*peak);
                    self.known[place] = true;
                }
                None => self.unknown_ms[place] += u32::try_from(covered_ms).unwrap_or(u32::MAX / 2),
            }
        }
    }

    fn row(&self, covered_ms: u64) -> Row {
        let mut row = Row::default();
        for (place, cell) in row.iter_mut().enumerate() {
            let known_ms = covered_ms.saturating_sub(self.unknown_ms[place].into());
            *cell = (self.known[place] && known_ms > 0)
                .then(|| Cell { mean: (self.weighted[place] / known_ms as f64) as f32, peak: self.peak[place] });
        }
        row
    }
}

/// Rows of one series that have the same time, since a clock went back: one row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Merged {
    sums: Sums,
    covered_ms: u64,
}

impl Merged {
    pub(super) fn add(&mut self, covered_ms: u64, row: &Row) {
        self.sums.add(row, covered_ms);
        self.covered_ms += covered_ms;
    }

    /// The row, and how long it covers.
    pub(super) fn row(&self) -> (Row, u64) {
        (self.sums.row(self.covered_ms), self.covered_ms)
    }
}
