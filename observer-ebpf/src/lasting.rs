//! Who runs and who waits at this moment: what no switch has told yet.
//!
//! An iterator over the map of turns, called once for each CPU, in the context of whoever reads it. It looks at the run queue
//! without its lock: a task that comes or goes meanwhile may be missed or told twice, and is told right the next time.

use crate::{
    offsets::{
        HAS_REALTIME_GROUPS, RQ_CFS_TASKS, RQ_CLOCK, RQ_CURR, RQ_NR_CFS, RQ_NR_REALTIME, RQ_REALTIME_LISTS,
        TASK_CFS_RQ, TASK_GROUP_NODE, TASK_LAST_ARRIVAL, TASK_LAST_QUEUED, TASK_PID, TASK_REALTIME_GROUP,
        TASK_REALTIME_NODE, is_nonzero, peek, peek_at, peek_cgroup_id, top_bit,
    },
    throttle,
};
use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use core::mem::MaybeUninit;
use observer_ebpf::{LastingTask, MAX_LASTING, Turns};

/// `struct bpf_iter__bpf_map_elem`
#[repr(C)]
pub(crate) struct Element {
    meta: *const Meta,
    map: *const u8,
    key: *const u32,
    value: *const Turns,
}

/// The head of `struct bpf_iter_meta`
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Tells of one CPU.
#[inline(always)]
pub(crate) fn tell(element: *const Element) {
    // SAFETY: the program's context; the verifier knows its fields.
    let (seq, turns) = unsafe { ((*(*element).meta).seq, (*element).value) };
    // After the last CPU there is a call without one.
    if turns.is_null() {
        return;
    }
    // SAFETY: not null.
    let run_queue = unsafe { (*turns).run_queue };
    if run_queue == 0 {
        return;
    }
    let now_ns: u64 = peek(run_queue, &RQ_CLOCK);
    write(seq, LastingTask { cgroup: LastingTask::CLOCK, since_ns: now_ns, ..LastingTask::default() });
    let realtime = u64::from(peek::<u32>(run_queue, &RQ_NR_REALTIME));
    let fair = u64::from(peek::<u32>(run_queue, &RQ_NR_CFS));
    tell_state(seq, turns, fair.min(MAX_LASTING as u64) + realtime);
    let current: u64 = peek(run_queue, &RQ_CURR);
    if peek::<u32>(current, &TASK_PID) != 0 {
        write(seq, of(current, peek(current, &TASK_LAST_ARRIVAL), 0));
    }
    let head = run_queue + RQ_CFS_TASKS.load();
    let mut node = head;
    // 0, of which the verifier must not know: from a known one it would follow each sum on its own.
    let unknown_zero = top_bit(now_ns);
    let (mut tasks, mut asleep) = (unknown_zero, unknown_zero);
    for _ in 0..MAX_LASTING {
        // `list_head.next`
        node = peek_at(node);
        if node == head || node == 0 {
            break;
        }
        let task = node - TASK_GROUP_NODE.load();
        let queue: u64 = peek(task, &TASK_CFS_RQ);
        // The kernel does not count those that are throttled.
        let counts = throttle::counts(queue);
        tasks += counts;
        let queued_ns: u64 = peek(task, &TASK_LAST_QUEUED);
        if queued_ns == 0 {
            // It runs, or it sleeps and has not been taken off the queue yet.
            asleep += is_nonzero(task ^ current);
            continue;
        }
        let mut record = of(task, queued_ns, throttle::so_far(queue, queued_ns, now_ns));
        record.thread |= (1 - counts) << LastingTask::THROTTLED_BIT;
        write(seq, record);
    }
    if realtime > 0 {
        tasks += tell_realtime(seq, run_queue, unknown_zero);
    }
    tell_state(seq, turns, tasks);
    write(seq, LastingTask { cgroup: LastingTask::ASLEEP, thread: asleep, ..LastingTask::default() });
}

/// As many as the kernel has priorities for realtime tasks, each with its list.
const REALTIME_LISTS: u64 = 100;
/// `struct list_head`
const LIST_HEAD_BYTES: u64 = 16;
/// The heads of all lists, and tasks in them.
const REALTIME_STEPS: u64 = 256;

/// Tells of the realtime tasks that wait; returns how many there are with the one that runs. Those of a group that has a realtime budget
/// of its own (v1's `cpu.rt_runtime_us`) are told when they get the CPU.
#[inline(always)]
fn tell_realtime(seq: *mut seq_file, run_queue: u64, unknown_zero: u64) -> u64 {
    let mut head = run_queue + RQ_REALTIME_LISTS.load();
    let end = head + REALTIME_LISTS * LIST_HEAD_BYTES;
    let (mut node, mut tasks) = (head, unknown_zero);
    for _ in 0..REALTIME_STEPS {
        // `list_head.next`
        node = peek_at(node);
        if node == head || node == 0 {
            head += LIST_HEAD_BYTES;
            if head == end {
                break;
            }
            node = head;
            continue;
        }
        let task = node - TASK_REALTIME_NODE.load();
        if HAS_REALTIME_GROUPS.load() != 0 && peek::<u64>(task, &TASK_REALTIME_GROUP) != 0 {
            continue;
        }
        tasks += 1;
        let queued_ns: u64 = peek(task, &TASK_LAST_QUEUED);
        if queued_ns != 0 {
            write(seq, of(task, queued_ns, 0));
        }
    }
    tasks
}

#[inline(always)]
fn of(task: u64, since_ns: u64, throttled_ns: u64) -> LastingTask {
    LastingTask {
        cgroup: peek_cgroup_id(task),
        since_ns,
        throttled_ns,
        thread: u64::from(peek::<u32>(task, &TASK_PID)),
    }
}

#[inline(always)]
fn tell_state(seq: *mut seq_file, turns: *const Turns, tasks: u64) {
    // SAFETY: the map's entry, not null; its CPU goes on writing it.
    let begun = unsafe { core::ptr::read_volatile(&raw const (*turns).begun) };
    write(seq, LastingTask { cgroup: LastingTask::STATE, since_ns: begun, throttled_ns: 0, thread: tasks });
}

#[inline(always)]
fn write(seq: *mut seq_file, task: LastingTask) {
    // Field by field: two zeroes side by side would be a call of `memset`, with which the verifier of 6.1 follows 156 000 instructions
    // instead of 111 000.
    let mut record = MaybeUninit::<LastingTask>::uninit();
    let place = record.as_mut_ptr();
    // SAFETY: the record's own fields. The helper copies it; what does not fit makes the reading fail, which user space sees.
    unsafe {
        (&raw mut (*place).cgroup).write_volatile(task.cgroup);
        (&raw mut (*place).since_ns).write_volatile(task.since_ns);
        (&raw mut (*place).throttled_ns).write_volatile(task.throttled_ns);
        (&raw mut (*place).thread).write_volatile(task.thread);
        bpf_seq_write(seq, place.cast(), size_of::<LastingTask>() as u32);
    }
}
