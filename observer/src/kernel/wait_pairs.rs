//! Who waited for whom: fetched from the programs' table, which is empty afterwards.

use super::{shared::SharedArray, sys};
use crate::ledger::{Caused, Culprit};
use aya::maps::MapData;
use observer_ebpf::causes::{IDLE, MAX_WAIT_PAIRS, THROTTLED, WaitPair};
use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::Ordering,
};

/// Additions after which the table may be so full that it is better not to wait.
const MANY: u64 = MAX_WAIT_PAIRS as u64 / 4;
/// Readings after which what is in it is fetched anyway: long before the names of short-lived cgroups are forgotten.
const LEFT_ALONE: u32 = 10;

/// The table of pairs.
pub(super) struct WaitPairs {
    fd: OwnedFd,
    /// Grows when there is something to fetch.
    booked: SharedArray<u64>,
    fetched: u64,
    /// How often the table was left alone since, though there was something in it.
    left_alone: u32,
    keys: Vec<PairKey>,
    sums: Vec<u64>,
}

/// [`WaitPair`] as aya wants it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
struct PairKey(WaitPair);

// SAFETY: three words of plain data.
unsafe impl aya::Pod for PairKey {}

impl WaitPairs {
    pub(super) fn new(data: &MapData, booked: SharedArray<u64>) -> io::Result<Self> {
        Ok(Self {
            fd: data.fd().as_fd().try_clone_to_owned()?,
            booked,
            fetched: 0,
            left_alone: 0,
            keys: Vec::new(),
            sums: Vec::new(),
        })
    }

    /// Takes every pair out of the table. Unless `all` are wanted now, only when there may be many, or some have been there for a while.
    pub(super) fn fetch(&mut self, all: bool, caused: &mut Vec<Caused>) -> io::Result<()> {
        let booked = self.booked.words(0)?[0].load(Ordering::Acquire);
        let most = booked.wrapping_sub(self.fetched);
        self.left_alone += u32::from(most > 0);
        if most == 0 || !(all || most >= MANY || self.left_alone >= LEFT_ALONE) {
            return Ok(());
        }
        self.left_alone = 0;
        self.fetched = booked;
        let fetched = sys::take_hash(self.fd.as_fd(), &mut self.keys, &mut self.sums);
        // What came before an error is not there any more.
        caused.extend(self.keys.iter().zip(&self.sums).map(|(PairKey(WaitPair { victim, culprit, is_open }), ns)| {
            Caused {
                victim: *victim,
                culprit: match *culprit {
                    IDLE => Culprit::Idle,
                    THROTTLED => Culprit::Throttled,
                    cgroup => Culprit::Cgroup(cgroup),
                },
                ns: *ns,
                is_open: *is_open != 0,
            }
        }));
        fetched
    }
}
