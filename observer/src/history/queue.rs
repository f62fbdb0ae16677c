//! Blocks on their way to the store, or all there are where there is none. Bounded: the oldest go.

use super::{Block, Step, disk::Loaded, registry::Changes};
use std::{collections::VecDeque, sync::Arc};

/// Bytes of blocks for each step. With a store they last for minutes of a stuck disk at the least, and for days of it where
/// the node is small; without one they are the history.
const ROOM: [usize; 3] = [128 * 1024, 192 * 1024, 192 * 1024];
/// What a block takes beside its bytes: the pointer, the count of its owners, the allocator's own.
const OVERHEAD: usize = 48;

/// Everything that a commit makes true, and the number under which each step goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Sealed {
    /// Of each step, the blocks before this number belong to it.
    pub(super) ends: [u64; 3],
    /// Where a restart goes on.
    pub(super) open: Open,
    /// Names that the store does not have.
    pub(super) changes: Changes,
}

/// Where what is not over began, and the next number of a series: all that a restart needs beside the blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// The first block of seconds that is in no minute yet.
    pub(super) minute_from: u64,
    /// The first block of minutes that is in no hour yet.
    pub(super) hour_from: u64,
    /// The next number of a series.
    pub(super) next_id: u32,
}

/// What is to be written at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) blocks: [Vec<(u64, Arc<[u8]>)>; 3],
    pub(super) sealed: Sealed,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    steps: [Waiting; 3],
    sealed: Option<Sealed>,
    /// What was found in a store that was just opened. Until it is taken, nothing goes there: numbers are not its own yet.
    pub(super) loaded: Option<Loaded>,
    /// The store was begun anew, and has no names.
    pub(super) names_are_wanted: bool,
    /// Names that were written, for the registry to know.
    pub(super) told: Vec<Changes>,
    /// Whether what goes is lost, since it ought to have been written.
    to_be_written: bool,
    lost_rows: u64,
}

/// The blocks of a step.
#[derive(Debug, Default)]
struct Waiting {
    blocks: VecDeque<Arc<[u8]>>,
    /// The number of the first.
    first: u64,
    bytes: usize,
}

impl Waiting {
    fn pop(&mut self) -> Option<Arc<[u8]>> {
        let block = self.blocks.pop_front()?;
        self.first += 1;
        self.bytes -= block.len() + OVERHEAD;
        Some(block)
    }

    fn end(&self) -> u64 {
        self.first + self.blocks.len() as u64
    }
}

impl Queue {
    /// One from which a writer takes, or, with `false`, one that is the history.
    pub(super) fn new(to_be_written: bool) -> Self {
        Self {
            steps: Default::default(),
            sealed: None,
            loaded: None,
            names_are_wanted: false,
            told: Vec::new(),
            to_be_written,
            lost_rows: 0,
        }
    }

    /// Adds a block; returns its number.
    pub(super) fn push(&mut self, step: Step, block: &Block) -> u64 {
        let bytes: Arc<[u8]> = block.encode().into();
        let waiting = &mut self.steps[step as usize];
        waiting.bytes += bytes.len() + OVERHEAD;
        waiting.blocks.push_back(bytes);
        // The newest stays, however large.
        while waiting.blocks.len() > 1
            && (waiting.bytes > ROOM[step as usize] || waiting.blocks.len() as u64 > step.kept())
        {
            if let (Some(block), true) = (waiting.pop(), self.to_be_written) {
                self.lost_rows += Block::rows_in(&block);
            }
        }
        waiting.end() - 1
    }

    /// Everything so far is to be written.
    pub(super) fn seal(&mut self, open: Open, changes: Changes) {
        let ends = self.steps.each_ref().map(Waiting::end);
        self.sealed = Some(Sealed { ends, open, changes });
    }

    /// Whether there is anything to write.
    pub(super) fn has_work(&self) -> bool {
        self.sealed.is_some() && self.loaded.is_none()
    }

    /// What is to be written. It stays here until [`Queue::written`] says that it is.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        if self.loaded.is_some() {
            return None;
        }
        let sealed = self.sealed.take()?;
        let blocks = Step::ALL.map(|step| {
            let all = self.numbered(step);
            all.into_iter().filter(|(number, _)| *number < sealed.ends[step as usize]).collect()
        });
        Some(Batch { blocks, sealed })
    }

    /// The blocks of a step with their numbers, oldest first.
    pub(super) fn numbered(&self, step: Step) -> Vec<(u64, Arc<[u8]>)> {
        let waiting = &self.steps[step as usize];
        (waiting.first..).zip(waiting.blocks.iter().cloned()).collect()
    }

    /// A batch is in the store.
    pub(super) fn written(&mut self, sealed: Sealed) {
        for (waiting, end) in self.steps.iter_mut().zip(sealed.ends) {
            while waiting.first < end && waiting.pop().is_some() {}
        }
        if !sealed.changes.is_empty() {
            self.told.push(sealed.changes);
        }
    }

    /// A batch could not be written: it is tried again, unless a newer one is to be.
    pub(super) fn not_written(&mut self, sealed: Sealed) {
        self.sealed.get_or_insert(sealed);
    }

    /// Takes all blocks out, and goes on with these numbers: those of a store that was just opened.
    pub(super) fn restart(&mut self, first: [u64; 3]) -> [Vec<Arc<[u8]>>; 3] {
        self.sealed = None;
        let taken = self.steps.each_mut().map(|waiting| {
            waiting.bytes = 0;
            std::mem::take(&mut waiting.blocks).into()
        });
        for (waiting, first) in self.steps.iter_mut().zip(first) {
            waiting.first = first;
        }
        taken
    }

    /// Bytes of all blocks that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.steps.iter().map(|waiting| waiting.bytes as u64).sum()
    }

    /// Rows that were dropped before they could be written.
    pub(super) fn lost_rows(&self) -> u64 {
        self.lost_rows
    }
}
