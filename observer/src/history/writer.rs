//! The thread that moves blocks from the queue into the database, a commit every few seconds. A disk may take its time, or be
//! full, or fail: that is this thread's alone.

use super::{
    StateDir,
    backing::Backing,
    disk::{Disk, DiskError},
    lock,
    queue::Batch,
    shared::Shared,
};
use std::{
    io,
    sync::{Arc, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Between two attempts to open a database that could not be, and at most.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_AT_MOST: Duration = Duration::from_mins(1);
/// The database's calls are not deep.
const STACK_BYTES: usize = 512 * 1024;

/// The writer.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    directory: StateDir,
    backing: Option<Arc<Backing>>,
    /// A database was opened once: what is in memory is newer than anything that another might say.
    has_loaded: bool,
    /// Written by backings that are gone.
    written_before: u64,
    failed_attempts: u32,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, directory: StateDir) -> Self {
        Self { shared, directory, backing: None, has_loaded: false, written_before: 0, failed_attempts: 0 }
    }

    /// Starts the thread. Privileges have to be dropped before: they belong to threads.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub fn start(self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        lock(&shared.status).is_running = true;
        let started = thread::Builder::new().name("history".into()).stack_size(STACK_BYTES).spawn(move || self.run());
        lock(&shared.status).is_running &= started.is_ok();
        started.map(drop)
    }

    fn run(mut self) {
        let mut stopping = false;
        while !stopping {
            self.turn();
            stopping = self.wait();
        }
        self.turn();
        let shared = Arc::clone(&self.shared);
        *shared.disk.write().unwrap_or_else(PoisonError::into_inner) = None;
        // With its handle of the file, and the lock on that.
        drop(self);
        shared.tell(|status| status.is_running = false);
    }

    /// Waits for work, or until it is time to try to open the database again. Returns true when the agent ends.
    fn wait(&self) -> bool {
        let pause = (RETRY * 2_u32.saturating_pow(self.failed_attempts.saturating_sub(1))).min(RETRY_AT_MOST);
        let until = Instant::now() + pause;
        let mut queue = lock(&self.shared.queue);
        loop {
            if lock(&self.shared.status).stopping {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            // While the database is not open, there is nothing to do with work.
            let has_work = self.failed_attempts == 0 && queue.has_work();
            if has_work || (self.failed_attempts > 0 && left.is_zero()) {
                return false;
            }
            let pause = if self.failed_attempts > 0 { left } else { RETRY_AT_MOST };
            queue = self.shared.work.wait_timeout(queue, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Opens the database if it is not, and writes what is to be written.
    pub fn turn(&mut self) {
        if self.is_open() && !self.directory.is_in_place() {
            *self.shared.disk.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        if !self.is_open() && !self.open() {
            self.note();
            return;
        }
        let batch = lock(&self.shared.queue).batch();
        if let Some(batch) = batch {
            self.write(batch);
        }
        self.note();
    }

    fn is_open(&self) -> bool {
        self.shared.disk.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns whether it is open now.
    fn open(&mut self) -> bool {
        let mut opened = self.try_open();
        if let Err(DiskError::Foreign(why)) = &opened {
            self.retire_backing();
            opened = match self.directory.set_aside(why) {
                Ok(()) => self.try_open(),
                Err(error) => Err(DiskError::Failed(error.to_string())),
            };
            lock(&self.shared.queue).names_are_wanted |= self.has_loaded;
        }
        match opened {
            Ok(()) => {
                self.failed_attempts = 0;
                self.shared.set_down(None);
                true
            }
            Err(error) => {
                self.failed_attempts += 1;
                let path = self.directory.file_path();
                self.shared.set_down(Some(format!("cannot open {}: {error}", path.display())));
                false
            }
        }
    }

    fn try_open(&mut self) -> Result<(), DiskError> {
        if !self.directory.is_in_place() {
            self.retire_backing();
            self.directory.begin_anew().map_err(|error| DiskError::Failed(error.to_string()))?;
            lock(&self.shared.queue).names_are_wanted |= self.has_loaded;
        }
        let backing = if let Some(backing) = &self.backing {
            Arc::clone(backing)
        } else {
            let file = self.directory.file().map_err(|error| DiskError::Failed(error.to_string()))?;
            Arc::clone(self.backing.insert(Arc::new(Backing::new(file))))
        };
        let (disk, loaded) = Disk::open(&backing)?;
        *self.shared.disk.write().unwrap_or_else(PoisonError::into_inner) = Some(disk);
        if !std::mem::replace(&mut self.has_loaded, true) {
            lock(&self.shared.queue).loaded = Some(loaded);
        }
        Ok(())
    }

    fn retire_backing(&mut self) {
        if let Some(backing) = self.backing.take() {
            self.written_before += backing.written_bytes();
        }
    }

    fn write(&mut self, batch: Batch) {
        let path = self.directory.file_path();
        let (outcome, is_usable) = {
            let guard = self.shared.disk.read().unwrap_or_else(PoisonError::into_inner);
            let Some(disk) = &*guard else { return };
            match disk.claim() {
                Err(error) => (Err(format!("no room for {}: {error}; make room on its disk", path.display())), true),
                Ok(()) => match disk.commit(&batch) {
                    Ok(()) => (Ok(()), true),
                    Err(error) => (Err(format!("cannot write {}: {error}", path.display())), false),
                },
            }
        };
        if !is_usable {
            // After a failure it refuses everything. Who still reads has this much time.
            *self.shared.disk.write().unwrap_or_else(PoisonError::into_inner) = None;
            self.failed_attempts = 1;
        }
        match outcome {
            Ok(()) => {
                self.failed_attempts = 0;
                lock(&self.shared.queue).written(batch.sealed);
                self.shared.set_down(None);
            }
            Err(reason) => {
                lock(&self.shared.queue).not_written(batch.sealed);
                lock(&self.shared.status).failures += 1;
                self.shared.set_down(Some(reason));
                self.failed_attempts = self.failed_attempts.max(1);
            }
        }
    }

    fn note(&self) {
        let written = self.backing.as_ref().map_or(0, |backing| backing.written_bytes());
        let disk_bytes = self.backing.as_ref().map_or(0, |backing| backing.disk_bytes());
        let mut status = lock(&self.shared.status);
        status.written_bytes = self.written_before + written;
        status.disk_bytes = disk_bytes;
        status.moved_aside = self.directory.moved_aside();
    }

    /// How often the disk was synchronised.
    #[cfg(test)]
    pub(super) fn syncs(&self) -> u64 {
        self.backing.as_ref().map_or(0, |backing| backing.syncs())
    }
}
