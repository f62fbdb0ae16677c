//! Shapes of a run-queue sampler: where the time of queueing is kept, and the per-CPU hash by cgroup id they all book in.

use crate::offsets::{CFS_RQ_RQ, RQ_CLOCK, TASK_CFS_RQ, TASK_LAST_QUEUED, TASK_PID, TASK_STATE, field, task_cgroup_id};
use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::map,
    maps::{Array, HashMap, PerCpuHashMap},
    programs::BtfTracePointContext,
};
use observer_ebpf::histogram;

/// Waits of one cgroup on one CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Waits {
    wait_ns: u64,
    waits: [u64; histogram::BUCKETS],
}

#[map]
static WAITS: PerCpuHashMap<u64, Waits> = PerCpuHashMap::with_max_entries(8192, 0);

/// Every pid a 64-bit kernel gives out by default (`pid_max` is at most 2^22).
const PIDS: u32 = 1 << 22;
#[map]
pub(crate) static ARRAY_STAMPS: Array<u64> = Array::with_max_entries(PIDS, 0);
#[map]
pub(crate) static HASH_STAMPS: HashMap<u32, u64> = HashMap::with_max_entries(10240, 0);

/// Where a shape keeps since when a task is queued, by its pid.
pub(crate) trait Stamps {
    fn set(&self, pid: u32, now_ns: u64);
    /// Hands the time out and forgets it.
    fn take(&self, pid: u32) -> Option<u64>;
}

impl Stamps for Array<u64> {
    #[inline(always)]
    fn set(&self, pid: u32, now_ns: u64) {
        if let Some(stamp) = self.get_ptr_mut(pid) {
            // SAFETY: an entry of the array; a torn write is impossible for one aligned word.
            unsafe { *stamp = now_ns };
        }
    }

    #[inline(always)]
    fn take(&self, pid: u32) -> Option<u64> {
        let stamp = self.get_ptr_mut(pid)?;
        // SAFETY: as above.
        unsafe {
            let queued_ns = *stamp;
            *stamp = 0;
            (queued_ns != 0).then_some(queued_ns)
        }
    }
}

impl Stamps for HashMap<u32, u64> {
    #[inline(always)]
    fn set(&self, pid: u32, now_ns: u64) {
        let _ = self.insert(pid, now_ns, 0);
    }

    #[inline(always)]
    fn take(&self, pid: u32) -> Option<u64> {
        // SAFETY: copied before it is removed.
        let queued_ns = unsafe { self.get(pid) }.copied()?;
        let _ = self.remove(pid);
        Some(queued_ns)
    }
}

/// `sched_wakeup(task)`, `sched_wakeup_new(task)`
#[inline(always)]
pub(crate) fn queued(stamps: &impl Stamps, ctx: &BtfTracePointContext) {
    // SAFETY: the tracepoint's `struct task_struct`; the helper has no preconditions.
    unsafe { stamps.set(field::<u32>(ctx.arg(0), &TASK_PID), bpf_ktime_get_ns()) };
}

/// `sched_switch(preempt, prev, next)`
#[inline(always)]
pub(crate) fn switched(stamps: &impl Stamps, ctx: &BtfTracePointContext) {
    let (prev, next): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the tracepoint's tasks. A task that is still in the state 0 was preempted and is queued again.
    let (still_runnable, prev_pid, next_pid) =
        unsafe { (field::<u32>(prev, &TASK_STATE) == 0, field::<u32>(prev, &TASK_PID), field::<u32>(next, &TASK_PID)) };
    if still_runnable && prev_pid != 0 {
        stamps.set(prev_pid, now_ns);
    }
    if let Some(queued_ns) = stamps.take(next_pid) {
        book(next, now_ns.wrapping_sub(queued_ns));
    }
}

/// `sched_switch(preempt, prev, next)` with the kernel's own time of queueing, so without the other two hooks.
#[inline(always)]
pub(crate) fn from_sched_info(ctx: &BtfTracePointContext) {
    let next: *const u8 = ctx.arg(2);
    // SAFETY: the tracepoint's `struct task_struct` and what it points to.
    unsafe {
        let queued: u64 = field(next, &TASK_LAST_QUEUED);
        if field::<u32>(next, &TASK_PID) == 0 || queued == 0 {
            return;
        }
        let clock: u64 = field(field::<*const u8>(field(next, &TASK_CFS_RQ), &CFS_RQ_RQ), &RQ_CLOCK);
        book(next, clock.wrapping_sub(queued));
    }
}

#[inline(always)]
fn book(task: *const u8, wait_ns: u64) {
    // SAFETY: the tracepoint's `struct task_struct`.
    let cgroup = unsafe { task_cgroup_id(task) };
    let Some(entry) = WAITS.get_ptr_mut(cgroup) else { return first(cgroup) };
    // SAFETY: this CPU's own entry, with interrupts off: plain adds lose nothing.
    unsafe {
        (*entry).wait_ns += wait_ns;
        *(&raw mut (*entry).waits).cast::<u64>().add(histogram::bucket(wait_ns)) += 1;
    }
}

/// Makes a cgroup's entry; its first wait is not counted, which costs nothing and changes nothing here.
#[cold]
#[inline(never)]
fn first(cgroup: u64) {
    let _ = WAITS.insert(cgroup, Waits { wait_ns: 0, waits: [0; histogram::BUCKETS] }, 0);
}
