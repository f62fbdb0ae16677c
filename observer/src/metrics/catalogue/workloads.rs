//! What survives the pods of a workload, and what the API tells of them.

use super::{has_traffic, load, nanoseconds};
use crate::{
    ledger::Workload,
    metrics::family::{Family, Kind, Room, Series, Unit, Value},
};

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "observer_workload_network_transmit_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::PerWorkloadScope(|traffic| traffic.transmit_bytes),
        help: "Bytes sent by all pods that the workload ever had on this node, by where the other end is; goes on when its \
               pods are replaced, so a rise over weeks shows here.",
    },
    Family {
        name: "observer_workload_network_receive_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::PerWorkloadScope(|traffic| traffic.receive_bytes),
        help: "Bytes received by all pods that the workload ever had on this node, by where the other end is.",
    },
    Family {
        name: "observer_workload_network_transmit_peak_bytes_per_second",
        kind: Kind::Gauge,
        unit: Unit::BytesPerSecond,
        room: Room::Agent,
        series: Series::PerWorkload(|workload, window| {
            workload_peak(workload, workload.recent.transmit_peak.largest(window))
        }),
        help: "Bytes that the workload's pods on this node sent together in the busiest second of the last 60.",
    },
    Family {
        name: "observer_workload_network_receive_peak_bytes_per_second",
        kind: Kind::Gauge,
        unit: Unit::BytesPerSecond,
        room: Room::Agent,
        series: Series::PerWorkload(|workload, window| {
            workload_peak(workload, workload.recent.receive_peak.largest(window))
        }),
        help: "Bytes that the workload's pods on this node received together in the busiest second of the last 60.",
    },
    Family {
        name: "observer_workload_run_queue_wait_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Kernel,
        series: Series::PerWorkload(|workload, _| nanoseconds(workload.books.wait_ns)),
        help: "Time that tasks of the workload's pods waited for a CPU; rate() is the mean number that wait.",
    },
    Family {
        name: "observer_workload_uninterruptible_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Kernel,
        series: Series::PerWorkload(|workload, _| nanoseconds(workload.books.uninterruptible_ns)),
        help: "Task-seconds that the workload's pods spent in uninterruptible sleep (state D).",
    },
    Family {
        name: "observer_workload_cpu_usage_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Cgroup,
        series: Series::PerWorkload(|workload, _| Some(Value::Microseconds(workload.books.cpu?.usage_us))),
        help: "CPU time used by the containers of the workload's pods, as far as they were there at a scrape.",
    },
    Family {
        name: "observer_workload_load1",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Agent,
        series: Series::PerWorkload(|workload, _| {
            load(&workload.books, &workload.recent, workload.recent.load.rounded().one)
        }),
        help: "What the workload's pods on this node have of its load average over 1 minute; goes on when pods are replaced.",
    },
    Family {
        name: "observer_workload_load5",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Agent,
        series: Series::PerWorkload(|workload, _| {
            load(&workload.books, &workload.recent, workload.recent.load.rounded().five)
        }),
        help: "What the workload's pods on this node have of its load average over 5 minutes.",
    },
    Family {
        name: "observer_workload_load15",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Agent,
        series: Series::PerWorkload(|workload, _| {
            load(&workload.books, &workload.recent, workload.recent.load.rounded().fifteen)
        }),
        help: "What the workload's pods on this node have of its load average over 15 minutes.",
    },
    Family {
        name: "observer_workload_pods_started_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kube,
        series: Series::PerWorkload(|workload, _| workload.names.as_ref().map(|_| Value::Count(workload.pods_started))),
        help: "Pods of the workload that were seen on this node since the agent started; a fast rise means restarts or a job \
               that runs often.",
    },
    Family {
        name: "observer_workload_pods",
        kind: Kind::Gauge,
        unit: Unit::Count,
        room: Room::Kube,
        series: Series::PerWorkload(|workload, _| workload.names.as_ref().map(|_| Value::Count(workload.pods))),
        help: "Pods of the workload that have a cgroup on this node now.",
    },
    Family {
        name: "observer_pod_info",
        kind: Kind::Gauge,
        unit: Unit::Truth,
        room: Room::Kube,
        series: Series::PerPod,
        help: "Always 1; the labels say what the API tells of a pod of this node. Join it by namespace and pod.",
    },
    Family {
        name: "observer_pod_container_resource_requests",
        kind: Kind::Gauge,
        unit: Unit::Labelled,
        room: Room::Kube,
        series: Series::PerResource(|resources| &resources.requests),
        help: "What the spec of a pod that has not ended asks for, by container (sidecars included, other init containers not; \
               without a container what the pod asks for as a whole): CPU in cores, memory in bytes. Absent where nothing is \
               asked for: such pods are placed without regard to what they use.",
    },
    Family {
        name: "observer_pod_container_resource_limits",
        kind: Kind::Gauge,
        unit: Unit::Labelled,
        room: Room::Kube,
        series: Series::PerResource(|resources| &resources.limits),
        help: "What the spec of a pod that has not ended limits, by container as observer_pod_container_resource_requests: CPU in \
               cores, memory in bytes. Absent \
               where there is no limit.",
    },
];

fn workload_peak(workload: &Workload, largest: f64) -> Option<Value> {
    has_traffic(&workload.books).then_some(Value::Float(largest))
}
