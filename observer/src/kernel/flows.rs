//! What sockets have carried, by far end: those that have closed from two tables in turn, those that are open from an iterator over
//! their storage. Neither needs a privilege once it is set up.

use super::{in_turn::InTurn, sys};
use observer_ebpf::{
    Traffic, UNATTRIBUTED_SLOT,
    flows::{FlowKey, FlowSum, RECORD_BYTES, SocketBook, SocketState, TOLD_OF_BOOK},
};
use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

/// As much as the kernel hands out at once.
const BUFFER_BYTES: usize = 32 * 1024;
/// How often one look goes through all sockets at most.
const PASSES: usize = 4;

/// The flows of sockets that have closed.
pub(super) type ClosedFlows = InTurn<Key, Sum>;

/// [`FlowKey`] as aya wants it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Key(pub(super) FlowKey);

/// [`FlowSum`] as aya wants it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Sum(pub(super) FlowSum);

// SAFETY: plain data without gaps.
unsafe impl aya::Pod for Key {}
// SAFETY: as above.
unsafe impl aya::Pod for Sum {}

/// An open socket: what it carried to and from its far end since it was told of last, and how it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenSocket {
    /// Its book, as far as it is told.
    pub book: SocketBook,
    /// The rest.
    pub state: SocketState,
}

/// The iterator over open sockets.
pub(super) struct OpenSockets {
    link: OwnedFd,
}

impl OpenSockets {
    /// Links the program, which must be loaded, with the map of sockets.
    pub(super) fn new(program: BorrowedFd<'_>, sockets: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { link: sys::link_map_iterator(program, sockets)? })
    }

    /// One look at every socket that has carried anything: each is told of once. Whenever the kernel waits for room it goes on behind as
    /// many as it has shown, whatever came and went before these meanwhile, and passes over some. The next pass tells of those, for which
    /// there is room at once.
    pub(super) fn read(&self, mut each: impl FnMut(&OpenSocket)) -> io::Result<()> {
        for _ in 0..PASSES {
            if self.pass(&mut each)? {
                break;
            }
        }
        Ok(())
    }

    /// Goes through all sockets, and tells of those that this look was not told of. Whether there was room for all at once.
    fn pass(&self, each: &mut impl FnMut(&OpenSocket)) -> io::Result<bool> {
        let mut file = File::from(sys::begin_iterator(self.link.as_fd())?);
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut filled, mut fills) = (0, 0);
        loop {
            let bytes = match file.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(fills <= 1),
                // After a million sockets of which there was nothing to tell. It goes on behind them.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                told => told?,
            };
            filled += bytes;
            fills += 1;
            // A record may be handed out in parts.
            let whole = filled / RECORD_BYTES * RECORD_BYTES;
            buffer[..whole].chunks_exact(RECORD_BYTES).for_each(|record| each(&OpenSocket::of(record)));
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}

impl OpenSocket {
    /// What of it has not been told before.
    pub fn carried(&self) -> Option<(FlowKey, FlowSum)> {
        let Self { book, state } = self;
        let sum = FlowSum {
            traffic: book.traffic(),
            connections: state.is_new.into(),
            retransmits: state.retransmits.into(),
            ..FlowSum::default()
        };
        (sum != FlowSum::default()).then(|| {
            let carries = sum.traffic != Traffic::default();
            let key = book.flow();
            let nobody = carries && book.slot == UNATTRIBUTED_SLOT;
            (FlowKey { cgroup: if nobody { 0 } else { key.cgroup }, ..key }, sum)
        })
    }

    fn of(record: &[u8]) -> Self {
        let mut socket = Self::default();
        let (book, rest) = record.split_at(TOLD_OF_BOOK);
        let (received, state) = rest.split_at(size_of::<u64>());
        let Self { book: into_book, state: into_state } = &mut socket;
        // SAFETY: of plain data without gaps, every bit pattern is one.
        unsafe {
            bytes_of(into_book)[..TOLD_OF_BOOK].copy_from_slice(book);
            bytes_of(&mut into_book.received).copy_from_slice(received);
            bytes_of(into_state).copy_from_slice(state);
        }
        socket
    }
}

/// # Safety
/// `T` must be plain data without gaps, of which every bit pattern is one.
unsafe fn bytes_of<T>(value: &mut T) -> &mut [u8] {
    // SAFETY: as above; as many bytes as it has, for as long as it is borrowed.
    unsafe { std::slice::from_raw_parts_mut((&raw mut *value).cast(), size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_ebpf::carried;

    #[test]
    fn a_record_is_the_head_of_a_book_what_was_received_and_a_state() {
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&7_u64.to_ne_bytes());
        record[56..64].copy_from_slice(&carried::word(1500, 1).to_ne_bytes());
        record[64..72].copy_from_slice(&carried::word(80, 2).to_ne_bytes());
        record[48..50].copy_from_slice(&443_u16.to_ne_bytes());
        record[80..84].copy_from_slice(&1_u32.to_ne_bytes());
        let OpenSocket { book, state } = OpenSocket::of(&record);
        let traffic = book.traffic();
        assert_eq!((traffic.transmit_bytes, traffic.receive_bytes), (1500, 80));
        assert_eq!((book.cgroup, book.remote_port, state.state), (7, 443, 1));
    }
}
