//! Uninterruptible sleeps that have not ended: told to the books while they last, and held against /proc.
//!
//! Not every end reaches the program, so an entry proves nothing by itself. A sleep that /proc confirms is booked up to now
//! and its start moved there: the program books the rest when it ends, and the sum is exact. An entry older than two
//! seconds whose task is found not to sleep, and half a second later again, is a phantom and goes unbooked: the first time
//! it may just have been woken, and the program books it when it gets its CPU.

use super::{shared::SharedArray, sys};
use crate::ledger::{Added, Lasting, Sample};
use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use observer_ebpf::Sleep;
use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::Ordering,
};

/// Entries younger than this are left alone: nearly every sleep ends sooner.
const YOUNG_NS: u64 = 500_000_000;
/// Entries older than this must be confirmed.
const OLD_NS: u64 = 2_000_000_000;
/// How long a task that does not sleep keeps its entry: longer than it waits for a CPU, as a rule.
const SUSPECT_NS: u64 = 500_000_000;
/// Entries of which nobody can tell anything are given up after this.
const UNKNOWN_NS: u64 = 3_600_000_000_000;

/// What /proc says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It sleeps uninterruptibly.
    Uninterruptible,
    /// It does something else.
    Other,
    /// There is no such thread any more.
    Gone,
    /// Nobody can tell: neither confirm nor remove.
    Unknown,
}

/// The table of open sleeps.
pub struct OpenSleeps {
    map: BpfHashMap<MapData, u32, SleepValue>,
    /// The same map, for reading it whole.
    fd: OwnedFd,
    /// Grows when a sleep begins.
    begun: SharedArray<u64>,
    /// That number before the table was last found empty.
    empty_at: Option<u64>,
    keys: Vec<u32>,
    values: Vec<SleepValue>,
    /// Entries whose task was found not to sleep, by thread and start, and when.
    suspects: HashMap<(u32, u64), u64>,
    given_up: u64,
}

/// [`Sleep`] as aya wants it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct SleepValue(Sleep);

// SAFETY: two words of plain data.
unsafe impl aya::Pod for SleepValue {}

impl OpenSleeps {
    pub(super) fn new(data: MapData, begun: SharedArray<u64>) -> Result<Self, MapError> {
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(MapError::IoError)?;
        Ok(Self {
            map: BpfHashMap::try_from(Map::HashMap(data))?,
            fd,
            begun,
            empty_at: None,
            keys: Vec::new(),
            values: Vec::new(),
            suspects: HashMap::new(),
            given_up: 0,
        })
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

    /// Entries that were removed after an hour because nobody could tell whether their task slept.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Books what lasts and removes what is none; returns how many entries stay.
    pub fn read(
        &mut self,
        now_ns: u64,
        mut state: impl FnMut(u32) -> TaskState,
        sample: &mut Sample,
    ) -> io::Result<u64> {
        let begun = self.begun.words(0)?[0].load(Ordering::Acquire);
        if self.empty_at == Some(begun) {
            return Ok(0);
        }
        let mut keys = std::mem::take(&mut self.keys);
        let mut values = std::mem::take(&mut self.values);
        sys::read_hash(self.fd.as_fd(), &mut keys, &mut values)?;
        let mut open = keys.len() as u64;
        self.empty_at = (open == 0).then_some(begun);
        let suspects = std::mem::take(&mut self.suspects);
        for (thread, SleepValue(sleep)) in keys.iter().zip(&values) {
            let age_ns = now_ns.saturating_sub(sleep.start_ns);
            if age_ns < YOUNG_NS {
                let Sleep { cgroup, start_ns } = *sleep;
                let (thread, on_queue) = (*thread, false);
                sample.lasting.push(Lasting { cgroup, thread, on_queue, since_ns: start_ns, active_ns: age_ns });
                continue;
            }
            let phantom = match state(*thread) {
                TaskState::Uninterruptible => {
                    if self.move_start(*thread, *sleep, now_ns)? {
                        sample.added.push(Added {
                            cgroup: sleep.cgroup,
                            uninterruptible_ns: age_ns,
                            ..Added::default()
                        });
                    }
                    false
                }
                TaskState::Gone => true,
                TaskState::Other => {
                    let entry = (*thread, sleep.start_ns);
                    let since_ns = *self.suspects.entry(entry).or_insert(suspects.get(&entry).map_or(now_ns, |at| *at));
                    age_ns >= OLD_NS && now_ns.saturating_sub(since_ns) >= SUSPECT_NS
                }
                TaskState::Unknown => {
                    self.given_up += u64::from(age_ns >= UNKNOWN_NS);
                    age_ns >= UNKNOWN_NS
                }
            };
            if phantom {
                self.remove_phantom(*thread, *sleep)?;
                open -= 1;
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
