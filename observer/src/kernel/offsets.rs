//! Which structure fields each program needs, and where this kernel has them.

use super::btf::{Btf, BtfError};
use observer_ebpf::flows::{NO_CONNECTIONS, TABLE_OF_CONNECTIONS};

/// The programs of the object, by their names there.
pub mod program {
    /// Bytes that sockets send.
    pub const EGRESS: &str = "observer_egress";
    /// Bytes that sockets receive.
    pub const INGRESS: &str = "observer_ingress";
    /// Connections that are accepted.
    pub const ACCEPT: &str = "observer_accept";
    /// Connections that fail.
    pub const CONNECT: &str = "observer_connect";
    /// TCP segments that are sent again.
    pub const RESEND: &str = "observer_resend";
    /// A listener's answers that are.
    pub const SYNACK: &str = "observer_synack";
    /// Resets that are sent.
    pub const RESET: &str = "observer_reset";
    /// Resets that are received.
    pub const WAS_RESET: &str = "observer_was_reset";
    /// Sockets that are closed.
    pub const RELEASE: &str = "observer_release";
    /// Sockets that are open, on demand.
    pub const SOCKETS: &str = "observer_sockets";
    /// Turns on a CPU, waits for one, and uninterruptible sleep.
    pub const SWITCH: &str = "observer_switch";
    /// Waits that go on elsewhere.
    pub const MIGRATE: &str = "observer_migrate";
    /// Turns and waits that have not ended, on demand.
    pub const LASTING: &str = "observer_lasting";
    /// Cgroups that are made.
    pub const MKDIR: &str = "observer_mkdir";
    /// Cgroups that are removed.
    pub const RMDIR: &str = "observer_rmdir";

    /// What is lost without one of those that others stand in for, in part.
    pub fn lost_without(name: &str) -> Option<&'static str> {
        match name {
            SOCKETS => Some("connections are in the flows once they are closed, and how many are open is not known"),
            LASTING => Some("waits are seen once they are over"),
            _ => None,
        }
    }
}

/// A read-only global of the object and its value.
pub(super) type Global = (&'static str, u64);

/// A field: the global that holds its place, the structure, the path in it, and how many bits of it are read.
struct Field(&'static str, &'static str, &'static str, u32);

const CGROUP_ID: [Field; 2] =
    [Field("CGROUP_KN", "cgroup", "kn", u64::BITS), Field("KERNFS_NODE_ID", "kernfs_node", "id", u64::BITS)];

const SWITCH: [Field; 12] = [
    Field("TASK_PID", "task_struct", "pid", u32::BITS),
    Field("TASK_LAST_QUEUED", "task_struct", "sched_info.last_queued", u64::BITS),
    Field("TASK_LAST_ARRIVAL", "task_struct", "sched_info.last_arrival", u64::BITS),
    Field("TASK_RUN_DELAY", "task_struct", "sched_info.run_delay", u64::BITS),
    Field("TASK_PCOUNT", "task_struct", "sched_info.pcount", u64::BITS),
    Field("TASK_NR_MIGRATIONS", "task_struct", "se.nr_migrations", u64::BITS),
    Field("TASK_START_TIME", "task_struct", "start_time", u64::BITS),
    Field("TASK_CFS_RQ", "task_struct", "se.cfs_rq", u64::BITS),
    Field("TASK_CGROUPS", "task_struct", "cgroups", u64::BITS),
    Field("CFS_RQ_RQ", "cfs_rq", "rq", u64::BITS),
    Field("RQ_CLOCK", "rq", "clock", u64::BITS),
    Field("CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp", u64::BITS),
];

/// The sum of what a group's run queue was throttled, and since when it is: in 6.6 by the clock of the run queue; before, by
/// that of the tasks, which stands still in interrupts.
const THROTTLED: [[&str; 2]; 3] = [
    ["throttled_clock_self_time", "throttled_clock_self"],
    ["throttled_clock_pelt_time", "throttled_clock_pelt"],
    ["throttled_clock_task_time", "throttled_clock_task"],
];

const LASTING: [Field; 6] = [
    Field("RQ_CURR", "rq", "curr", u64::BITS),
    Field("RQ_CFS_TASKS", "rq", "cfs_tasks", u64::BITS),
    Field("TASK_GROUP_NODE", "task_struct", "se.group_node", u64::BITS),
    Field("RQ_NR_REALTIME", "rq", "rt.rt_nr_running", u32::BITS),
    Field("RQ_REALTIME_LISTS", "rq", "rt.active.queue", u64::BITS),
    Field("TASK_REALTIME_NODE", "task_struct", "rt.run_list", u64::BITS),
];

const MIGRATE: [Field; 2] =
    [Field("TASK_ON_RQ", "task_struct", "on_rq", u8::BITS), Field("RQ_CPU", "rq", "cpu", u32::BITS)];

const LIFETIMES: [Field; 2] = [
    Field("CGROUP_ROOT", "cgroup", "root", u64::BITS),
    Field("CGROUP_ROOT_HIERARCHY_ID", "cgroup_root", "hierarchy_id", u32::BITS),
];

const ACCEPT: [Field; 9] = [
    Field("SOCK_PROTOCOL", "sock", "sk_protocol", u16::BITS),
    Field("SOCK_FAMILY", "sock", "__sk_common.skc_family", u16::BITS),
    Field("SOCK_PORT", "sock", "__sk_common.skc_num", u16::BITS),
    Field("SOCK_REMOTE_PORT", "sock", "__sk_common.skc_dport", u16::BITS),
    Field("SOCK_V4", "sock", "__sk_common.skc_rcv_saddr", u32::BITS),
    Field("SOCK_REMOTE_V4", "sock", "__sk_common.skc_daddr", u32::BITS),
    Field("SOCK_V6", "sock", "__sk_common.skc_v6_rcv_saddr", u128::BITS),
    Field("SOCK_REMOTE_V6", "sock", "__sk_common.skc_v6_daddr", u128::BITS),
    Field("SOCK_CGROUP", "sock", "sk_cgrp_data.cgroup", u64::BITS),
];

const TCP: [Field; 3] = [
    Field("SOCK_PROTOCOL", "sock", "sk_protocol", u16::BITS),
    Field("SOCK_STATE", "sock", "__sk_common.skc_state", u8::BITS),
    Field("SOCK_CGROUP", "sock", "sk_cgrp_data.cgroup", u64::BITS),
];
/// A buffer's room for whatever protocol has it: 48 bytes.
const CB_BITS: u32 = 48 * 8;

const RELEASE: [Field; 4] = [
    Field("SOCK_BACKLOG", "sock", "sk_max_ack_backlog", u32::BITS),
    Field("TCP_BYTES_ACKED", "tcp_sock", "bytes_acked", u64::BITS),
    Field("TCP_TOTAL_RETRANS", "tcp_sock", "total_retrans", u32::BITS),
    Field("TCP_ROUND_TRIP", "tcp_sock", "srtt_us", u32::BITS),
];

const SOCKETS: [Field; 3] = [
    Field("SOCK_STATE", "sock", "__sk_common.skc_state", u8::BITS),
    Field("SEQ_SIZE", "seq_file", "size", u64::BITS),
    Field("SEQ_COUNT", "seq_file", "count", u64::BITS),
];

/// The globals of the scheduler's program.
pub(super) fn switch(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    let mut globals = places(btf, CGROUP_ID.iter().chain(&SWITCH))?;
    let contributes = btf.field("task_struct", "sched_contributes_to_load")?;
    globals.push(("TASK_CONTRIBUTES_BYTE", u64::from(contributes.byte_offset)));
    globals.push(("TASK_CONTRIBUTES_MASK", 1 << contributes.bit_offset_in_byte.unwrap_or(0)));
    // The fourth argument came with 5.18; the typedef's prototype has one more, for the tracepoint's own data.
    let has_state =
        btf.function_prototype_parameters("btf_trace_sched_switch").is_some_and(|parameters| parameters >= 5);
    globals.push(("SWITCH_HAS_STATE", u64::from(has_state)));
    let state = |path| btf.offset("task_struct", path, u32::BITS);
    globals.push(("TASK_STATE", state("__state").or_else(|_| state("state"))?));
    globals.extend(quotas(btf));
    Ok(globals)
}

/// The globals that tell waits for a quota from others; none where the kernel has no quotas.
fn quotas(btf: &Btf<'_>) -> Vec<Global> {
    let find = |path: &str, bits| btf.offset("cfs_rq", path, bits).ok();
    let known = THROTTLED.iter().find_map(|[sum, since]| find(sum, u64::BITS).zip(find(since, u64::BITS)));
    let Some(((sum, since), count)) = known.zip(find("throttle_count", u32::BITS)) else { return Vec::new() };
    vec![
        ("CFS_RQ_THROTTLED_NS", sum),
        ("CFS_RQ_THROTTLED_SINCE", since),
        ("CFS_RQ_THROTTLE_COUNT", count),
        ("HAS_QUOTAS", 1),
    ]
}

/// The globals of the programs of packets, which do without: whether the node can have a table of connections, by which it translates
/// addresses, and where that is.
pub(super) fn packets(btf: &Btf<'_>) -> Vec<Global> {
    let asked = || -> Result<u64, BtfError> {
        Ok(btf.offset("nf_conn", "tuplehash", u64::BITS)?
            + btf.offset("nf_conntrack_tuple_hash", "tuple", u64::BITS)?
            + btf.offset("nf_conntrack_tuple", "dst.u3", u128::BITS)?)
    };
    match (btf.offset("sk_buff", "_nfct", u64::BITS), asked()) {
        (Err(_), _) => vec![("CONNECTIONS", NO_CONNECTIONS)],
        // It may have one, and nobody knows what it says.
        (Ok(_), Err(_)) => Vec::new(),
        (Ok(connection), Ok(asked)) => {
            vec![("SKB_CONNECTION", connection), ("CONNECTION_ASKED", asked), ("CONNECTIONS", TABLE_OF_CONNECTIONS)]
        }
    }
}

/// The globals of the program that follows waits from one run queue to another.
pub(super) fn migrate(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    let mut globals = switch(btf)?;
    globals.extend(places(btf, MIGRATE.iter())?);
    Ok(globals)
}

/// The globals of the iterator over what lasts.
pub(super) fn lasting(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    let mut globals = places(btf, CGROUP_ID.iter().chain(&SWITCH).chain(&LASTING))?;
    let queued = |path| btf.offset("rq", path, u32::BITS);
    globals.push(("RQ_NR_CFS", queued("cfs.h_nr_queued").or_else(|_| queued("cfs.h_nr_running"))?));
    if let Ok(place) = btf.offset("task_struct", "rt.my_q", u64::BITS) {
        globals.extend([("TASK_REALTIME_GROUP", place), ("HAS_REALTIME_GROUPS", 1)]);
    }
    Ok(globals)
}

/// The globals of the program that sees connections accepted.
pub(super) fn accept(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    places(btf, CGROUP_ID.iter().chain(&ACCEPT).chain(&RELEASE))
}

/// The globals of the programs that see what goes wrong with TCP.
pub(super) fn tcp(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    places(btf, CGROUP_ID.iter().chain(&TCP))
}

/// The globals of the program that sees segments sent again.
pub(super) fn resend(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    let mut globals = tcp(btf)?;
    // The typedef's prototype has one more, for the tracepoint's own data.
    let parameters = btf.function_prototype_parameters("btf_trace_tcp_retransmit_skb");
    globals.push(("RESEND_HAS_ERROR", u64::from(parameters.is_some_and(|parameters| parameters >= 4))));
    let segments = btf.offset("sk_buff", "cb", CB_BITS)? + btf.offset("tcp_skb_cb", "tcp_gso_segs", u16::BITS)?;
    globals.push(("SKB_SEGMENTS", segments));
    Ok(globals)
}

/// The globals of the program that sees sockets closed.
pub(super) fn release(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    places(btf, RELEASE.iter())
}

/// The globals of the iterator over open sockets.
pub(super) fn sockets(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    places(btf, RELEASE.iter().chain(&SOCKETS))
}

/// The globals of the programs that follow the lifetimes of cgroups.
pub(super) fn lifetimes(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    places(btf, CGROUP_ID.iter().chain(&LIFETIMES))
}

fn places<'a>(btf: &Btf<'_>, fields: impl Iterator<Item = &'a Field>) -> Result<Vec<Global>, BtfError> {
    fields.map(|Field(global, of, path, bits)| Ok((*global, btf.offset(of, path, *bits)?))).collect()
}
