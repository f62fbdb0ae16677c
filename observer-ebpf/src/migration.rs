//! Waits in parts: the kernel takes a task that waits off one run queue and puts it on another, where its wait begins anew.
//!
//! The kernel adds all parts up in `sched_info.run_delay`. What that was when a task last got a CPU is remembered here, so that the parts are known.
//! They are booked when the task is moved, and where it gets its CPU its wait is as long as they are together.

use crate::{
    blame,
    offsets::{
        CFS_RQ_RQ, RQ_CLOCK, RQ_CPU, TASK_CFS_RQ, TASK_NR_MIGRATIONS, TASK_ON_RQ, TASK_PCOUNT, TASK_PID,
        TASK_RUN_DELAY, TASK_START_TIME, field, task_cgroup_id,
    },
    sched::is_asked_for,
    slots::{self, Entry},
};
use aya_ebpf::{helpers::bpf_get_smp_processor_id, macros::map, maps::Array, programs::BtfTracePointContext};
use observer_ebpf::waited::{PLACES, Waited};

/// By the low bits of the thread id. A task whose place another has taken meanwhile has no part that is known but the next.
#[map]
static WAITED: Array<Waited> = Array::with_max_entries(PLACES, 0);

/// `TASK_ON_RQ_MIGRATING`
const MIGRATING: u8 = 2;

/// What a task has waited.
pub(crate) struct Known {
    place: *mut Waited,
    seal: u32,
    /// Another task has the place, and waits.
    is_others: bool,
    /// All that the kernel knows of.
    total_ns: u64,
    /// What of it is not booked.
    pub(crate) new_ns: u64,
    /// What of this wait is booked.
    pub(crate) booked_ns: u64,
}

impl Known {
    #[inline(always)]
    pub(crate) fn of(task: *const u8, pid: u32) -> Option<Self> {
        let place = WAITED.get_ptr_mut(Waited::place(pid))?;
        // SAFETY: the tracepoint's `struct task_struct`.
        let (total_ns, born_ns) = unsafe { (field::<u64>(task, &TASK_RUN_DELAY), field(task, &TASK_START_TIME)) };
        let seal = Waited::seal(pid, born_ns);
        // SAFETY: a valid entry; what another task writes into it meanwhile does not fit the seal.
        let waited = unsafe { *place };
        let is_its_own = waited.is_of(seal);
        let known = if is_its_own {
            (waited.known_ns, waited.booked_ns())
        // SAFETY: as above.
        } else if unsafe { field::<u64>(task, &TASK_PCOUNT) | field::<u64>(task, &TASK_NR_MIGRATIONS) } == 0 {
            // It never had a CPU, and is moved for the first time.
            (0, 0)
        } else {
            (total_ns, 0)
        };
        let is_others = !is_its_own && waited.lasts();
        Some(Self { place, seal, is_others, total_ns, new_ns: total_ns.saturating_sub(known.0), booked_ns: known.1 })
    }

    /// It goes on waiting. The place is taken from whoever has it: one that is left behind ends like that.
    #[inline(always)]
    fn remember(&self) {
        // SAFETY: a valid entry.
        unsafe { *self.place = Waited::lasting(self.seal, self.total_ns, self.booked_ns + self.new_ns) };
    }

    /// It has a CPU after a last part. Those that come and go leave the place to one that waits.
    #[inline(always)]
    pub(crate) fn ends(&self, last_ns: u64) {
        if self.is_others {
            return;
        }
        // SAFETY: a valid entry.
        unsafe { *self.place = Waited::ended(self.seal, self.total_ns + last_ns) };
    }
}

/// `sched_migrate_task(task, to)`: a task is about to be another CPU's. If it waits, the lock of the run queue that it left is held.
#[inline(always)]
pub(crate) fn moves(ctx: &BtfTracePointContext) {
    let task: *const u8 = ctx.arg(0);
    // SAFETY: the tracepoint's `struct task_struct`. `on_rq` was an int before 7.2, of which this is the lowest byte.
    let (is_queued, pid) = unsafe { (field::<u8>(task, &TASK_ON_RQ) == MIGRATING, field::<u32>(task, &TASK_PID)) };
    if !is_queued {
        return;
    }
    let Some(known) = Known::of(task, pid) else { return };
    known.remember();
    if known.new_ns == 0 {
        return;
    }
    // SAFETY: as above, and what it points to: it still has the queue that it left.
    let (queue, now_ns, its_cpu, cgroup) = unsafe {
        let queue: *const u8 = field(task, &TASK_CFS_RQ);
        let run_queue: *const u8 = field(queue, &CFS_RQ_RQ);
        (queue, field::<u64>(run_queue, &RQ_CLOCK), field::<u32>(run_queue, &RQ_CPU), task_cgroup_id(task))
    };
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some((entry, book)) = slots::sched_book(cgroup, cpu, Entry::Wait) else { return };
    // SAFETY: this CPU's own entry, with interrupts off.
    unsafe { (*book).wait_ns += known.new_ns };
    if is_asked_for(known.new_ns) {
        blame::book_wait(blame::victims_book(entry, its_cpu), cgroup, queue as u64, known.new_ns, now_ns);
    }
}
