//! The agent about itself.

use crate::metrics::family::{Family, Kind, Room, Series, Unit, Value};

pub(super) static FAMILIES: &[Family] = &[
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

/// Zero is what the facts hold when /proc could not be read.
fn known(count: u64) -> Option<Value> {
    (count > 0).then_some(Value::Count(count))
}
