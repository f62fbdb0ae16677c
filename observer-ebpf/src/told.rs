//! What is told of once, whoever tells of it: several CPUs may find the same socket to be over, or look at it, at the same moment. Each takes
//! by one instruction that says what was there before, and gives back what it did not get.

use crate::{
    drops::{add, fetch_add},
    offsets::{FETCHES, top_bit},
};
use core::ptr::read_volatile;
use observer_ebpf::{
    Traffic,
    flows::{CLAIM_OF_CONNECTION, CLAIM_OF_END, CLAIMS, RELEASED, SocketBook},
};

/// How often it is tried where others take at the same moment: after each time another one of them has what it asked for.
const ROUNDS: u32 = 3;

/// Takes what a socket has carried and nobody has told of. What is there and what was taken are together what was added, at any moment at which
/// nobody takes. While somebody gives back, there may be less than nothing: then that one looks again.
///
/// # Safety
/// `traffic` must be in a socket's storage.
#[inline(always)]
pub(crate) unsafe fn take(traffic: *mut Traffic) -> Traffic {
    let mut taken = Traffic::default();
    for _ in 0..ROUNDS {
        // SAFETY: as above.
        let missed = unsafe {
            take_word(&raw mut (*traffic).transmit_bytes, &mut taken.transmit_bytes)
                | take_word(&raw mut (*traffic).transmit_packets, &mut taken.transmit_packets)
                | take_word(&raw mut (*traffic).receive_bytes, &mut taken.receive_bytes)
                | take_word(&raw mut (*traffic).receive_packets, &mut taken.receive_packets)
        };
        if missed == 0 {
            break;
        }
    }
    taken
}

/// Takes from a word and tells how much somebody else got that had been seen there. Without a branch, see [`top_bit`].
///
/// # Safety
/// As for [`take`].
#[inline(always)]
unsafe fn take_word(word: *mut u64, taken: &mut u64) -> u64 {
    // SAFETY: as above.
    let there = above_zero(unsafe { read_volatile(word) });
    // SAFETY: as above.
    let fetched = unsafe { fetch_add(word, there.wrapping_neg()) };
    let before = if FETCHES.load() == 0 { there } else { fetched };
    let lacking = above_zero(there.wrapping_sub(before));
    // At most all of it.
    let missed = lacking.wrapping_sub(above_zero(lacking.wrapping_sub(there)));
    add(word, missed);
    *taken = taken.wrapping_add(there.wrapping_sub(missed));
    missed
}

/// A number with a sign, or zero if it is below that.
#[inline(always)]
fn above_zero(number: u64) -> u64 {
    number & top_bit(number).wrapping_sub(1)
}

/// Gives back what could not be told of.
///
/// # Safety
/// As for [`take`].
#[inline(always)]
pub(crate) unsafe fn give_back(traffic: *mut Traffic, taken: &Traffic) {
    // SAFETY: as above.
    unsafe {
        add(&raw mut (*traffic).transmit_bytes, taken.transmit_bytes);
        add(&raw mut (*traffic).transmit_packets, taken.transmit_packets);
        add(&raw mut (*traffic).receive_bytes, taken.receive_bytes);
        add(&raw mut (*traffic).receive_packets, taken.receive_packets);
    }
}

/// Nobody has the socket open any more. Whoever adds to it from here on sees that: on x86-64 the instruction is a barrier.
///
/// # Safety
/// `socket` must be a socket's storage.
#[inline(always)]
pub(crate) unsafe fn release(socket: *mut SocketBook) {
    // SAFETY: as above.
    unsafe { add(&raw mut (*socket).marks, RELEASED) }
}

/// # Safety
/// As for [`release`].
#[inline(always)]
pub(crate) unsafe fn is_released(socket: *const SocketBook) -> bool {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const (*socket).marks) & RELEASED != 0 }
}

/// Whether nobody has told of a socket's connection: the caller does.
///
/// # Safety
/// As for [`release`].
#[inline(always)]
pub(crate) unsafe fn claim_connection(socket: *mut SocketBook) -> bool {
    // SAFETY: as above.
    unsafe { claim(socket, CLAIM_OF_CONNECTION) }
}

/// The same of its end.
///
/// # Safety
/// As for [`release`].
#[inline(always)]
pub(crate) unsafe fn claim_end(socket: *mut SocketBook) -> bool {
    // SAFETY: as above.
    unsafe { claim(socket, CLAIM_OF_END) }
}

/// # Safety
/// As for [`release`].
#[inline(always)]
unsafe fn claim(socket: *mut SocketBook, one: u64) -> bool {
    // SAFETY: as above.
    let marks = unsafe { &raw mut (*socket).marks };
    let of_these = one * CLAIMS;
    // SAFETY: as above.
    if unsafe { read_volatile(marks) } & of_these != 0 {
        return false;
    }
    // SAFETY: as above.
    let before = unsafe { fetch_add(marks, one) };
    if FETCHES.load() == 0 || before & of_these == 0 {
        return true;
    }
    add(marks, one.wrapping_neg());
    false
}

/// How many of the segments that a socket sent again nobody has told of: the caller does. Exact for two at once, who are the one that looks
/// at open sockets and the one whose end it is.
///
/// # Safety
/// As for [`release`].
#[inline(always)]
pub(crate) unsafe fn claim_retransmits(socket: *mut SocketBook, total: u32) -> u32 {
    // SAFETY: as above.
    let marks = unsafe { &raw mut (*socket).marks };
    // SAFETY: as above.
    let more = total.saturating_sub(unsafe { read_volatile(marks) } as u32);
    if more == 0 {
        return 0;
    }
    // SAFETY: as above.
    let before = unsafe { fetch_add(marks, more.into()) } as u32;
    if FETCHES.load() == 0 {
        return more;
    }
    let due = total.saturating_sub(before).min(more);
    if due != more {
        add(marks, u64::from(more - due).wrapping_neg());
    }
    due
}
