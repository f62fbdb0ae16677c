//! A slot's traffic on each CPU, by scope.
//!
//! What is sent may be added up in a process that a softirq of its CPU interrupts to send something else: those adds are atomic. What is
//! received over TCP and UDP is looked at by softirqs alone, or with softirqs off, and a CPU has one of those at a time: plain adds.

use crate::{
    drops::{self, add, exchange},
    offsets::{ALONE_FROM, CPUS, FETCHES},
    packet::{Direction, UDP},
};
use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use core::ptr::read_volatile;
use observer_ebpf::{
    DEFAULT_SLOTS, Drop, NetBook, SCOPES, ScopeBook,
    carried::{self, MUCH},
    flows::TCP,
};

#[map]
static NET: Array<NetBook> = Array::with_max_entries(DEFAULT_SLOTS, BPF_F_MMAPABLE);

/// Where a CPU adds up a slot's traffic with a scope.
#[inline(always)]
pub(crate) fn find(slot: u32, cpu: u32, scope: usize) -> Option<*mut ScopeBook> {
    let book = net_book(slot, cpu).filter(|_| scope < SCOPES)?;
    // SAFETY: the map's value; the scope was compared.
    Some(unsafe { (&raw mut (*book).scopes).cast::<ScopeBook>().add(scope) })
}

/// Adds a packet, or its segments.
///
/// # Safety
/// `book` must be what [`find`] found, and `is_alone` what [`is_alone`] said of that CPU.
#[inline(always)]
pub(crate) unsafe fn count(book: *mut ScopeBook, direction: Direction, carried: u64, is_alone: bool) {
    // SAFETY: as above.
    unsafe {
        match direction {
            Direction::Transmit => count_sent(book, carried),
            Direction::Receive => count_received(book, carried, is_alone),
        }
    }
}

/// The traffic of a slot on a CPU. One without books of its own uses those of the first.
#[inline(always)]
fn net_book(slot: u32, cpu: u32) -> Option<*mut NetBook> {
    let cpus = CPUS.load() as u32;
    if cpu < cpus {
        return NET.get_ptr_mut(slot * cpus + cpu);
    }
    drops::count(Drop::PacketNewCpu);
    NET.get_ptr_mut(slot * cpus)
}

/// # Safety
/// `book` must be in a map's value.
#[inline(always)]
unsafe fn count_sent(book: *mut ScopeBook, carried: u64) {
    // SAFETY: as above.
    let [first, second] = unsafe { [&raw mut (*book).sent[0], &raw mut (*book).sent[1]] };
    if FETCHES.load() == 0 {
        let (bytes, packets) = carried::parts(carried);
        add(first, bytes);
        add(second, packets);
        return;
    }
    add(first, carried);
    // SAFETY: as above.
    unsafe {
        if read_volatile(first) & MUCH != 0 {
            move_on(first, second);
        }
    }
}

/// Moves what is much from the first word to the second. Whoever reads the second one before the first sees less for a moment, never more.
///
/// # Safety
/// The words must be those of one book.
#[inline(never)]
unsafe fn move_on(first: *mut u64, second: *mut u64) {
    // SAFETY: as above.
    let [stays, moves] = carried::split(unsafe { exchange(first, 0) });
    add(second, moves);
    add(first, stays);
}

/// Whether nothing else adds to what a CPU receives while a program does that looks at a packet of this protocol. Sockets of others (L2TP, a
/// multicast router's) may have packets that a process looks at, with softirqs on.
#[inline(always)]
pub(crate) fn is_alone(cpu: u32, protocol: u8) -> bool {
    (protocol == TCP || protocol == UDP) && cpu < CPUS.load() as u32 && cpu >= ALONE_FROM.load() as u32
}

/// # Safety
/// `book` must be in a map's value.
#[inline(always)]
unsafe fn count_received(book: *mut ScopeBook, carried: u64, is_alone: bool) {
    let (bytes, packets) = carried::parts(carried);
    // SAFETY: as above.
    unsafe {
        if is_alone {
            (*book).receive_bytes += bytes;
            (*book).receive_packets += packets;
        } else {
            add(&raw mut (*book).receive_bytes, bytes);
            add(&raw mut (*book).receive_packets, packets);
        }
    }
}
