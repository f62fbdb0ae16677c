//! What the agent, the writer and those who ask have in common. No lock is held while a disk is waited for, but the one that
//! says that the database is in use.

use super::{disk::Disk, lock, queue::Queue};
use std::sync::{Condvar, Mutex, RwLock};

/// See above.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    /// There is work for the writer.
    pub(super) work: Condvar,
    /// The database while it can be used. Written to when it is opened and closed; a commit and a question share it.
    pub(super) disk: RwLock<Option<Disk>>,
    pub(super) status: Mutex<Status>,
}

/// How the store is.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    /// Why rows are not kept where they ought to be.
    pub(super) down_because: Option<String>,
    /// Commits that failed.
    pub(super) failures: u64,
    /// What the file takes of the disk.
    pub(super) disk_bytes: u64,
    /// Written to it since the start.
    pub(super) written_bytes: u64,
    /// Files that were moved aside.
    pub(super) moved_aside: u64,
    /// The writer is to write what there is, and end.
    pub(super) stopping: bool,
    /// It has been started and has not ended.
    pub(super) is_running: bool,
}

impl Shared {
    pub(super) fn new(queue: Queue, down_because: Option<String>) -> Self {
        Self {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            disk: RwLock::new(None),
            status: Mutex::new(Status { down_because, ..Status::default() }),
        }
    }

    /// Changes what somebody may be waiting for. Who waits holds the queue while it looks, so that nobody misses it.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Status)) {
        let _queue = lock(&self.queue);
        change(&mut lock(&self.status));
        self.work.notify_all();
    }

    /// Notes whether rows can be written; tells of a change.
    pub(super) fn set_down(&self, because: Option<String>) {
        let mut status = lock(&self.status);
        match (&status.down_because, &because) {
            (Some(_), None) => tracing::info!("the history is on the disk"),
            (before, Some(reason)) if before.as_ref() != Some(reason) => {
                tracing::warn!(
                    reason,
                    "the history is not written: rows wait in memory, and the oldest go when there is no room"
                );
            }
            _ => {}
        }
        status.down_because = because;
    }
}
