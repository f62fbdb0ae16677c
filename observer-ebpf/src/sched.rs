//! The scheduler's books: how long each task had a CPU, waited for one, and slept uninterruptibly.
//!
//! One hook, on the way from one task to the next, and on the usual way no call out of the program: the kernel already
//! wrote down when the last task got the CPU and when the next was queued, and the run queue's clock says what time it is. What a
//! task has waited on other CPUs before is known by `migration.rs`.

use crate::{
    blame, drops,
    migration::Known,
    offsets::{
        CFS_RQ_RQ, RQ_CLOCK, SWITCH_HAS_STATE, TASK_CFS_RQ, TASK_CONTRIBUTES_BYTE, TASK_CONTRIBUTES_MASK,
        TASK_LAST_ARRIVAL, TASK_LAST_QUEUED, TASK_PID, TASK_STATE, WAIT_THRESHOLD_NS, field, task_cgroup_id,
    },
    slots::{self, Entry},
    turns,
};
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, HashMap},
    programs::BtfTracePointContext,
};
use observer_ebpf::{
    Drop, MAX_OPEN_SLEEPS, SchedBook, Sleep, Turn,
    causes::{DEFAULT_WAIT_THRESHOLD_NS, IDLE, NO_CAUSES},
    histogram,
};

/// Uninterruptible sleeps that have not ended, by thread id. Not every end is seen (see docs/kernel.md), so user space
/// holds the entries against /proc and removes those that are none any more.
#[map]
static SLEEPS: HashMap<u32, Sleep> = HashMap::with_max_entries(MAX_OPEN_SLEEPS, 0);

/// Grows with each that began: spares user space the look at every bucket of an empty table.
#[map]
static SLEEPS_BEGUN: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

const TASK_UNINTERRUPTIBLE: u32 = 0x2;
const TASK_NOLOAD: u32 = 0x400;

/// `sched_switch(preempt, prev, next[, prev_state])`
#[inline(always)]
pub(crate) fn switch(ctx: &BtfTracePointContext) {
    let prev: *const u8 = ctx.arg(1);
    let next: *const u8 = ctx.arg(2);
    // A task that is preempted on its way to sleep shows the state of the sleep, and stays runnable.
    let preempted = ctx.arg::<u32>(0) & 0xff != 0;
    if !preempted && sleeps_uninterruptibly(ctx, prev) {
        fell_asleep(prev);
    }
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(turns) = turns::of(cpu) else {
        drops::count(Drop::SwitchNewCpu);
        return;
    };
    // SAFETY: the tracepoint's `struct task_struct`, and what it points to; every task has a run queue, the idle one too.
    let (run_queue, now_ns) = unsafe {
        let run_queue: *const u8 = field(field(next, &TASK_CFS_RQ), &CFS_RQ_RQ);
        (run_queue as u64, field::<u64>(run_queue, &RQ_CLOCK))
    };
    // SAFETY: this CPU's turns, with interrupts off.
    if unsafe { (*turns).begun } > 0 {
        ran(prev, cpu, now_ns);
        // SAFETY: as above; a task that was moved while it ran has another queue than when it began.
        unsafe { turns::end(turns, field::<*const u8>(prev, &TASK_CFS_RQ) as u64) };
    }
    // SAFETY: the tracepoint's `struct task_struct`.
    let thread = unsafe { field(next, &TASK_PID) };
    let (cgroup, book) = runs(next, thread, cpu, now_ns);
    // SAFETY: as above.
    unsafe { turns::begin(turns, Turn { cgroup, since_ns: now_ns, book, thread, queue: 0 }, run_queue) };
}

/// Books a turn that ends.
#[inline(always)]
fn ran(task: *const u8, cpu: u32, now_ns: u64) {
    // SAFETY: the tracepoint's `struct task_struct`.
    let since_ns: u64 = unsafe { field(task, &TASK_LAST_ARRIVAL) };
    // The idle task never arrives.
    if since_ns == 0 {
        return;
    }
    // SAFETY: as above.
    let cgroup = unsafe { task_cgroup_id(task) };
    if let Some((_, book)) = slots::sched_book(cgroup, cpu, Entry::Run) {
        // SAFETY: this CPU's own entry, with interrupts off.
        unsafe { (*book).run_ns += now_ns.saturating_sub(since_ns) };
    }
}

#[inline(always)]
fn sleeps_uninterruptibly(ctx: &BtfTracePointContext, prev: *const u8) -> bool {
    let state: u32 = if SWITCH_HAS_STATE.load() == 0 {
        // SAFETY: `prev` is the tracepoint's `struct task_struct`; the state's low half holds every flag.
        unsafe { field(prev, &TASK_STATE) }
    } else {
        ctx.arg(3)
    };
    state & (TASK_UNINTERRUPTIBLE | TASK_NOLOAD) == TASK_UNINTERRUPTIBLE
}

#[inline(always)]
fn fell_asleep(task: *const u8) {
    // SAFETY: the tracepoint's `struct task_struct`.
    let (pid, cgroup) = unsafe { (field::<u32>(task, &TASK_PID), task_cgroup_id(task)) };
    // SAFETY: the helper has no preconditions.
    let start_ns = unsafe { bpf_ktime_get_ns() };
    if SLEEPS.insert(pid, Sleep { cgroup, start_ns }, 0).is_err() {
        drops::count(Drop::SleepTableFull);
    }
    if let Some(begun) = SLEEPS_BEGUN.get_ptr_mut(0) {
        drops::add(begun, 1);
    }
}

/// Books the wait of the task that is next; returns its cgroup, [`IDLE`] for none, and the number of its book.
#[inline(always)]
fn runs(task: *const u8, pid: u32, cpu: u32, now_ns: u64) -> (u64, u32) {
    // SAFETY: the tracepoint's `struct task_struct`.
    let (queued_ns, contributes) = unsafe {
        (
            field::<u64>(task, &TASK_LAST_QUEUED),
            field::<u8>(task, &TASK_CONTRIBUTES_BYTE) & TASK_CONTRIBUTES_MASK.load() as u8 != 0,
        )
    };
    if pid == 0 {
        return (IDLE, NO_BOOK);
    }
    // SAFETY: as above, and what it points to.
    let cgroup = unsafe { task_cgroup_id(task) };
    let (mut waited_ns, mut number) = (0, NO_BOOK);
    if queued_ns != 0
        && let Some((entry, book)) = slots::sched_book(cgroup, cpu, Entry::Wait)
    {
        number = entry;
        let here_ns = now_ns.saturating_sub(queued_ns);
        let (mut new_ns, mut booked_ns) = (0, 0);
        if let Some(known) = Known::of(task, pid) {
            known.ends(here_ns);
            (new_ns, booked_ns) = (known.new_ns, known.booked_ns);
        }
        waited_ns = here_ns + new_ns + booked_ns;
        add_wait(book, here_ns + new_ns, waited_ns);
        if is_asked_for(here_ns) {
            // SAFETY: as above.
            let queue = unsafe { field::<*const u8>(task, &TASK_CFS_RQ) } as u64;
            let at = blame::victims_book(number, cpu);
            let former_queue = blame::queue_of_turn_until(cpu, pid, queued_ns);
            let left_ns = blame::book_left(at, cgroup, [former_queue, queue], here_ns, now_ns);
            blame::book_wait(at, cgroup, queue, here_ns.saturating_sub(left_ns), now_ns);
        }
    }
    // The bit stays set after a sleep and is inherited over fork: a cheap filter, no proof.
    if contributes {
        woke_up(pid, waited_ns, cpu);
    }
    (cgroup, number)
}

/// There is no such entry.
const NO_BOOK: u32 = u32::MAX;

/// Whether a wait is to be asked whom it was for. What is throttled is no load, whatever waits are asked for their causes.
#[inline(always)]
pub(crate) fn is_asked_for(wait_ns: u64) -> bool {
    let threshold_ns = WAIT_THRESHOLD_NS.load();
    threshold_ns != NO_CAUSES && wait_ns > threshold_ns.min(DEFAULT_WAIT_THRESHOLD_NS)
}

/// Books the end of a wait of `waited_ns`, of which `new_ns` are not booked.
#[inline(always)]
fn add_wait(book: *mut SchedBook, new_ns: u64, waited_ns: u64) {
    // SAFETY: this CPU's own entry, with interrupts off: plain adds lose nothing.
    unsafe {
        (*book).wait_ns += new_ns;
        let waits = (&raw mut (*book).waits).cast::<u32>();
        *waits.add(histogram::bucket(waited_ns)) += 1;
    }
}

#[inline(never)]
fn woke_up(pid: u32, waited_ns: u64, cpu: u32) {
    // SAFETY: the value is copied before anything can remove it.
    let Some(sleep) = (unsafe { SLEEPS.get(pid) }).copied() else { return };
    let _ = SLEEPS.remove(pid);
    // SAFETY: the helper has no preconditions.
    let woken_ns = unsafe { bpf_ktime_get_ns() }.saturating_sub(waited_ns);
    if let Some((_, book)) = slots::sched_book(sleep.cgroup, cpu, Entry::Sleep) {
        // SAFETY: this CPU's own entry, with interrupts off.
        unsafe { (*book).uninterruptible_ns += woken_ns.saturating_sub(sleep.start_ns) };
    }
}
