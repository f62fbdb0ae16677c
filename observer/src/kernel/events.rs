//! The ring buffer of cgroups made and removed.

use aya::maps::{MapData, RingBuf};
use observer_ebpf::CgroupEvent;
use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

/// What came to pass with a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime<'a> {
    /// Made, with the bytes of its path below the root of the v2 hierarchy.
    Made {
        /// Its id.
        cgroup: u64,
        /// Absolute, from the hierarchy's root.
        path: &'a [u8],
    },
    /// Removed.
    Removed {
        /// Its id.
        cgroup: u64,
    },
}

/// The reading end.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// A descriptor that is readable when there are events.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring buffer holds its descriptor open for as long as this borrow lasts.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Hands every event on, oldest first.
    pub fn drain(&mut self, mut each: impl FnMut(Lifetime<'_>)) {
        while let Some(record) = self.ring.next() {
            if let Some(event) = parse(&record) {
                each(event);
            }
        }
    }
}

fn parse(record: &[u8]) -> Option<Lifetime<'_>> {
    let (head, rest) = record.split_at_checked(size_of::<CgroupEvent>())?;
    let cgroup = u64::from_ne_bytes(head[..8].try_into().ok()?);
    let kind = u32::from_ne_bytes(head[8..12].try_into().ok()?);
    let path_bytes = u32::from_ne_bytes(head[12..16].try_into().ok()?) as usize;
    match kind {
        CgroupEvent::MADE => Some(Lifetime::Made { cgroup, path: rest.get(..path_bytes)? }),
        CgroupEvent::REMOVED => Some(Lifetime::Removed { cgroup }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, path_bytes: u32, path: &[u8]) -> Vec<u8> {
        let mut bytes = 7u64.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(path_bytes.to_ne_bytes());
        bytes.extend(path);
        bytes
    }

    #[test]
    fn an_event_carries_the_id_and_the_path() {
        let made = record(CgroupEvent::MADE, 2, b"/a");
        assert_eq!(parse(&made), Some(Lifetime::Made { cgroup: 7, path: b"/a" }));
        assert_eq!(parse(&record(CgroupEvent::REMOVED, 0, b"")), Some(Lifetime::Removed { cgroup: 7 }));
    }

    #[test]
    fn a_record_that_is_cut_short_is_no_event() {
        assert_eq!(parse(&record(CgroupEvent::MADE, 3, b"/a")), None);
        assert_eq!(parse(&record(9, 0, b"")), None);
        assert_eq!(parse(b"short"), None);
    }
}
