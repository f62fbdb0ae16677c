//! What open sockets have carried so far, asked for by user space: an iterator over their storage, called once for each.

use crate::{
    offsets::{SOCK_STATE, TCP_ROUND_TRIP, TCP_TOTAL_RETRANS, peek},
    sockets,
};
use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use observer_ebpf::flows::{SocketBook, SocketState, TCP, TCP_SYN_SENT, TOLD, UNDECIDED, is_connection};

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

/// Tells of one socket: its book, then its state. What is told is taken: it is not told again.
#[inline(always)]
pub(crate) fn tell(element: *const Element) {
    // SAFETY: the program's context; the verifier knows its fields.
    let (seq, sk, socket) = unsafe { ((*(*element).meta).seq, (*element).sk, (*element).value) };
    // After the last there is a call without one.
    if sk.is_null() || socket.is_null() {
        return;
    }
    let sk = sk as u64;
    // SAFETY: neither is null.
    unsafe {
        let mut state = SocketState { state: peek::<u8>(sk, &SOCK_STATE).into(), ..SocketState::default() };
        let mut sent_again: u32 = 0;
        if (*socket).protocol == TCP {
            if (*socket).direction == UNDECIDED {
                (*socket).direction = sockets::opener_of(sk);
            }
            let is_open = (*socket).is_released == 0 && is_connection(state.state);
            state.is_new = u32::from(is_open && (*socket).told == 0);
            state.round_trip_us = peek::<u32>(sk, &TCP_ROUND_TRIP) >> 3;
            // One that asks and is not answered yet asks again.
            if is_open || ((*socket).is_released == 0 && state.state == TCP_SYN_SENT) {
                sent_again = peek(sk, &TCP_TOTAL_RETRANS);
                state.retransmits = sent_again.saturating_sub((*socket).told_retransmits);
            }
        }
        let mut book = *socket;
        // What does not fit is asked for again by the kernel, from the start of this element.
        if bpf_seq_write(seq, (&raw mut book).cast(), size_of::<SocketBook>() as u32) != 0
            || bpf_seq_write(seq, (&raw mut state).cast(), size_of::<SocketState>() as u32) != 0
        {
            return;
        }
        sockets::subtract(&raw mut (*socket).traffic, &book.traffic);
        if state.is_new != 0 {
            (*socket).told = TOLD;
        }
        if state.retransmits != 0 {
            (*socket).told_retransmits = sent_again;
        }
    }
}
