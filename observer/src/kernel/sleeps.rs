//! Uninterruptible sleeps that have not ended: told to the books while they last, and held against /proc.
//!
//! Not every end reaches the program, so an entry proves nothing by itself. A sleep that /proc confirms is booked up to now
//! and its start moved there: the program books the rest when it ends, and the sum is exact. An entry older than two
//! seconds whose task does not sleep is a phantom, and goes unbooked.

use super::sys;
use crate::ledger::{Added, Sample};
use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use observer_ebpf::Sleep;
use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

/// Entries younger than this are left alone: nearly every sleep ends sooner.
const YOUNG_NS: u64 = 500_000_000;
/// Entries older than this must be confirmed.
const OLD_NS: u64 = 2_000_000_000;

/// What /proc says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It sleeps uninterruptibly.
    Uninterruptible,
    /// It does something else, or is gone.
    Other,
    /// /proc cannot tell: neither confirm nor remove.
    Unknown,
}

/// The table of open sleeps.
pub struct OpenSleeps {
    map: BpfHashMap<MapData, u32, SleepValue>,
    /// The same map, for reading it whole.
    fd: OwnedFd,
    keys: Vec<u32>,
    values: Vec<SleepValue>,
}

/// [`Sleep`] as aya wants it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct SleepValue(Sleep);

// SAFETY: two words of plain data.
unsafe impl aya::Pod for SleepValue {}

impl OpenSleeps {
    pub(super) fn new(data: MapData) -> Result<Self, MapError> {
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(MapError::IoError)?;
        Ok(Self { map: BpfHashMap::try_from(Map::HashMap(data))?, fd, keys: Vec::new(), values: Vec::new() })
    }

    /// Whether the table can be read with the privileges of this moment.
    pub(super) fn can_read(&self) -> bool {
        sys::read_hash::<u32, SleepValue>(self.fd.as_fd(), &mut Vec::new(), &mut Vec::new()).is_ok()
    }

    /// Enters a sleep that began before the programs did, unless the table has one for that thread.
    pub fn seed(&mut self, thread: u32, cgroup: u64, now_ns: u64) -> io::Result<()> {
        let new = SleepValue(Sleep { cgroup, start_ns: now_ns });
        match self.map.insert(thread, new, BPF_NOEXIST) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() != Some(libc::EEXIST) => {
                Err(error.io_error)
            }
            _ => Ok(()),
        }
    }

    /// Books what lasts and removes what is none; returns how many entries stay.
    pub fn read(
        &mut self,
        now_ns: u64,
        mut state: impl FnMut(u32) -> TaskState,
        sample: &mut Sample,
    ) -> io::Result<u64> {
        let mut keys = std::mem::take(&mut self.keys);
        let mut values = std::mem::take(&mut self.values);
        sys::read_hash(self.fd.as_fd(), &mut keys, &mut values)?;
        let mut open = keys.len() as u64;
        for (thread, SleepValue(sleep)) in keys.iter().zip(&values) {
            let age_ns = now_ns.saturating_sub(sleep.start_ns);
            if age_ns < YOUNG_NS {
                continue;
            }
            match state(*thread) {
                TaskState::Uninterruptible => {
                    if self.move_start(*thread, *sleep, now_ns)? {
                        sample.added.push(Added {
                            cgroup: sleep.cgroup,
                            uninterruptible_ns: age_ns,
                            ..Added::default()
                        });
                    }
                }
                TaskState::Other if age_ns >= OLD_NS => {
                    self.remove_phantom(*thread, *sleep)?;
                    open -= 1;
                }
                TaskState::Other | TaskState::Unknown => {}
            }
        }
        self.keys = keys;
        self.values = values;
        Ok(open)
    }

    /// False when the sleep ended meanwhile: the program has booked all of it.
    fn move_start(&mut self, thread: u32, sleep: Sleep, now_ns: u64) -> io::Result<bool> {
        if !self.is_still(thread, sleep)? {
            return Ok(false);
        }
        match self.map.insert(thread, SleepValue(Sleep { start_ns: now_ns, ..sleep }), BPF_EXIST) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn remove_phantom(&mut self, thread: u32, sleep: Sleep) -> io::Result<()> {
        if self.is_still(thread, sleep)? {
            match self.map.remove(&thread) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }

    fn is_still(&self, thread: u32, sleep: Sleep) -> io::Result<bool> {
        match self.map.get(&thread, 0) {
            Ok(SleepValue(now)) => Ok(now == sleep),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Update an entry that exists, or fail (uapi/linux/bpf.h).
const BPF_EXIST: u64 = 2;
/// Make an entry, or fail if it exists.
const BPF_NOEXIST: u64 = 1;
