//! What is told of once, whoever tells of it: several CPUs may find the same socket to be over, or look at it, at the same moment. Each takes
//! by one instruction that says what was there before.

use crate::{
    drops::{add, exchange, fetch_add},
    offsets::{FETCHES, top_bit},
};
use core::ptr::read_volatile;
use observer_ebpf::flows::{CLAIM_OF_CONNECTION, CLAIM_OF_END, CLAIMS, OVER, RELEASED, SocketBook};

/// Takes what a socket has carried one way and nobody has told of.
///
/// # Safety
/// `word` must be in a socket's storage.
#[inline(always)]
pub(crate) unsafe fn take(word: *mut u64) -> u64 {
    if FETCHES.load() != 0 {
        // SAFETY: as above.
        return unsafe { exchange(word, 0) };
    }
    // Where two take at the same moment, what was there is told of twice, and then there is less than nothing until as much has been carried.
    // SAFETY: as above.
    let there = unsafe { read_volatile(word) };
    let taken = there & top_bit(there).wrapping_sub(1);
    add(word, taken.wrapping_neg());
    taken
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

/// The connection is over: what its socket carries from here on is handed over. Whoever says so has the socket locked.
///
/// # Safety
/// As for [`release`].
#[inline(always)]
pub(crate) unsafe fn mark_over(socket: *mut SocketBook) {
    // SAFETY: as above.
    unsafe {
        if read_volatile(&raw const (*socket).marks) & OVER == 0 {
            add(&raw mut (*socket).marks, OVER);
        }
    }
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
