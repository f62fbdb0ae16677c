//! What open sockets have carried so far, asked for by user space: an iterator over their storage, called once for each.

use crate::{
    offsets::{SOCK_STATE, TCP_ACTIVE, TCP_ROUND_TRIP, TCP_TOTAL_RETRANS, peek},
    sockets,
};
use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use observer_ebpf::flows::{SocketBook, SocketState, TCP, UNDECIDED};

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

/// Tells of one socket: its book, then its state.
#[inline(always)]
pub(crate) fn tell(element: *const Element) {
    // SAFETY: the program's context; the verifier knows its fields.
    let (seq, sk, book) = unsafe { ((*(*element).meta).seq, (*element).sk, (*element).value) };
    // After the last there is a call without one.
    if sk.is_null() || book.is_null() {
        return;
    }
    let sk = sk as u64;
    // SAFETY: neither is null.
    unsafe {
        let mut state = SocketState { state: peek::<u8>(sk, &SOCK_STATE).into(), ..SocketState::default() };
        if (*book).protocol == TCP {
            if (*book).direction == UNDECIDED {
                (*book).direction = sockets::opener_of(sk);
            }
            state.active_us = peek(sk, &TCP_ACTIVE);
            state.retransmits = peek(sk, &TCP_TOTAL_RETRANS);
            state.round_trip_us = peek::<u32>(sk, &TCP_ROUND_TRIP) >> 3;
        }
        // What does not fit is asked for again by the kernel, from the start of this element.
        bpf_seq_write(seq, book.cast(), size_of::<SocketBook>() as u32);
        bpf_seq_write(seq, (&raw mut state).cast(), size_of::<SocketState>() as u32);
    }
}
