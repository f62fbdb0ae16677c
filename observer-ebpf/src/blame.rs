//! Who had the CPU while somebody waited for it: sums by kind in arrays, and the large parts pair by pair.

use crate::{
    drops,
    offsets::{CFS_RQ_RQ, WAIT_THRESHOLD_NS, peek},
    throttle,
    turns::{entry, of},
};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap},
};
use observer_ebpf::{
    DEFAULT_SLOTS, Drop, TURNS as REMEMBERED,
    causes::{By, CAUSES as KINDS, CauseBook, IDLE, LARGE_PART_NS, MAX_WAIT_PAIRS, THROTTLED, WaitPair, take_part},
};

/// The size is set at load.
#[map]
static CAUSES: Array<CauseBook> = Array::with_max_entries(DEFAULT_SLOTS, BPF_F_MMAPABLE);
/// What user space has not fetched yet.
#[map]
static WAIT_PAIRS: HashMap<WaitPair, u64> = HashMap::with_max_entries(MAX_WAIT_PAIRS, 0);

/// Grows whenever something came into that table: spares user space the look at every bucket.
#[map]
static WAIT_PAIRS_BOOKED: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The entry of a victim and the CPU it waited for, as one word: functions take no more than five.
#[inline(always)]
pub(crate) fn victims_book(entry: u32, cpu: u32) -> u64 {
    (u64::from(cpu) << 32) | u64::from(entry)
}

/// Books a wait that ends now on those who had the CPU meanwhile, or on the victim's own quota. `at` is of [`victims_book`]. A function of
/// its own: the way of long waits only.
#[inline(never)]
pub(crate) fn book_wait(at: u64, victim: u64, queue: u64, wait_ns: u64, now_ns: u64) -> u64 {
    let (book, cpu) = (at as u32, (at >> 32) as u32);
    let throttled_ns = throttle::look(queue, now_ns - wait_ns, now_ns);
    if throttled_ns > 0 {
        charge(book, victim, book, THROTTLED, throttled_ns);
    }
    // What is left is at the end: a group that may run again stands in line first.
    let waited_ns = wait_ns.saturating_sub(throttled_ns);
    if waited_ns > WAIT_THRESHOLD_NS.load() {
        blame(book, cpu, victim, waited_ns, now_ns);
    }
    0
}

/// Books what of a wait was for the quota of the group that the task was in when it lost the CPU, if it has been moved to another since:
/// the kernel leaves such a wait in one piece. Returns how much that was.
#[inline(always)]
pub(crate) fn book_left(at: u64, victim: u64, [former_queue, queue]: [u64; 2], wait_ns: u64, now_ns: u64) -> u64 {
    // A group that is gone has left something else there, or nothing.
    if former_queue == queue || peek::<u64>(former_queue, &CFS_RQ_RQ) != peek(queue, &CFS_RQ_RQ) {
        return 0;
    }
    charge_left(at, victim, former_queue, wait_ns, now_ns)
}

#[inline(never)]
fn charge_left(at: u64, victim: u64, former_queue: u64, wait_ns: u64, now_ns: u64) -> u64 {
    let throttled_ns = throttle::so_far(former_queue, now_ns - wait_ns, now_ns);
    if throttled_ns > 0 {
        charge(at as u32, victim, at as u32, THROTTLED, throttled_ns);
    }
    throttled_ns
}

/// The queue of a task's turn that ended at a time; 0 if there is none, because it was asleep before. Who loses the CPU without falling
/// asleep waits from that very moment on.
#[inline(never)]
pub(crate) fn queue_of_turn_until(cpu: u32, thread: u32, end_ns: u64) -> u64 {
    let Some(turns) = of(cpu) else { return 0 };
    // SAFETY: nobody writes it: interrupts are off.
    let newest = unsafe { (*turns).begun };
    let mut ended_ns = 0;
    for back in 0..REMEMBERED as u64 {
        // SAFETY: as above.
        let turn = unsafe { *entry(turns, newest - back) };
        if ended_ns == end_ns {
            return if turn.thread == thread { turn.queue } else { 0 };
        }
        if turn.since_ns < end_ns {
            break;
        }
        ended_ns = turn.since_ns;
    }
    0
}

#[inline(always)]
fn blame(book: u32, cpu: u32, victim: u64, waited_ns: u64, now_ns: u64) {
    let Some(turns) = of(cpu) else { return };
    let from_ns = now_ns - waited_ns;
    // SAFETY: nobody writes it: interrupts are off, and the lock of that CPU's run queue is held.
    let (newest, oldest) = unsafe { ((*turns).begun, *entry(turns, (*turns).begun + 1)) };
    // A wait that goes further back than the turns is taken to have been like what is known of it.
    let known_ns = now_ns.saturating_sub(oldest.since_ns);
    let scale = if oldest.since_ns > from_ns && known_ns > 0 { (waited_ns << SCALE_BITS) / known_ns } else { ONE };
    let (mut culprit, mut culprits_book, mut held_ns, mut end_ns) = (THROTTLED, 0, 0, now_ns);
    for back in 0..REMEMBERED as u64 {
        // SAFETY: as above.
        let turn = unsafe { *entry(turns, newest - back) };
        if turn.since_ns == 0 {
            break;
        }
        if turn.cgroup != culprit {
            if held_ns > 0 {
                charge(book, victim, culprits_book, culprit, (held_ns * scale) >> SCALE_BITS);
            }
            (culprit, culprits_book, held_ns) = (turn.cgroup, turn.book, 0);
        }
        held_ns += end_ns.saturating_sub(turn.since_ns.max(from_ns));
        if turn.since_ns <= from_ns {
            break;
        }
        end_ns = turn.since_ns;
    }
    if held_ns > 0 {
        charge(book, victim, culprits_book, culprit, (held_ns * scale) >> SCALE_BITS);
    }
}

/// Fixed point of the scale: waits of up to a day stay within 64 bits.
const SCALE_BITS: u32 = 16;
const ONE: u64 = 1 << SCALE_BITS;

/// Books a culprit's part of a wait.
#[inline(never)]
fn charge(book: u32, victim: u64, culprits_book: u32, culprit: u64, ns: u64) -> u64 {
    let kind = kind(book, victim, culprits_book, culprit);
    if kind >= KINDS as u32 {
        // Exactly, since its kind is told from the pair.
        return add(victim, culprit, 1, ns);
    }
    if let Some(causes) = CAUSES.get_ptr_mut(book) {
        // SAFETY: this CPU's own entry, with interrupts off; the index was compared.
        unsafe { *(&raw mut (*causes).caused_ns).cast::<u64>().add(kind as usize) += ns };
    }
    let mut taken_ns = ns;
    if ns < LARGE_PART_NS {
        // SAFETY: the helper has no preconditions.
        let Some(turns) = of(unsafe { bpf_get_smp_processor_id() }) else { return 0 };
        // SAFETY: as above.
        unsafe { ((*turns).parts_ns, taken_ns) = take_part((*turns).parts_ns, ns) };
    }
    if taken_ns > 0 {
        add(victim, culprit, 0, taken_ns);
    }
    0
}

/// As a number of [`By`], or [`UNKNOWN`] while user space has not told what the two are part of.
#[inline(always)]
fn kind(book: u32, victim: u64, culprits_book: u32, culprit: u64) -> u32 {
    if culprit == THROTTLED {
        return By::Throttled as u32;
    }
    if culprit == victim {
        return By::SameContainer as u32;
    }
    if culprit == IDLE {
        return By::Host as u32;
    }
    let (Some(victims), Some(culprits)) = (CAUSES.get_ptr_mut(book), CAUSES.get_ptr_mut(culprits_book)) else {
        return UNKNOWN;
    };
    // SAFETY: entries of the map; the memberships are user space's, which writes the owner last.
    unsafe {
        if core::ptr::read_volatile(&raw const (*victims).owner) != victim
            || core::ptr::read_volatile(&raw const (*culprits).owner) != culprit
        {
            return UNKNOWN;
        }
        By::of((*victims).membership, (*culprits).membership) as u32
    }
}

const UNKNOWN: u32 = KINDS as u32;

#[inline(never)]
fn add(victim: u64, culprit: u64, is_open: u64, ns: u64) -> u64 {
    let pair = WaitPair { victim, culprit, is_open };
    if let Some(sum) = WAIT_PAIRS.get_ptr_mut(pair) {
        drops::add(sum, ns);
    } else if WAIT_PAIRS.insert(pair, ns, u64::from(BPF_NOEXIST)).is_err() {
        // Another CPU was first, or there is no room.
        match WAIT_PAIRS.get_ptr_mut(pair) {
            Some(sum) => drops::add(sum, ns),
            None => drops::count(Drop::WaitPairTable),
        }
    }
    // Only now: user space that sees the number sees the pair.
    if let Some(booked) = WAIT_PAIRS_BOOKED.get_ptr_mut(0) {
        drops::add(booked, 1);
    }
    0
}
