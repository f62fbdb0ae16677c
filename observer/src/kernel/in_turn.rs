//! Two tables in turn: the programs add to one, user space empties the other once it has rested. The entries are sums.

use super::{shared::SharedArray, sys};
use aya::maps::MapData;
use observer_ebpf::flows::{ADDED, HEAVY_IN_TABLES, IN_TABLES};
use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::Ordering,
};

/// How long a table rests before it is emptied: longer than a program takes that may still add to it, also one whose task is kept from
/// running meanwhile.
const REST_NS: u64 = 900_000_000;

/// The tables.
pub(super) struct InTurn<K, V> {
    tables: [OwnedFd; 2],
    /// How much has been added to them, and what is in them.
    counts: SharedArray<u64>,
    /// How much had been added when each table was last turned away from, and when that one was emptied.
    turned: [u64; 2],
    fetched: [u64; 2],
    /// When the programs last turned away from a table, and the time before.
    turned_ns: u64,
    turned_before_ns: u64,
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: aya::Pod + Default, V: aya::Pod + Default> InTurn<K, V> {
    pub(super) fn new(even: &MapData, odd: &MapData, counts: SharedArray<u64>) -> io::Result<Self> {
        let table = |data: &MapData| data.fd().as_fd().try_clone_to_owned();
        Ok(Self {
            tables: [table(even)?, table(odd)?],
            counts,
            turned: [0; 2],
            fetched: [0; 2],
            turned_ns: 0,
            turned_before_ns: 0,
            keys: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Whether a table has rested long enough to be emptied.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.turned_ns) >= REST_NS
    }

    /// Since when what is in the table that rests was handed over.
    pub(super) fn rests_from_ns(&self) -> u64 {
        self.turned_before_ns
    }

    /// Takes everything out of the table that is not added to, given how often the tables have been changed.
    pub(super) fn fetch(&mut self, epoch: u64, mut each: impl FnMut(K, V)) -> io::Result<()> {
        let resting = usize::from(epoch & 1 == 0);
        if self.turned[resting] == self.fetched[resting] {
            return Ok(());
        }
        let fetched = sys::take_hash(self.tables[resting].as_fd(), &mut self.keys, &mut self.values);
        // What came before an error is not there any more.
        self.keys.iter().zip(&self.values).for_each(|(key, value)| each(*key, *value));
        fetched?;
        for count in [IN_TABLES, HEAVY_IN_TABLES] {
            self.counts.words(count as usize + resting)?[0].store(0, Ordering::Release);
        }
        self.fetched[resting] = self.turned[resting];
        Ok(())
    }

    /// Notes that the programs turn away from the table that was added to in this epoch.
    pub(super) fn turn(&mut self, epoch: u64, now_ns: u64) -> io::Result<()> {
        self.turned[usize::from(epoch & 1 != 0)] = self.counts.words(ADDED as usize)?[0].load(Ordering::Acquire);
        (self.turned_before_ns, self.turned_ns) = (self.turned_ns, now_ns);
        Ok(())
    }
}
