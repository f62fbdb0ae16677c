//! What the tasks of entities do: run, wait for a CPU, sleep uninterruptibly.

use super::{load, nanoseconds};
use crate::{
    ledger::{Entity, Throttling},
    metrics::family::{Family, Kind, Room, Series, Unit, Value},
};

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "observer_run_queue_wait_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        room: Room::Kernel,
        series: Series::Waits,
        help: "How long the cgroup's tasks were runnable before they got a CPU, per wait; rate() of the sum is the mean \
               number of its tasks that wait, so a rise means too few CPUs, a quota or a neighbour.",
    },
    Family {
        name: "observer_run_queue_wait_caused_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Kernel,
        series: Series::Caused,
        help: "Waits for a CPU longer than --wait-threshold, by who had the CPU meanwhile: other_pod is a neighbour, \
               same_container too few CPUs for its own threads, throttled its own CPU limit.",
    },
    Family {
        name: "observer_uninterruptible_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| nanoseconds(entity.books.uninterruptible_ns)),
        help: "Task-seconds in uninterruptible sleep (state D), which the load average counts: slow disks, network file \
               systems and memory reclaim are the usual causes.",
    },
    Family {
        name: "observer_load1",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Agent,
        series: Series::PerEntity(|entity, _| load(&entity.books, &entity.recent, entity.recent.load.rounded().one)),
        help: "The cgroup's share of the node's load average over 1 minute: tasks that run, wait for a CPU or sleep \
               uninterruptibly, averaged as the kernel does. All shares and observer_node_load1_unattributed add up to \
               observer_node_load1.",
    },
    Family {
        name: "observer_load5",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Agent,
        series: Series::PerEntity(|entity, _| load(&entity.books, &entity.recent, entity.recent.load.rounded().five)),
        help: "The cgroup's share of the node's load average over 5 minutes.",
    },
    Family {
        name: "observer_load15",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Agent,
        series: Series::PerEntity(|entity, _| {
            load(&entity.books, &entity.recent, entity.recent.load.rounded().fifteen)
        }),
        help: "The cgroup's share of the node's load average over 15 minutes.",
    },
    Family {
        name: "observer_load_peak",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Agent,
        series: Series::PerEntity(|entity, window| {
            load(&entity.books, &entity.recent, entity.recent.load_peak.largest(window))
        }),
        help: "Mean number of active tasks in the busiest second of the last 60 (with --sample-interval above 1s: the busiest \
               interval); far above observer_load1 means bursts that an average hides.",
    },
    Family {
        name: "observer_cpu_usage_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| Some(Value::Microseconds(entity.books.cpu?.usage_us))),
        help: "CPU time used by the cgroup's own tasks, user and system: usage_usec of cpu.stat less that of the cgroups \
               below. It begins with what was used before the agent started; what a cgroup used between the last scrape \
               and its end is on the cgroup above.",
    },
    Family {
        name: "observer_cpu_throttled_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| Some(Value::Nanoseconds(throttling(entity)?.throttled_ns))),
        help: "Time the cgroup was stopped by its own CPU quota, summed over CPUs (throttled_usec of cpu.stat, throttled_time \
               in v1); if it rises with the run queue wait, raise the limit rather than add CPUs. A pod's quota, which stops \
               all of its containers, is on a series of the pod without a container.",
    },
    Family {
        name: "observer_cpu_throttled_periods_total",
        kind: Kind::Counter,
        unit: Unit::Periods,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| Some(Value::Count(throttling(entity)?.throttled_periods))),
        help: "Enforcement periods in which the cgroup used up its own CPU quota (nr_throttled of cpu.stat, v2 or v1).",
    },
    Family {
        name: "observer_cpu_periods_total",
        kind: Kind::Counter,
        unit: Unit::Periods,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| Some(Value::Count(throttling(entity)?.periods))),
        help: "Enforcement periods that have passed while the cgroup was runnable under a quota of its own (nr_periods \
               of cpu.stat, v2 or v1): what throttled periods are a share of.",
    },
];

fn throttling(entity: &Entity) -> Option<Throttling> {
    // The controller shows zeros where there never was a quota.
    entity.books.cpu?.throttling.filter(|throttling| throttling.periods > 0)
}
