//! Counts of what could not be counted where it belongs.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use observer_ebpf::{DROPS as REASONS, Drop};

/// By [`Drop`].
#[map]
static DROPS: Array<u64> = Array::with_max_entries(REASONS as u32, BPF_F_MMAPABLE);

/// Counts one.
#[inline(always)]
pub(crate) fn count(reason: Drop) {
    if let Some(counter) = DROPS.get_ptr_mut(reason as u32) {
        add(counter, 1);
    }
}

/// Adds atomically, since a softirq may interrupt a program of the same CPU. The old value is not fetched: that
/// instruction is not in kernels before 5.12.
#[inline(always)]
pub(crate) fn add(counter: *mut u64, value: u64) {
    // SAFETY: every caller passes an aligned word of a map value.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value);
    }
}

/// Takes away atomically.
#[inline(always)]
pub(crate) fn take_away(counter: *mut u64, value: u64) {
    add(counter, value.wrapping_neg());
}
