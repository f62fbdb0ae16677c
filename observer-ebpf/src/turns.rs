//! The last turns of each CPU.

use crate::offsets::WAIT_THRESHOLD_NS;
use aya_ebpf::{macros::map, maps::Array};
use observer_ebpf::{TURNS as REMEMBERED, Turn, Turns, causes::NO_CAUSES};

/// By CPU; set at load.
#[map]
static TURNS: Array<Turns> = Array::with_max_entries(1, 0);

/// The turns of this CPU.
#[inline(always)]
pub(crate) fn of(cpu: u32) -> Option<*mut Turns> {
    TURNS.get_ptr_mut(cpu)
}

/// A task's turn begins; it is remembered where waits are asked what they were for. Interrupts are off, and only this CPU writes its turns.
///
/// # Safety
/// `turns` must be this CPU's.
#[inline(always)]
pub(crate) unsafe fn begin(turns: *mut Turns, turn: Turn, run_queue: u64) {
    // SAFETY: the caller's; the index is masked to the array.
    unsafe {
        let begun = (*turns).begun + 1;
        if WAIT_THRESHOLD_NS.load() != NO_CAUSES {
            *entry(turns, begun) = turn;
        }
        (*turns).begun = begun;
        (*turns).run_queue = run_queue;
    }
}

/// The newest turn ends.
///
/// # Safety
/// `turns` must be this CPU's.
#[inline(always)]
pub(crate) unsafe fn end(turns: *mut Turns, queue: u64) {
    // SAFETY: the caller's; the index is masked to the array.
    unsafe {
        if WAIT_THRESHOLD_NS.load() != NO_CAUSES {
            (*entry(turns, (*turns).begun)).queue = queue;
        }
    }
}

/// # Safety
/// `turns` must be a valid entry of the map.
#[inline(always)]
pub(crate) unsafe fn entry(turns: *mut Turns, number: u64) -> *mut Turn {
    // SAFETY: the caller's, and masked.
    unsafe { (&raw mut (*turns).turns).cast::<Turn>().add(number as usize & (REMEMBERED - 1)) }
}
