//! All blocks of a resolution for a question: those on the disk, those that wait for it, and the period that is not over.

use super::{ApiError, Block, History, Step, lock, shared::Shared};
use std::sync::{Arc, PoisonError};

/// What is to be read, gathered at once.
#[derive(Debug)]
pub(super) struct Blocks {
    shared: Arc<Shared>,
    step: Step,
    waiting: Vec<(u64, Arc<[u8]>)>,
    so_far: Vec<Block>,
}

impl History {
    /// Those of a resolution.
    pub(super) fn blocks(&self, step: Step) -> Blocks {
        let waiting = lock(&self.shared.queue).numbered(step);
        Blocks { shared: Arc::clone(&self.shared), step, waiting, so_far: self.folder.so_far(step) }
    }
}

impl Blocks {
    /// Shows the bytes of each. May take as long as the disk does.
    ///
    /// # Errors
    /// `unavailable`, when the disk fails.
    pub(super) fn each(self, mut show: impl FnMut(&[u8])) -> Result<(), ApiError> {
        // What waits may have been written meanwhile.
        let end = self.waiting.first().map_or(u64::MAX, |(number, _)| *number);
        let disk = self.shared.disk.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(disk) = &*disk {
            let scanned = disk.scan(self.step, end, &mut show);
            scanned.map_err(|error| ApiError::new("unavailable", format!("cannot read the history: {error}")))?;
        }
        drop(disk);
        for (_, bytes) in &self.waiting {
            show(bytes);
        }
        for block in &self.so_far {
            show(&block.encode());
        }
        Ok(())
    }
}
