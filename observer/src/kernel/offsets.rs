//! Which structure fields each program needs, and where this kernel has them.

use super::btf::{Btf, BtfError};

/// The programs of the object, by their names there.
pub mod program {
    /// Bytes that sockets send.
    pub const EGRESS: &str = "observer_egress";
    /// Bytes that sockets receive.
    pub const INGRESS: &str = "observer_ingress";
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
}

/// A read-only global of the object and its value.
pub(super) type Global = (&'static str, u64);

/// A field: the global that holds its place, the structure, and the path in it.
struct Field(&'static str, &'static str, &'static str);

const CGROUP_ID: [Field; 2] = [Field("CGROUP_KN", "cgroup", "kn"), Field("KERNFS_NODE_ID", "kernfs_node", "id")];

const SWITCH: [Field; 12] = [
    Field("TASK_PID", "task_struct", "pid"),
    Field("TASK_LAST_QUEUED", "task_struct", "sched_info.last_queued"),
    Field("TASK_LAST_ARRIVAL", "task_struct", "sched_info.last_arrival"),
    Field("TASK_RUN_DELAY", "task_struct", "sched_info.run_delay"),
    Field("TASK_PCOUNT", "task_struct", "sched_info.pcount"),
    Field("TASK_NR_MIGRATIONS", "task_struct", "se.nr_migrations"),
    Field("TASK_START_TIME", "task_struct", "start_time"),
    Field("TASK_CFS_RQ", "task_struct", "se.cfs_rq"),
    Field("TASK_CGROUPS", "task_struct", "cgroups"),
    Field("CFS_RQ_RQ", "cfs_rq", "rq"),
    Field("RQ_CLOCK", "rq", "clock"),
    Field("CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
];

/// The sum of what a group's run queue was throttled, and since when it is: in 6.6 by the clock of the run queue; before, by
/// that of the tasks, which stands still in interrupts.
const THROTTLED: [[&str; 2]; 3] = [
    ["throttled_clock_self_time", "throttled_clock_self"],
    ["throttled_clock_pelt_time", "throttled_clock_pelt"],
    ["throttled_clock_task_time", "throttled_clock_task"],
];

const LASTING: [Field; 3] = [
    Field("RQ_CURR", "rq", "curr"),
    Field("RQ_CFS_TASKS", "rq", "cfs_tasks"),
    Field("TASK_GROUP_NODE", "task_struct", "se.group_node"),
];

const MIGRATE: [Field; 2] = [Field("TASK_ON_RQ", "task_struct", "on_rq"), Field("RQ_CPU", "rq", "cpu")];

const LIFETIMES: [Field; 2] =
    [Field("CGROUP_ROOT", "cgroup", "root"), Field("CGROUP_ROOT_HIERARCHY_ID", "cgroup_root", "hierarchy_id")];

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
    let state = btf.field("task_struct", "__state").or_else(|_| btf.field("task_struct", "state"))?;
    globals.push(("TASK_STATE", u64::from(state.byte_offset)));
    globals.extend(quotas(btf));
    Ok(globals)
}

/// The globals that tell waits for a quota from others; none where the kernel has no quotas.
fn quotas(btf: &Btf<'_>) -> Vec<Global> {
    let place = |field: &str| btf.field("cfs_rq", field).ok().map(|field| u64::from(field.byte_offset));
    let known = THROTTLED.iter().find_map(|[sum, since]| place(sum).zip(place(since)));
    let Some(((sum, since), count)) = known.zip(place("throttle_count")) else { return Vec::new() };
    vec![
        ("CFS_RQ_THROTTLED_NS", sum),
        ("CFS_RQ_THROTTLED_SINCE", since),
        ("CFS_RQ_THROTTLE_COUNT", count),
        ("HAS_QUOTAS", 1),
    ]
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
    let queued = btf.field("rq", "cfs.h_nr_queued").or_else(|_| btf.field("rq", "cfs.h_nr_running"))?;
    globals.push(("RQ_NR_CFS", u64::from(queued.byte_offset)));
    Ok(globals)
}

/// The globals of the programs that follow the lifetimes of cgroups.
pub(super) fn lifetimes(btf: &Btf<'_>) -> Result<Vec<Global>, BtfError> {
    places(btf, CGROUP_ID.iter().chain(&LIFETIMES))
}

fn places<'a>(btf: &Btf<'_>, fields: impl Iterator<Item = &'a Field>) -> Result<Vec<Global>, BtfError> {
    fields.map(|Field(global, of, path)| Ok((*global, u64::from(btf.field(of, path)?.byte_offset)))).collect()
}
