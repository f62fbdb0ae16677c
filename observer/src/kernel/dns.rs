//! What the programs counted of DNS: sums of those who ask, questions that nobody answers, and the answers themselves.

use super::{in_turn::InTurn, shared::SharedArray, sys};
use crate::ledger::{Added, Sample};
use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError, RingBuf};
use observer_ebpf::dns::{ASKED, Asked, DnsBook, MAX_QUESTIONS, PATIENCE_NS, Question, UNTOLD};
use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::Ordering,
};

/// The books of those who ask, by cgroup.
pub(super) type DnsBooks = InTurn<u64, Book>;

/// [`DnsBook`] as aya wants it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Book(DnsBook);

// SAFETY: plain data without gaps.
unsafe impl aya::Pod for Book {}

/// What is new of a cgroup.
pub(super) fn added(cgroup: u64, Book(book): Book) -> Added {
    Added { cgroup, dns: Some(Box::new(book)), ..Added::default() }
}

/// How long a question is open when they are so many that there may soon be no room for others.
const IMPATIENCE_NS: u64 = PATIENCE_NS / 5;
const MANY: usize = MAX_QUESTIONS as usize / 2;

/// The table of open questions.
pub(super) struct OpenQuestions {
    map: BpfHashMap<MapData, QuestionKey, AskedValue>,
    /// The same map, for reading it whole.
    fd: OwnedFd,
    counts: SharedArray<u64>,
    /// How many had been asked when the table was last found empty.
    empty_at: Option<u64>,
    open: u64,
    keys: Vec<QuestionKey>,
    values: Vec<AskedValue>,
}

/// [`Question`] as aya wants it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
struct QuestionKey(Question);

/// [`Asked`] as aya wants it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
struct AskedValue(Asked);

// SAFETY: two words of plain data.
unsafe impl aya::Pod for QuestionKey {}
// SAFETY: as above.
unsafe impl aya::Pod for AskedValue {}

impl OpenQuestions {
    pub(super) fn new(data: MapData, counts: SharedArray<u64>) -> Result<Self, MapError> {
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(MapError::IoError)?;
        let map = BpfHashMap::try_from(Map::HashMap(data))?;
        Ok(Self { map, fd, counts, empty_at: None, open: 0, keys: Vec::new(), values: Vec::new() })
    }

    /// Gives up the questions that have been open for too long, and books them on who asked.
    pub(super) fn give_up(&mut self, now_ns: u64, sample: &mut Sample) -> io::Result<()> {
        let asked = self.counts.words(ASKED as usize)?[0].load(Ordering::Acquire);
        if self.empty_at == Some(asked) {
            return Ok(());
        }
        sys::read_hash(self.fd.as_fd(), &mut self.keys, &mut self.values)?;
        self.open = self.keys.len() as u64;
        self.empty_at = self.keys.is_empty().then_some(asked);
        let patience_ns = if self.keys.len() > MANY { IMPATIENCE_NS } else { PATIENCE_NS };
        for (question, AskedValue(Asked { cgroup, at_ns, .. })) in self.keys.iter().zip(&self.values) {
            if now_ns.saturating_sub(*at_ns) < patience_ns {
                continue;
            }
            self.open -= 1;
            match self.map.remove(question) {
                Ok(()) => {
                    let book = DnsBook { unanswered: 1, ..DnsBook::default() };
                    sample.added.push(added(*cgroup, Book(book)));
                }
                // It was answered at the last moment.
                Err(MapError::KeyNotFound) => {}
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }

    /// How many were open at the last look.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// Answers that the programs could not hand over.
    pub(super) fn untold(&mut self) -> io::Result<u64> {
        Ok(self.counts.words(UNTOLD as usize)?[0].load(Ordering::Relaxed))
    }
}

/// The ring buffer of answers.
pub(super) struct Answers {
    ring: RingBuf<MapData>,
}

impl Answers {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Hands every answer on, oldest first: the cgroup that asked, and the message as far as it is told.
    pub(super) fn drain(&mut self, mut each: impl FnMut(u64, &[u8])) {
        while let Some(record) = self.ring.next() {
            if let Some((cgroup, message)) = parse(&record) {
                each(cgroup, message);
            }
        }
    }
}

/// The parts of an [`observer_ebpf::dns::Answer`].
fn parse(record: &[u8]) -> Option<(u64, &[u8])> {
    let (cgroup, rest) = record.split_first_chunk()?;
    let (bytes, message) = rest.split_first_chunk()?;
    let bytes = usize::try_from(u64::from_ne_bytes(*bytes)).ok()?;
    Some((u64::from_ne_bytes(*cgroup), message.get(..bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_who_asked_and_the_message() {
        let mut record = 7_u64.to_ne_bytes().to_vec();
        record.extend(3_u64.to_ne_bytes());
        record.extend(*b"abcde");
        assert_eq!(parse(&record), Some((7, &b"abc"[..])));
        record[8] = 6;
        assert_eq!(parse(&record), None);
        assert_eq!(parse(&record[..12]), None);
    }
}
