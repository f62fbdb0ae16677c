//! The agent's end of the history: windows in, finished blocks to the queue.

use super::{
    Block, Folder, NODE, OTHER, Row, SeriesId, StateDir, Step, Writer,
    admission::Admission,
    fold::Closed,
    lock,
    queue::{Open, Queue},
    registry::Registry,
    shared::Shared,
};
use crate::ledger::{HistoryFacts, WorkloadKey};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Instant,
};

/// So much of time is written at once: what a kill -9 may cost.
const SEAL_EVERY_MS: u64 = 4_900;

/// A window that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When, by the wall clock: milliseconds since the epoch.
    pub ended_unix_ms: u64,
    /// How long it was.
    pub elapsed_ms: u64,
    /// What the whole node had.
    pub node: Row,
}

/// What the agent remembers.
#[derive(Debug)]
pub struct History {
    pub(super) shared: Arc<Shared>,
    /// Whether there is, or ought to be, a store.
    on_disk: bool,
    pub(super) registry: Registry,
    pub(super) folder: Folder,
    admission: Admission,
    /// Where what is not over began.
    open: Open,
    /// How much is not sealed.
    unsealed_ms: u64,
    /// The turn at which the store was last told who is there.
    noted_turn: u64,
    shared_rows: u64,
}

impl History {
    /// In memory only, as much as there is room for.
    pub fn in_memory() -> Self {
        Self::new(Queue::new(false), None, false)
    }

    /// In memory only, though it ought to be on a disk.
    pub fn without_store(reason: String) -> Self {
        Self::new(Queue::new(true), Some(reason), true)
    }

    /// On a disk, as soon as the writer was started and has opened the database.
    pub fn on_disk(directory: StateDir) -> (Self, Writer) {
        let history = Self::new(Queue::new(true), Some("the database is not open yet".into()), true);
        let writer = Writer::new(Arc::clone(&history.shared), directory);
        (history, writer)
    }

    fn new(queue: Queue, down_because: Option<String>, on_disk: bool) -> Self {
        Self {
            shared: Arc::new(Shared::new(queue, down_because)),
            on_disk,
            registry: Registry::default(),
            folder: Folder::default(),
            admission: Admission::default(),
            open: Open::default(),
            unsealed_ms: 0,
            noted_turn: 0,
            shared_rows: 0,
        }
    }

    /// Whether it is, or ought to be, on a disk.
    pub fn is_on_disk(&self) -> bool {
        self.on_disk
    }

    /// Takes a window, with every workload that was there. Never waits for a disk.
    pub fn record<'a>(&mut self, window: Window, workloads: impl Iterator<Item = (&'a WorkloadKey, Row)>) {
        if window.elapsed_ms == 0 {
            return;
        }
        self.hear_of_the_store();
        self.registry.next_turn();
        // The middle decides: a window that ends a little after the minute belongs to it.
        let time = window.ended_unix_ms.saturating_sub(window.elapsed_ms / 2) / 1000;
        let mut rows: Vec<(SeriesId, Row)> =
            workloads.map(|(key, row)| (self.registry.id_of(key, time), row)).collect();
        let shared = self.admission.admit(Step::Hour.start_of(time), &mut rows);
        rows.push((NODE, window.node));
        if let Some((row, count)) = shared {
            rows.push((OTHER, row));
            self.shared_rows += count;
        }
        rows.sort_unstable_by_key(|(id, _)| *id);
        self.push(&Block { time, covered_ms: window.elapsed_ms, rows });
        self.unsealed_ms += window.elapsed_ms;
        if self.on_disk && self.unsealed_ms >= SEAL_EVERY_MS {
            self.seal();
        }
    }

    fn push(&mut self, block: &Block) {
        let Closed { minute, hour, begins_minute, begins_hour } = self.folder.push(block);
        let mut queue = lock(&self.shared.queue);
        let number = queue.push(Step::Second, block);
        if begins_minute {
            self.open.minute_from = number;
        }
        if let Some(minute) = minute {
            let number = queue.push(Step::Minute, &minute);
            if begins_hour {
                self.open.hour_from = number;
            }
        }
        if let Some(hour) = hour {
            queue.push(Step::Hour, &hour);
            self.registry.note_seen(self.noted_turn);
            self.noted_turn = self.registry.turn();
        }
    }

    /// Everything so far is to be written.
    fn seal(&mut self) {
        self.unsealed_ms = 0;
        self.open.next_id = self.registry.next();
        let mut queue = lock(&self.shared.queue);
        queue.seal(self.open, self.registry.changes().clone());
        self.shared.work.notify_all();
    }

    /// Takes over what was found in the store, and learns what was written.
    fn hear_of_the_store(&mut self) {
        if !self.on_disk {
            return;
        }
        let mut queue = lock(&self.shared.queue);
        let (loaded, told) = (queue.loaded.take(), std::mem::take(&mut queue.told));
        for changes in &told {
            self.registry.told(changes);
        }
        if std::mem::take(&mut queue.names_are_wanted) {
            self.registry.note_all();
        }
        let Some(loaded) = loaded else { return };
        let [seconds, _, _] = queue.restart(loaded.next);
        drop(queue);
        // The store's minute and hour go on, with what came since: its numbers are others than those of the memory until now.
        let before = std::mem::replace(&mut self.registry, Registry::of(loaded.names, loaded.open.next_id));
        let names: HashMap<SeriesId, &WorkloadKey> = before.iter().map(|(key, known)| (known.id, key)).collect();
        self.registry.next_turn();
        self.noted_turn = self.registry.turn();
        self.open = loaded.open;
        self.folder = Folder::resumed(&loaded.windows, &loaded.minutes);
        if let Some(newest) = loaded.windows.last().or(loaded.minutes.last()) {
            let all = loaded.minutes.iter().chain(&loaded.windows).flat_map(|block| &block.rows);
            let ids = all.map(|(id, _)| *id).filter(|id| *id > OTHER);
            self.admission = Admission::resumed(Step::Hour.start_of(newest.time), ids);
        }
        for bytes in seconds {
            let Ok(mut block) = Block::decode(&bytes) else { continue };
            for (id, _) in &mut block.rows {
                if let Some(key) = names.get(id) {
                    *id = self.registry.id_of(key, block.time);
                }
            }
            block.rows.sort_unstable_by_key(|(id, _)| *id);
            self.push(&block);
        }
    }

    /// Tells the writer to write what there is, and to end. Does not wait for it.
    pub fn end(&mut self) {
        if !self.on_disk {
            return;
        }
        self.hear_of_the_store();
        self.seal();
        self.shared.tell(|status| status.stopping = true);
    }

    /// Waits until the writer has ended, if it has begun, but not longer than until then.
    pub fn wait_for_the_end(&self, until: Instant) {
        let mut queue = lock(&self.shared.queue);
        while lock(&self.shared.status).is_running {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.shared.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Its own figures.
    pub fn facts(&self) -> HistoryFacts {
        let status = lock(&self.shared.status).clone();
        let queue = lock(&self.shared.queue);
        HistoryFacts {
            on_disk: self.on_disk,
            down_because: status.down_because,
            lost_rows: queue.lost_rows(),
            waiting_bytes: queue.bytes(),
            file_bytes: status.disk_bytes,
            written_bytes: status.written_bytes,
            write_failures: status.failures,
            files_moved_aside: status.moved_aside,
            workloads: self.registry.len() as u64,
            shared_rows: self.shared_rows,
            forgotten_workloads: self.registry.forgotten(),
        }
    }
}
