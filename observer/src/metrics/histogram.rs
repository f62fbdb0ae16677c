//! Histograms, as Prometheus reads them.

use super::Value;
use super::fixed_labels::{BOUND_LABELS, BUCKETS_PER_BOUND};
use super::page::Page;
use crate::ledger::Books;

/// What an entity waited on a run queue, if it waited.
pub(super) fn write_waits(page: &mut Page<'_>, name: &str, labels: &[u8], books: &Books) {
    let count: u64 = books.waits.iter().sum();
    if count == 0 {
        return;
    }
    let mut buckets = books.waits.as_slice();
    let bounds = BOUND_LABELS.into_iter().enumerate().map(|(exported, bound)| {
        // The first exported bound is the kernel's first; each other closes two of the kernel's buckets.
        let (closed, rest) = buckets.split_at(if exported == 0 { 1 } else { BUCKETS_PER_BOUND });
        buckets = rest;
        (bound, closed.iter().sum())
    });
    write_histogram(page, name, labels, bounds, (count, books.wait_ns));
}

/// A histogram, given each bound with what is between it and the one before; of all together, how many there are and how long.
pub(super) fn write_histogram(
    page: &mut Page<'_>,
    name: &str,
    labels: &[u8],
    bounds: impl Iterator<Item = (&'static str, u64)>,
    (count, sum_ns): (u64, u64),
) {
    let mut below = 0;
    for (bound, between) in bounds {
        below += between;
        page.sample([name, "_bucket"], labels, bound, Value::Count(below));
    }
    page.sample([name, "_bucket"], labels, ",le=\"+Inf\"", Value::Count(count));
    page.sample([name, "_sum"], labels, "", Value::Nanoseconds(sum_ns));
    page.sample([name, "_count"], labels, "", Value::Count(count));
}
