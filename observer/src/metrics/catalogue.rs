//! Every family that the agent exports: the one table from which the exporter and docs/metrics.md are drawn.
//!
//! To add a metric, add a row: its [`Series`] says where in a snapshot the values are, and the encoder writes nothing
//! that has no row.

use super::family::{Family, Kind, Room, Series, Unit, Value};
use crate::ledger::{Books, Entity, Throttling, Workload};
use observer_ebpf::Traffic;

/// The families, in the order of the page.
pub static FAMILIES: &[Family] = &[
    Family {
        name: "observer_network_transmit_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::PerScope(|traffic| traffic.transmit_bytes),
        help: "Bytes sent by the cgroup's sockets as on the wire at L3 (IP headers and retransmits included), by where the \
               other end is; rate() over scope=\"internet\" finds who fills the uplink.",
    },
    Family {
        name: "observer_network_receive_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::PerScope(|traffic| traffic.receive_bytes),
        help: "Bytes received by the cgroup's sockets as on the wire at L3 (IP headers and retransmits included), by where \
               the other end is.",
    },
    Family {
        name: "observer_network_transmit_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        room: Room::Kernel,
        series: Series::PerScope(|traffic| traffic.transmit_packets),
        help: "Packets sent as on the wire, after segmentation; many small ones cost more CPU than their bytes suggest.",
    },
    Family {
        name: "observer_network_receive_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        room: Room::Kernel,
        series: Series::PerScope(|traffic| traffic.receive_packets),
        help: "Packets received as on the wire, before they are merged.",
    },
    Family {
        name: "observer_network_transmit_peak_bytes_per_second",
        kind: Kind::Gauge,
        unit: Unit::BytesPerSecond,
        room: Room::Agent,
        series: Series::PerEntity(|entity, window| peak(entity, entity.transmit_peak.largest(window))),
        help: "Bytes sent in the busiest second of the last 60 (with --sample-interval above 1s: the busiest interval); far \
               above rate() means bursts that an average hides.",
    },
    Family {
        name: "observer_network_receive_peak_bytes_per_second",
        kind: Kind::Gauge,
        unit: Unit::BytesPerSecond,
        room: Room::Agent,
        series: Series::PerEntity(|entity, window| peak(entity, entity.receive_peak.largest(window))),
        help: "Bytes received in the busiest second of the last 60 (with --sample-interval above 1s: the busiest interval); \
               far above rate() means bursts that an average hides.",
    },
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
        name: "observer_uninterruptible_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| nanoseconds(entity.books.uninterruptible_ns)),
        help: "Task-seconds in uninterruptible sleep (state D), which the load average counts: slow disks, network file \
               systems and memory reclaim are the usual causes.",
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
        series: Series::PerEntity(|entity, _| Some(Value::Microseconds(throttling(entity)?.throttled_us))),
        help: "Time the cgroup was stopped by its CPU quota (throttled_usec of cpu.stat); if it rises with the run queue \
               wait, raise the limit rather than add CPUs.",
    },
    Family {
        name: "observer_cpu_throttled_periods_total",
        kind: Kind::Counter,
        unit: Unit::Periods,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| Some(Value::Count(throttling(entity)?.throttled_periods))),
        help: "Enforcement periods in which the cgroup used up its CPU quota (nr_throttled of cpu.stat).",
    },
    Family {
        name: "observer_cpu_periods_total",
        kind: Kind::Counter,
        unit: Unit::Periods,
        room: Room::Cgroup,
        series: Series::PerEntity(|entity, _| Some(Value::Count(throttling(entity)?.periods))),
        help: "Enforcement periods that have passed while the cgroup was runnable under a quota (nr_periods of cpu.stat): \
               what throttled periods are a share of.",
    },
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
        series: Series::PerWorkload(|workload, window| workload_peak(workload, workload.transmit_peak.largest(window))),
        help: "Bytes that the workload's pods on this node sent together in the busiest second of the last 60.",
    },
    Family {
        name: "observer_workload_network_receive_peak_bytes_per_second",
        kind: Kind::Gauge,
        unit: Unit::BytesPerSecond,
        room: Room::Agent,
        series: Series::PerWorkload(|workload, window| workload_peak(workload, workload.receive_peak.largest(window))),
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
        name: "observer_node_load1",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Procfs,
        series: Series::Node(|node| Some(Value::Float(node.load?.one))),
        help: "The kernel's own load average over 1 minute.",
    },
    Family {
        name: "observer_node_load5",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Procfs,
        series: Series::Node(|node| Some(Value::Float(node.load?.five))),
        help: "The kernel's own load average over 5 minutes.",
    },
    Family {
        name: "observer_node_load15",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Procfs,
        series: Series::Node(|node| Some(Value::Float(node.load?.fifteen))),
        help: "The kernel's own load average over 15 minutes.",
    },
    Family {
        name: "observer_node_network_device_transmit_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Procfs,
        series: Series::PerDevice(|device| device.transmit_bytes),
        help: "Bytes sent by a device of the node as the device counts them (L2, forwarded traffic included): what the \
               cgroups' bytes are compared with.",
    },
    Family {
        name: "observer_node_network_device_receive_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Procfs,
        series: Series::PerDevice(|device| device.receive_bytes),
        help: "Bytes received by a device of the node as the device counts them (L2, forwarded traffic included).",
    },
    Family {
        name: "observer_node_network_unattributed_transmit_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::Unattributed(|traffic| traffic.transmit_bytes),
        help: "Bytes sent that could be booked to no cgroup; observer_dropped_total says why. The same bytes are the \
               series with cgroup=\"unattributed\".",
    },
    Family {
        name: "observer_node_network_unattributed_receive_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::Unattributed(|traffic| traffic.receive_bytes),
        help: "Bytes received that could be booked to no cgroup; observer_dropped_total says why. The same bytes are the \
               series with cgroup=\"unattributed\".",
    },
    Family {
        name: "observer_build_info",
        kind: Kind::Gauge,
        unit: Unit::Truth,
        room: Room::Metrics,
        series: Series::Build,
        help: "Always 1; the labels say which build runs.",
    },
    Family {
        name: "observer_bpf_program_up",
        kind: Kind::Gauge,
        unit: Unit::Truth,
        room: Room::Kernel,
        series: Series::ProgramUp,
        help: "1 if the kernel program is attached; 0 with the reason if not: its metrics are missing or stand still. \
               `observer check` tells the fix.",
    },
    Family {
        name: "observer_bpf_run_time_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Kernel,
        series: Series::PerProgram(|program| Some(Value::Nanoseconds(program.run_time?.0))),
        help: "Time spent in the kernel program; there only while kernel.bpf_stats_enabled is 1, which itself costs some.",
    },
    Family {
        name: "observer_bpf_run_count_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::PerProgram(|program| Some(Value::Count(program.run_time?.1))),
        help: "Runs of the kernel program; there only while kernel.bpf_stats_enabled is 1.",
    },
    Family {
        name: "observer_bpf_map_entries",
        kind: Kind::Gauge,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::PerMap(|map| map.entries),
        help: "Entries in use of a bounded kernel table; when it nears the maximum, raise --max-cgroups.",
    },
    Family {
        name: "observer_bpf_map_max_entries",
        kind: Kind::Gauge,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::PerMap(|map| map.max_entries),
        help: "Entries that a bounded kernel table can hold.",
    },
    Family {
        name: "observer_dropped_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::PerDrop,
        help: "Events that could not be counted where they belong, by reason; anything but 0 means that some books are on \
               cgroup=\"unattributed\" or incomplete.",
    },
    Family {
        name: "observer_kube_up",
        kind: Kind::Gauge,
        unit: Unit::Truth,
        room: Room::Kube,
        series: Series::Kube(|kube| Value::Count(kube.up.into())),
        help: "1 while the API server answers; at 0 everything is counted, and new pods go by their uid until it answers \
               again. The agent's log says why. Absent where no API server is configured.",
    },
    Family {
        name: "observer_kube_watch_restarts_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kube,
        series: Series::Kube(|kube| Value::Count(kube.watch_restarts)),
        help: "Times that the watch of this node's pods failed and was begun anew.",
    },
    Family {
        name: "observer_kube_feature_up",
        kind: Kind::Gauge,
        unit: Unit::Truth,
        room: Room::Kube,
        series: Series::PerKubeFeature,
        help: "1 if the API server grants what a feature needs; 0 with the reason if not. docs/security.md lists the verbs.",
    },
    Family {
        name: "observer_scrape_duration_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        room: Room::Agent,
        series: Series::Agent(|agent| Some(Value::Float(agent.scrape_seconds))),
        help: "How long the scrape before this one took in the agent, reading the kernel's tables and rendering.",
    },
    Family {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        room: Room::Procfs,
        series: Series::Agent(|agent| Some(Value::Float(agent.process.cpu_seconds))),
        help: "CPU time used by the agent, user and system; the kernel programs' time is in the tasks that they interrupt.",
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        room: Room::Procfs,
        series: Series::Agent(|agent| known(agent.process.resident_bytes)),
        help: "Resident memory of the agent; kernel tables are not in it.",
    },
    Family {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        room: Room::Procfs,
        series: Series::Agent(|agent| known(agent.process.virtual_bytes)),
        help: "Address space of the agent.",
    },
    Family {
        name: "process_open_fds",
        kind: Kind::Gauge,
        unit: Unit::Count,
        room: Room::Procfs,
        series: Series::Agent(|agent| known(agent.process.open_fds)),
        help: "Open file descriptors of the agent.",
    },
    Family {
        name: "process_max_fds",
        kind: Kind::Gauge,
        unit: Unit::Count,
        room: Room::Procfs,
        series: Series::Agent(|agent| known(agent.process.max_fds)),
        help: "File descriptors that the agent may have open.",
    },
    Family {
        name: "process_threads",
        kind: Kind::Gauge,
        unit: Unit::Count,
        room: Room::Procfs,
        series: Series::Agent(|agent| known(agent.process.threads)),
        help: "Threads of the agent.",
    },
    Family {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        room: Room::Procfs,
        series: Series::Agent(|agent| {
            let start = agent.process.start_time_seconds;
            (start > 0.0).then_some(Value::Float(start))
        }),
        help: "When the agent started, in seconds since the epoch; a change means that every counter began anew.",
    },
    Family {
        name: "observer_series_limit",
        kind: Kind::Gauge,
        unit: Unit::Count,
        room: Room::Agent,
        series: Series::Agent(|agent| Some(Value::Count(agent.series_limit))),
        help: "The budget of --series-limit: beyond it the smallest entities of a namespace share the series with \
               cgroup=\"other\".",
    },
    Family {
        name: "observer_series",
        kind: Kind::Gauge,
        unit: Unit::Count,
        room: Room::Metrics,
        series: Series::Page,
        help: "Series on this page, this one included: what a scrape adds to the time series database.",
    },
];

/// Absent until the entity has had traffic.
fn peak(entity: &Entity, largest: f64) -> Option<Value> {
    has_traffic(&entity.books).then_some(Value::Float(largest))
}

fn workload_peak(workload: &Workload, largest: f64) -> Option<Value> {
    has_traffic(&workload.books).then_some(Value::Float(largest))
}

fn has_traffic(books: &Books) -> bool {
    books.traffic.iter().any(|traffic| *traffic != Traffic::default())
}

/// Absent until there is something to count.
fn nanoseconds(ns: u64) -> Option<Value> {
    (ns > 0).then_some(Value::Nanoseconds(ns))
}

fn throttling(entity: &Entity) -> Option<Throttling> {
    entity.books.cpu?.throttling
}

/// Zero is what the facts hold when /proc could not be read.
fn known(count: u64) -> Option<Value> {
    (count > 0).then_some(Value::Count(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let names: HashSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for Family { name, kind, unit, .. } in FAMILIES {
            assert!(name.starts_with("observer_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let unit = match unit {
                Unit::Bytes => "bytes",
                Unit::BytesPerSecond => "bytes_per_second",
                Unit::Seconds => "seconds",
                Unit::Packets => "packets",
                Unit::Periods => "periods",
                Unit::Tasks => "load",
                Unit::Count | Unit::Truth => continue,
            };
            assert!(name.contains(unit), "{name} does not name its unit");
        }
    }

    #[test]
    fn help_is_one_line_that_needs_no_escape() {
        for Family { name, help, .. } in FAMILIES {
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']) && !help.contains("  "), "{name}: {help:?}");
        }
    }

    #[test]
    fn the_page_counts_its_series_in_its_last_family() {
        let at = FAMILIES.iter().position(|family| matches!(family.series, Series::Page));
        assert_eq!(at, Some(FAMILIES.len() - 1), "what comes after would not be counted");
    }
}
