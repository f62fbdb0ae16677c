//! What entities use of memory, and what their tasks are stalled for.

use crate::metrics::family::{Family, Kind, Room, Series, Unit, Value};

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "observer_memory_working_set_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| Some(Value::Count(entity.memory?.working_set_bytes))),
        help: "Memory charged to the cgroup less page cache that was not used lately, as kubectl top has it, read every 30 s: of a \
               container everything below it included, of any other cgroup less what the cgroups below it use; a rise over days \
               with even work is a leak.",
    },
    Family {
        name: "observer_memory_limit_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| Some(Value::Count(entity.memory?.limit_bytes?))),
        help: "The cgroup's own limit of memory as the kernel has it, read every 5 minutes; absent where there is none. A working \
               set that comes near it ends in reclaim, then in OOM kills.",
    },
    Family {
        name: "observer_memory_oom_kills_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| entity.books.oom_kills.map(Value::Count)),
        help: "Processes of the cgroup that the kernel killed for want of memory. One whose container was gone within a second \
               is on its pod without a container (v2), else on cgroup=\"unattributed\" (v1).",
    },
    Family {
        name: "observer_pressure_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Cgroup,
        series: Series::Stalls,
        help: "Time in which some or all tasks of the cgroup and of those below it could not go on for want of CPU, memory or \
               I/O (total of cpu.pressure and so on); only with --pressure, where the kernel has PSI. Stalls of several cgroups \
               overlap: they do not add up to the node's.",
    },
];
