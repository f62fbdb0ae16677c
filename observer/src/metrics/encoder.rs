//! From a snapshot to a page of the text format 0.0.4: the hot path of a scrape.
//!
//! A page of 250 pods has 10 000 lines. What makes it cheap: an entity's labels are escaped once in its life, numbers are
//! written without floats, and everything goes into one buffer that is used again as soon as the last page is dropped.
//! No library that is kept does that, so this is our own.

use super::families;
use super::label_sets::LabelSets;
use super::page::Page;
use super::samples::Samples;
use crate::ledger::{Entity, Snapshot, Workload};
use bytes::{Bytes, BytesMut};

/// Renders pages; keeps what can be used again for the next.
#[derive(Debug, Default)]
pub struct Encoder {
    page: BytesMut,
    /// Bytes of the last page.
    expected: usize,
    /// Series of the last page.
    series: u64,
    entities: LabelSets<Entity>,
    workloads: LabelSets<Workload>,
}

impl Encoder {
    /// An encoder that has rendered nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The page for a snapshot. Once the label sets of its entities are known and the page before it is dropped, no memory
    /// is allocated.
    ///
    /// Entities with equal identities would make duplicate series: the ledger has one entity for each.
    pub fn render(&mut self, snapshot: &Snapshot<'_>) -> Bytes {
        self.entities.align(snapshot.node_name, snapshot.entities);
        self.workloads.align(snapshot.node_name, snapshot.workloads);
        // A sixteenth more than last time: a page that grows a little does not double the buffer.
        self.page.reserve(self.expected + self.expected / 16);
        let mut page = Page::new(&mut self.page);
        let samples = Samples { snapshot, entities: &self.entities, workloads: &self.workloads };
        for family in families() {
            page.family(family, |page| samples.write(page, family));
        }
        self.series = page.samples();
        self.expected = self.page.len();
        self.page.split().freeze()
    }

    /// How many series the last page had.
    pub fn series(&self) -> u64 {
        self.series
    }
}
