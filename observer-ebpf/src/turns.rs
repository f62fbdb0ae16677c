//! The last turns of each CPU, and who had it while somebody waited.

use crate::{drops, offsets::WAIT_THRESHOLD_NS, throttle};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap},
};
use observer_ebpf::{Drop, MAX_WAIT_PAIRS, THROTTLED, TURNS as REMEMBERED, Turn, Turns, WaitPair};

/// By CPU; set at load.
#[map]
static TURNS: Array<Turns> = Array::with_max_entries(1, 0);
/// What user space has not fetched yet.
#[map]
static WAIT_PAIRS: HashMap<WaitPair, u64> = HashMap::with_max_entries(MAX_WAIT_PAIRS, 0);

/// Grows whenever something came into that table: spares user space the look at every bucket. Two CPUs at once may grow it by one.
#[map]
static WAIT_PAIRS_BOOKED: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The turns of this CPU.
#[inline(always)]
pub(crate) fn of(cpu: u32) -> Option<*mut Turns> {
    TURNS.get_ptr_mut(cpu)
}

/// A task's turn begins. Interrupts are off, and only this CPU writes its turns.
///
/// # Safety
/// `turns` must be this CPU's.
#[inline(always)]
pub(crate) unsafe fn begin(turns: *mut Turns, turn: Turn, run_queue: u64) {
    // SAFETY: the caller's; the index is masked to the array.
    unsafe {
        let begun = (*turns).begun + 1;
        *entry(turns, begun) = turn;
        (*turns).begun = begun;
        (*turns).run_queue = run_queue;
    }
}

/// # Safety
/// `turns` must be a valid entry of the map.
#[inline(always)]
unsafe fn entry(turns: *mut Turns, number: u64) -> *mut Turn {
    // SAFETY: the caller's, and masked.
    unsafe { (&raw mut (*turns).turns).cast::<Turn>().add(number as usize & (REMEMBERED - 1)) }
}

/// Books a wait that ends now on those who had the CPU meanwhile, or on the victim's own quota. A function of its own: the
/// way of long waits only.
#[inline(never)]
pub(crate) fn book_wait(victim: u64, queue: u64, throttled_sum_ns: u64, wait_ns: u64, now_ns: u64) -> u64 {
    if let Some(booked) = WAIT_PAIRS_BOOKED.get_ptr_mut(0) {
        // SAFETY: an aligned word of a map.
        unsafe { core::ptr::write_volatile(booked, core::ptr::read_volatile(booked) + 1) };
    }
    let throttled_ns = throttle::look(queue, throttled_sum_ns, now_ns - wait_ns, now_ns);
    if throttled_ns > 0 {
        add(victim, THROTTLED, throttled_ns);
    }
    // What is left is at the end: a group that may run again stands in line first.
    let waited_ns = wait_ns.saturating_sub(throttled_ns);
    if waited_ns > WAIT_THRESHOLD_NS.load() {
        blame(victim, waited_ns, now_ns);
    }
    0
}

#[inline(always)]
fn blame(victim: u64, waited_ns: u64, now_ns: u64) {
    // SAFETY: the helper has no preconditions.
    let Some(turns) = of(unsafe { bpf_get_smp_processor_id() }) else { return };
    let from_ns = now_ns - waited_ns;
    // SAFETY: this CPU's own entry, with interrupts off.
    let (newest, oldest) = unsafe { ((*turns).begun, *entry(turns, (*turns).begun + 1)) };
    // A wait that goes further back than the turns is taken to have been like what is known of it.
    let known_ns = now_ns.saturating_sub(oldest.since_ns);
    let scale = if oldest.since_ns > from_ns && known_ns > 0 { (waited_ns << SCALE_BITS) / known_ns } else { ONE };
    let (mut culprit, mut held_ns, mut end_ns) = (THROTTLED, 0, now_ns);
    for back in 0..REMEMBERED as u64 {
        // SAFETY: as above.
        let turn = unsafe { *entry(turns, newest - back) };
        if turn.since_ns == 0 {
            break;
        }
        if turn.cgroup != culprit {
            if held_ns > 0 {
                add(victim, culprit, (held_ns * scale) >> SCALE_BITS);
            }
            (culprit, held_ns) = (turn.cgroup, 0);
        }
        held_ns += end_ns.saturating_sub(turn.since_ns.max(from_ns));
        if turn.since_ns <= from_ns {
            break;
        }
        end_ns = turn.since_ns;
    }
    if held_ns > 0 {
        add(victim, culprit, (held_ns * scale) >> SCALE_BITS);
    }
}

/// Fixed point of the scale: waits of up to a day stay within 64 bits.
const SCALE_BITS: u32 = 16;
const ONE: u64 = 1 << SCALE_BITS;

#[inline(never)]
fn add(victim: u64, culprit: u64, ns: u64) -> u64 {
    let pair = WaitPair { victim, culprit };
    if let Some(sum) = WAIT_PAIRS.get_ptr_mut(pair) {
        drops::add(sum, ns);
        return 0;
    }
    if WAIT_PAIRS.insert(pair, ns, u64::from(BPF_NOEXIST)).is_ok() {
        return 0;
    }
    // Another CPU was first, or there is no room.
    match WAIT_PAIRS.get_ptr_mut(pair) {
        Some(sum) => drops::add(sum, ns),
        None => drops::count(Drop::WaitPairTable),
    }
    0
}
