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

/// Adds atomically, and tells what was there before: where [`FETCHES`](crate::offsets::FETCHES) is set. Elsewhere it only adds.
///
/// # Safety
/// `counter` must be an aligned word of a map value.
#[inline(always)]
pub(crate) unsafe fn fetch_add(counter: *mut u64, value: u64) -> u64 {
    let before;
    // SAFETY: as above. For this machine the compiler has no such instruction, nor a name for it: it is BPF_STX | BPF_ATOMIC | BPF_DW with
    // BPF_ADD | BPF_FETCH, r1 being the address and r2 what is added, and then what was there.
    unsafe {
        core::arch::asm!(".8byte 0x00000001000021db", in("r1") counter, inlateout("r2") value => before);
    }
    before
}

/// Puts a value in the place of what is there, atomically, and tells what that was: only where [`FETCHES`](crate::offsets::FETCHES) is set.
///
/// # Safety
/// `word` must be an aligned word of a map value.
#[inline(always)]
pub(crate) unsafe fn exchange(word: *mut u64, value: u64) -> u64 {
    let before;
    // SAFETY: as above, with BPF_XCHG.
    unsafe {
        core::arch::asm!(".8byte 0x000000e1000021db", in("r1") word, inlateout("r2") value => before);
    }
    before
}
