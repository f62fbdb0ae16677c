//! What the agent remembers without Prometheus: mean and peak of each workload and of the node, in three resolutions.
//!
//! | rows of | kept |
//! |---|---|
//! | one window (a second) | 600 |
//! | a minute | 1440, a day |
//! | an hour | 960, forty days |
//!
//! [`History`] is the agent's end: it takes a window each second, folds seconds into minutes and minutes into hours, and hands
//! finished blocks to a queue of bounded room. With a `--state-dir` a thread of its own ([`Writer`]) moves them from there into
//! a redb database; without, they stay in the queue, as many as there is room for. Nothing here ever makes the agent wait for a
//! disk.
//!
//! Rows have the wall clock's time, but nothing is ordered, found or removed by it: blocks are numbered as they come and the
//! lowest numbers go. So a clock that jumps can neither remove rows nor write over any; what it makes happen twice is merged
//! when it is read.

mod admission;
mod backing;
mod block;
mod blocks;
mod disk;
mod fold;
mod growth;
mod keeper;
mod metric;
mod pack;
mod query;
mod queue;
mod registry;
mod row;
mod shared;
mod state_dir;
mod step;
#[cfg(test)]
mod tests;
mod trend;
mod writer;

pub use block::{Block, Damaged};
pub use fold::Folder;
pub use growth::{Growth, GrowthAnswer, GrowthDay, GrowthGather, GrowthQuery, WorkloadGrowth};
pub use keeper::{History, Window};
pub use metric::{METRICS, Metric, Selection, Statistic};
pub use query::{
    ApiError, Gather, HistoryAnswer, HistoryQuery, HistoryRow, KnownWorkload, Subject, WorkloadsAnswer, duration_of,
    span,
};
pub use registry::{MAX_KNOWN, NODE, OTHER, SeriesId};
pub use row::{Cell, Row, reading};
pub use state_dir::{StateDir, StateError};
pub use step::Step;
pub use trend::{Trend, daily_maxima, daily_means};
pub use writer::Writer;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is locked here stays whole even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
