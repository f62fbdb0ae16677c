//! Lifetimes of cgroups: one event for each that is made or removed, so that one that lived 200 ms has a name.

use crate::{
    drops,
    offsets::{CGROUP_ROOT, CGROUP_ROOT_HIERARCHY_ID, cgroup_id, field},
};
use aya_ebpf::{
    helpers::{bpf_probe_read_kernel_str_bytes, generated::bpf_ringbuf_output},
    macros::map,
    maps::{Array, RingBuf},
    programs::BtfTracePointContext,
};
use observer_ebpf::{CgroupEvent, Drop, EVENT_PATH_BYTES, EVENT_RING_BYTES};

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_RING_BYTES, 0);

/// Room to put an event together: too large for the stack. One entry is enough, since the kernel makes and removes
/// cgroups one at a time, under `cgroup_mutex`.
#[map]
static EVENT_DRAFT: Array<Draft> = Array::with_max_entries(1, 0);

#[repr(C)]
struct Draft {
    event: CgroupEvent,
    path: [u8; EVENT_PATH_BYTES],
}

/// `cgroup_mkdir(cgrp, path)`
#[inline(always)]
pub(crate) fn made(ctx: &BtfTracePointContext) {
    let Some(cgroup) = of_v2(ctx.arg(0)) else { return };
    let Some(draft) = EVENT_DRAFT.get_ptr_mut(0) else { return };
    // SAFETY: the draft is ours alone, see above.
    let draft = unsafe { &mut *draft };
    // SAFETY: the tracepoint's path is a string in kernel memory; the helper copes with any other.
    let path_bytes = match unsafe { bpf_probe_read_kernel_str_bytes(ctx.arg(1), &mut draft.path) } {
        Ok(path) => path.len() as u32,
        Err(_) => 0,
    };
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(ctx, "cgroup {} was made", cgroup);
    draft.event = CgroupEvent { cgroup, kind: CgroupEvent::MADE, path_bytes };
    // The bound is for the verifier; a path is always shorter than the room for it.
    let bytes = size_of::<CgroupEvent>() as u64 + u64::from(path_bytes & (EVENT_PATH_BYTES as u32 - 1));
    send(core::ptr::from_ref(draft).cast(), bytes);
}

/// `cgroup_rmdir(cgrp, path)`
#[inline(always)]
pub(crate) fn removed(ctx: &BtfTracePointContext) {
    let Some(cgroup) = of_v2(ctx.arg(0)) else { return };
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(ctx, "cgroup {} was removed", cgroup);
    let event = CgroupEvent { cgroup, kind: CgroupEvent::REMOVED, path_bytes: 0 };
    send((&raw const event).cast(), size_of::<CgroupEvent>() as u64);
}

/// The id of a cgroup of the v2 hierarchy, which has number 0.
#[inline(always)]
fn of_v2(cgroup: *const u8) -> Option<u64> {
    // SAFETY: the tracepoint's first argument is a `struct cgroup`.
    unsafe {
        let root: *const u8 = field(cgroup, &CGROUP_ROOT);
        (field::<i32>(root, &CGROUP_ROOT_HIERARCHY_ID) == 0).then(|| cgroup_id(cgroup))
    }
}

#[inline(always)]
fn send(record: *const u8, bytes: u64) {
    // SAFETY: `bytes` of initialised memory at `record`. The typed wrapper takes constant sizes only.
    let sent = unsafe { bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), record.cast_mut().cast(), bytes, 0) };
    if sent < 0 {
        drops::count(Drop::EventRingFull);
    }
}
