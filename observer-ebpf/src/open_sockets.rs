//! What open sockets have carried so far, asked for by user space: an iterator over their storage, called once for each.

use crate::{
    drops::add,
    offsets::{SEQ_COUNT, SEQ_SIZE, SOCK_STATE, TCP_ROUND_TRIP, TCP_TOTAL_RETRANS, field, peek},
    slots, sockets,
    told::{claim_connection, claim_retransmits, is_released, take},
};
use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use observer_ebpf::flows::{
    RECORD_BYTES, SocketBook, SocketState, TCP, TCP_SYN_SENT, TOLD_OF_BOOK, UNDECIDED, is_connection,
};

/// `struct bpf_iter__bpf_sk_storage_map`
#[repr(C)]
pub(crate) struct Element {
    meta: *const Meta,
    map: *const u8,
    sk: *const u8,
    value: *mut SocketBook,
}

/// The head of `struct bpf_iter_meta`
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Tells of one socket: its book, then its state. What is told is taken: it is not told again. Nor is the socket itself, as long as it is
/// the same look: where others come and go meanwhile, the kernel shows some twice.
#[inline(always)]
pub(crate) fn tell(element: *const Element) {
    // SAFETY: the program's context; the verifier knows its fields.
    let (seq, sk, socket) = unsafe { ((*(*element).meta).seq, (*element).sk, (*element).value) };
    // After the last there is a call without one.
    if sk.is_null() || socket.is_null() {
        return;
    }
    // SAFETY: neither is null.
    unsafe {
        let look = slots::control().look as u32;
        if (*socket).look == look {
            return;
        }
        let mut book = *socket;
        let mut state = SocketState { state: peek::<u8>(sk as u64, &SOCK_STATE).into(), ..SocketState::default() };
        let (size, written): (u64, u64) = (field(seq.cast(), &SEQ_SIZE), field(seq.cast(), &SEQ_COUNT));
        // What does not fit is asked for again by the kernel, once there is room: until then nothing is taken, since there may be nobody
        // to give it back to. What is written tells the kernel of it.
        let fits = written + (RECORD_BYTES as u64) < size;
        if fits {
            (book.sent, book.received) = (take(&raw mut (*socket).sent), take(&raw mut (*socket).received));
            if book.protocol == TCP {
                tell_of_connection(sk as u64, socket, &mut state);
                book.direction = (*socket).direction;
            }
        }
        let is_written = bpf_seq_write(seq, (&raw mut book).cast(), TOLD_OF_BOOK as u32) == 0
            && bpf_seq_write(seq, (&raw mut book.received).cast(), size_of::<u64>() as u32) == 0
            && bpf_seq_write(seq, (&raw mut state).cast(), size_of::<SocketState>() as u32) == 0;
        if fits && is_written {
            (*socket).look = look;
        } else if fits {
            add(&raw mut (*socket).sent, book.sent);
            add(&raw mut (*socket).received, book.received);
        }
    }
}

/// # Safety
/// `socket` must be the storage of the TCP socket at `sk`.
#[inline(always)]
unsafe fn tell_of_connection(sk: u64, socket: *mut SocketBook, state: &mut SocketState) {
    // SAFETY: as above.
    unsafe {
        if (*socket).direction == UNDECIDED {
            (*socket).direction = sockets::opener_of(sk);
        }
        state.round_trip_us = peek::<u32>(sk, &TCP_ROUND_TRIP) >> 3;
        if is_released(socket) {
            return;
        }
        let is_open = is_connection(state.state);
        state.is_new = u32::from(is_open && claim_connection(socket));
        // One that asks and is not answered yet asks again.
        if is_open || state.state == TCP_SYN_SENT {
            state.retransmits = claim_retransmits(socket, peek(sk, &TCP_TOTAL_RETRANS));
        }
    }
}
