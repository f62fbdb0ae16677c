//! Who is remembered: the numbers under which workloads stand in the blocks.
//!
//! A number is never given twice. When there are too many names, those that were not there for the longest are forgotten, and
//! their rows with them: jobs of which each has a name of its own come by the thousand.

use crate::ledger::{WorkloadKey, WorkloadNames};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// A series in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// The node.
pub const NODE: SeriesId = SeriesId(0);
/// The sum of the workloads for which there was no place.
pub const OTHER: SeriesId = SeriesId(1);
/// The first of a workload.
pub(super) const FIRST: u32 = 2;
/// Names that are known at a time.
pub const MAX_KNOWN: usize = 4096;
/// How many are forgotten when there is one too many.
const FORGOTTEN_AT_ONCE: usize = MAX_KNOWN / 16;

/// What is known of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: SeriesId,
    /// When it was last there, by the wall clock: to show.
    pub(super) seen: u64,
    /// When it was last there, by a count of windows: to decide by, since a clock may jump.
    pub(super) turn: u64,
}

/// A change that the store does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put { key: WorkloadKey, known: Known, is_new: bool },
    Removed,
}

/// Changes by id: at most one for each name that is known, and one for each that the store still has.
pub(super) type Changes = BTreeMap<SeriesId, Change>;

/// The names.
#[derive(Debug)]
pub(super) struct Registry {
    known: HashMap<WorkloadKey, Known>,
    next: u32,
    turn: u64,
    forgotten: u64,
    changes: Changes,
}

impl Default for Registry {
    fn default() -> Self {
        Self { known: HashMap::new(), next: FIRST, turn: 0, forgotten: 0, changes: Changes::new() }
    }
}

impl Registry {
    /// What a store holds.
    pub(super) fn of(names: Vec<(WorkloadKey, Known)>, next: u32) -> Self {
        let turn = names.iter().map(|(_, known)| known.turn).max().unwrap_or(0);
        let highest = names.iter().map(|(_, known)| known.id.0 + 1).max().unwrap_or(FIRST);
        let next = next.max(highest).max(FIRST);
        Self { known: names.into_iter().collect(), next, turn, ..Self::default() }
    }

    /// A window has begun.
    pub(super) fn next_turn(&mut self) {
        self.turn += 1;
    }

    /// The number of a workload that is there now.
    pub(super) fn id_of(&mut self, key: &WorkloadKey, now: u64) -> SeriesId {
        let turn = self.turn;
        if let Some(known) = self.known.get_mut(key) {
            (known.seen, known.turn) = (now, turn);
            return known.id;
        }
        if self.known.len() >= MAX_KNOWN {
            self.forget_some();
        }
        let known = Known { id: SeriesId(self.next), seen: now, turn };
        self.next += 1;
        self.changes.insert(known.id, Change::Put { key: key.clone(), known: known.clone(), is_new: true });
        let id = known.id;
        self.known.insert(key.clone(), known);
        id
    }

    fn forget_some(&mut self) {
        let mut turns: Vec<(u64, SeriesId)> = self.known.values().map(|known| (known.turn, known.id)).collect();
        turns.sort_unstable();
        let gone: std::collections::HashSet<SeriesId> =
            turns.into_iter().take(FORGOTTEN_AT_ONCE).map(|(_, id)| id).collect();
        self.known.retain(|_, known| !gone.contains(&known.id));
        for id in gone {
            self.forgotten += 1;
            // What the store never had needs no removal.
            if !matches!(self.changes.remove(&id), Some(Change::Put { is_new: true, .. })) {
                self.changes.insert(id, Change::Removed);
            }
        }
    }

    /// Notes when those were last there that were since `turn`, for the store.
    pub(super) fn note_seen(&mut self, since_turn: u64) {
        for (key, known) in self.known.iter().filter(|(_, known)| known.turn >= since_turn) {
            let is_new = matches!(self.changes.get(&known.id), Some(Change::Put { is_new: true, .. }));
            self.changes.insert(known.id, Change::Put { key: key.clone(), known: known.clone(), is_new });
        }
    }

    /// Everything is to be told to a store that knows nothing.
    pub(super) fn note_all(&mut self) {
        self.changes.clear();
        for (key, known) in &self.known {
            let put = Change::Put { key: key.clone(), known: known.clone(), is_new: true };
            self.changes.insert(known.id, put);
        }
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    pub(super) fn next(&self) -> u32 {
        self.next
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// What the store is to be told, and is not yet.
    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The store has been told these.
    pub(super) fn told(&mut self, told: &Changes) {
        for (id, change) in told {
            match self.changes.get_mut(id) {
                Some(now) if now == change => {
                    self.changes.remove(id);
                }
                Some(Change::Put { is_new, .. }) => *is_new = false,
                Some(Change::Removed) => {}
                None => {
                    // Forgotten while it was written, when nobody knew yet that the store would have it.
                    let is_forgotten = !self.known.values().any(|known| known.id == *id);
                    if is_forgotten && matches!(change, Change::Put { .. }) {
                        self.changes.insert(*id, Change::Removed);
                    }
                }
            }
        }
    }

    /// Every workload.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&WorkloadKey, &Known)> {
        self.known.iter()
    }
}

/// A name of a store: `namespace\0name\0kind` after two numbers.
pub(super) fn encode(key: &WorkloadKey, known: &Known) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&known.seen.to_le_bytes());
    out.extend_from_slice(&known.turn.to_le_bytes());
    let WorkloadKey { namespace, workload } = key;
    out.extend_from_slice([&**namespace, &*workload.name, &*workload.kind].join("\0").as_bytes());
    out
}

/// What [`encode`] made; `None` if it did not.
pub(super) fn decode(id: SeriesId, bytes: &[u8]) -> Option<(WorkloadKey, Known)> {
    let (seen, rest) = bytes.split_first_chunk()?;
    let (turn, rest) = rest.split_first_chunk()?;
    let mut names = std::str::from_utf8(rest).ok()?.split('\0').map(Arc::<str>::from);
    let (namespace, name, kind) = (names.next()?, names.next()?, names.next()?);
    let known = Known { id, seen: u64::from_le_bytes(*seen), turn: u64::from_le_bytes(*turn) };
    Some((WorkloadKey { namespace, workload: Arc::new(WorkloadNames { name, kind }) }, known))
}
