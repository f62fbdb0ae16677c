//! Where fields are in this kernel's structures: read-only globals that user space sets from the kernel's BTF before
//! the load. The verifier sees constants, so an access is one load. Unset, an offset is out of any structure and the
//! program is refused: never a silent zero.

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel};
use observer_ebpf::{causes::DEFAULT_WAIT_THRESHOLD_NS, flows::MixSecret};

/// An offset that nobody set.
const UNSET: u64 = u64::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub(crate) static $name: Global<u64> = Global::new(UNSET);)*
    };
}

offsets! {
    /// `task_struct.pid`
    TASK_PID;
    /// `task_struct.sched_info.last_queued`
    TASK_LAST_QUEUED;
    /// `task_struct.sched_info.last_arrival`
    TASK_LAST_ARRIVAL;
    /// `task_struct.sched_info.run_delay`
    TASK_RUN_DELAY;
    /// `task_struct.sched_info.pcount`
    TASK_PCOUNT;
    /// `task_struct.se.nr_migrations`
    TASK_NR_MIGRATIONS;
    /// `task_struct.start_time`
    TASK_START_TIME;
    /// `task_struct.on_rq`
    TASK_ON_RQ;
    /// `task_struct.se.group_node`
    TASK_GROUP_NODE;
    /// `task_struct.se.cfs_rq`
    TASK_CFS_RQ;
    /// `task_struct.cgroups`
    TASK_CGROUPS;
    /// `task_struct.__state`, `state` before 5.14
    TASK_STATE;
    /// The byte of `task_struct.sched_contributes_to_load`
    TASK_CONTRIBUTES_BYTE;
    /// `cfs_rq.rq`
    CFS_RQ_RQ;
    /// `rq.clock`
    RQ_CLOCK;
    /// `rq.cpu`
    RQ_CPU;
    /// `rq.curr`
    RQ_CURR;
    /// `rq.cfs_tasks`
    RQ_CFS_TASKS;
    /// `rq.cfs.h_nr_queued`, `h_nr_running` before 6.14
    RQ_NR_CFS;
    /// `rq.rt.rt_nr_running`
    RQ_NR_REALTIME;
    /// `rq.rt.active.queue`
    RQ_REALTIME_LISTS;
    /// `task_struct.rt.run_list`
    TASK_REALTIME_NODE;
    /// `css_set.dfl_cgrp`
    CSS_SET_DFL_CGRP;
    /// `cgroup.kn`
    CGROUP_KN;
    /// `cgroup.root`
    CGROUP_ROOT;
    /// `cgroup_root.hierarchy_id`
    CGROUP_ROOT_HIERARCHY_ID;
    /// `kernfs_node.id`
    KERNFS_NODE_ID;
    /// `sock.__sk_common.skc_state`
    SOCK_STATE;
    /// `sock.sk_protocol`
    SOCK_PROTOCOL;
    /// `sock.__sk_common.skc_family`
    SOCK_FAMILY;
    /// `sock.__sk_common.skc_num`: its own port
    SOCK_PORT;
    /// `sock.__sk_common.skc_dport`
    SOCK_REMOTE_PORT;
    /// `sock.__sk_common.skc_rcv_saddr`: its own address
    SOCK_V4;
    /// `sock.__sk_common.skc_daddr`
    SOCK_REMOTE_V4;
    /// `sock.__sk_common.skc_v6_rcv_saddr`
    SOCK_V6;
    /// `sock.__sk_common.skc_v6_daddr`
    SOCK_REMOTE_V6;
    /// `sock.sk_cgrp_data.cgroup`
    SOCK_CGROUP;
    /// `sock.sk_max_ack_backlog`
    SOCK_BACKLOG;
    /// `seq_file.size`
    SEQ_SIZE;
    /// `seq_file.count`: what has been written
    SEQ_COUNT;
    /// `sk_buff.cb`, in it `tcp_skb_cb.tcp_gso_segs`
    SKB_SEGMENTS;
    /// `tcp_sock.bytes_acked`
    TCP_BYTES_ACKED;
    /// `tcp_sock.total_retrans`
    TCP_TOTAL_RETRANS;
    /// `tcp_sock.srtt_us`: in eighths of microseconds
    TCP_ROUND_TRIP;
}

/// The bit of `sched_contributes_to_load` in its byte.
#[unsafe(no_mangle)]
pub(crate) static TASK_CONTRIBUTES_MASK: Global<u64> = Global::new(0);
/// Whether `sched_switch` has its fourth argument (from 5.18 on).
#[unsafe(no_mangle)]
pub(crate) static SWITCH_HAS_STATE: Global<u64> = Global::new(0);
/// Whether `tcp_retransmit_skb` tells in a third argument whether it was done (from 6.17 on).
#[unsafe(no_mangle)]
pub(crate) static RESEND_HAS_ERROR: Global<u64> = Global::new(0);
/// One more than the largest number of a CPU that was present at the load: the stride of the maps indexed by slot and CPU.
#[unsafe(no_mangle)]
pub(crate) static CPUS: Global<u64> = Global::new(0);

/// Whether an atomic addition can tell what was there before (from 5.12 on). Where it is not set, user space has made plain additions of
/// those that do.
#[unsafe(no_mangle)]
pub(crate) static FETCHES: Global<u64> = Global::new(0);

/// The first CPU on which nothing else adds to what is received there while a program does: no other CPU, and no other softirq.
#[unsafe(no_mangle)]
pub(crate) static ALONE_FROM: Global<u64> = Global::new(u32::MAX as u64);

/// `sk_buff._nfct`: the connection that the node's table has for a packet, and three bits
#[unsafe(no_mangle)]
pub(crate) static SKB_CONNECTION: Global<u64> = Global::new(0);
/// In a `nf_conn`, the address that its first packet was sent to
#[unsafe(no_mangle)]
pub(crate) static CONNECTION_ASKED: Global<u64> = Global::new(0);
/// Whether the kernel can have such a table: [`NO_CONNECTIONS`](observer_ebpf::flows::NO_CONNECTIONS), or
/// [`TABLE_OF_CONNECTIONS`](observer_ebpf::flows::TABLE_OF_CONNECTIONS), with those two fields. 0: nobody knows.
#[unsafe(no_mangle)]
pub(crate) static CONNECTIONS: Global<u64> = Global::new(0);

/// See [`mix_ipv6`](observer_ebpf::flows::mix_ipv6).
#[unsafe(no_mangle)]
pub(crate) static MIX_SECRET: Global<MixSecret> = Global::new([0; 5]);

/// `task_struct.rt.my_q`: null in a task, not in what stands for a group of them
#[unsafe(no_mangle)]
pub(crate) static TASK_REALTIME_GROUP: Global<u64> = Global::new(0);
/// Whether the kernel has such groups.
#[unsafe(no_mangle)]
pub(crate) static HAS_REALTIME_GROUPS: Global<u64> = Global::new(0);

/// `cfs_rq.throttled_clock_self_time`, or what came before it
#[unsafe(no_mangle)]
pub(crate) static CFS_RQ_THROTTLED_NS: Global<u64> = Global::new(0);
/// `cfs_rq.throttled_clock_self`, or what came before it: since when, while it is throttled
#[unsafe(no_mangle)]
pub(crate) static CFS_RQ_THROTTLED_SINCE: Global<u64> = Global::new(0);
/// `cfs_rq.throttle_count`: not 0 while it is throttled
#[unsafe(no_mangle)]
pub(crate) static CFS_RQ_THROTTLE_COUNT: Global<u64> = Global::new(0);
/// Whether the kernel has CPU quotas, and those three fields.
#[unsafe(no_mangle)]
pub(crate) static HAS_QUOTAS: Global<u64> = Global::new(0);
/// Waits that are longer are asked what they were for.
#[unsafe(no_mangle)]
pub(crate) static WAIT_THRESHOLD_NS: Global<u64> = Global::new(DEFAULT_WAIT_THRESHOLD_NS);

/// Reads a field of a kernel structure at an address of which the verifier knows nothing; zero where nothing can be read.
#[inline(always)]
pub(crate) fn peek<T: Copy + Default>(base: u64, offset: &Global<u64>) -> T {
    peek_at(base + offset.load())
}

/// Reads kernel memory. Without a branch, since the verifier follows both sides of each: the helper zeroes what it cannot read.
#[inline(always)]
pub(crate) fn peek_at<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: the helper checks the address, and writes as many bytes as the value has.
    unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, address as *const _);
    }
    value
}

/// 1 for all but 0, which is 0. Without a branch, see `top_bit`.
#[inline(always)]
pub(crate) fn is_nonzero(value: u64) -> u64 {
    top_bit(value | value.wrapping_neg())
}

/// The bit that is the sign, for arithmetic in the place of comparisons. Those are branches here, and in a loop the verifier follows
/// both sides of each, and each number that they add up to: more than its million of instructions on 5.10 and 6.1.
#[inline(always)]
pub(crate) fn top_bit(value: u64) -> u64 {
    // The compiler would make a comparison of it again, if it saw through.
    core::hint::black_box(core::hint::black_box(value) >> 63)
}

/// The v2 cgroup id of the task at an address.
#[inline(always)]
pub(crate) fn peek_cgroup_id(task: u64) -> u64 {
    let set: u64 = peek(task, &TASK_CGROUPS);
    let cgroup: u64 = peek(set, &CSS_SET_DFL_CGRP);
    let node: u64 = peek(cgroup, &CGROUP_KN);
    peek(node, &KERNFS_NODE_ID)
}

/// Reads a field of a kernel structure.
///
/// # Safety
/// `base` must be a pointer the verifier knows the type of, and `offset` the place of a `T` in it.
#[inline(always)]
pub(crate) unsafe fn field<T: Copy>(base: *const u8, offset: &Global<u64>) -> T {
    // SAFETY: the verifier checks the access against the kernel's own type information.
    unsafe { *base.add(offset.load() as usize).cast::<T>() }
}

/// The v2 cgroup id of a `struct cgroup`.
///
/// # Safety
/// `cgroup` must be a `struct cgroup` known to the verifier.
#[inline(always)]
pub(crate) unsafe fn cgroup_id(cgroup: *const u8) -> u64 {
    // SAFETY: as above, field by field.
    unsafe { field(field::<*const u8>(cgroup, &CGROUP_KN), &KERNFS_NODE_ID) }
}

/// The id of a task's v2 cgroup: the task's own, not that of the task that happens to run.
///
/// # Safety
/// `task` must be a `struct task_struct` known to the verifier.
#[inline(always)]
pub(crate) unsafe fn task_cgroup_id(task: *const u8) -> u64 {
    // SAFETY: as above, field by field.
    unsafe { cgroup_id(field(field::<*const u8>(task, &TASK_CGROUPS), &CSS_SET_DFL_CGRP)) }
}
