//! What a row of the catalogue says about a family: its name and type, and which part of a snapshot fills it.
//!
//! The labels are not a column: they follow from what there is one series for, so they cannot disagree with the page.

use crate::ledger::{
    AgentFacts, Bounds, ContainerResources, Device, Entity, HistoryFacts, KubeFacts, MapFacts, NodeFacts, ProgramFacts,
    Workload,
};
use observer_ebpf::Traffic;

/// A metric family: `HELP`, `TYPE` and the series under them.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name; counters end in `_total`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What its values count.
    pub unit: Unit,
    /// The room of the house that brings the numbers.
    pub room: Room,
    /// One series for each of what, and where its value is.
    pub series: Series,
    /// One line that an operator can act on.
    pub help: &'static str,
}

/// A family's type in the text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never falls while the agent runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
}

impl Kind {
    /// The word of the `TYPE` line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a value counts, in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Bytes in a second.
    BytesPerSecond,
    /// Packets.
    Packets,
    /// TCP segments.
    Segments,
    /// TCP resets.
    Resets,
    /// TCP connections.
    Connections,
    /// Seconds, exact to the nanosecond for what the kernel counts in nanoseconds.
    Seconds,
    /// Enforcement periods of the cpu controller.
    Periods,
    /// Mean number of tasks that run, wait for a CPU or sleep uninterruptibly.
    Tasks,
    /// Entries of a table, events, series, descriptors, threads.
    Count,
    /// 0 or 1.
    Truth,
    /// As the label `unit` says.
    Labelled,
}

impl Unit {
    /// The unit's name in the documentation.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes/s",
            Self::Packets => "packets",
            Self::Segments => "segments",
            Self::Resets => "resets",
            Self::Connections => "connections",
            Self::Seconds => "seconds",
            Self::Periods => "periods",
            Self::Tasks => "tasks",
            Self::Count => "count",
            Self::Truth => "0 or 1",
            Self::Labelled => "as `unit` says",
        }
    }
}

/// The module that brings a family's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The kernel programs' maps.
    Kernel,
    /// Files of the cgroup tree.
    Cgroup,
    /// Files of /proc.
    Procfs,
    /// The API server.
    Kube,
    /// The agent's task.
    Agent,
    /// What is remembered.
    History,
    /// The encoder itself.
    Metrics,
}

impl Room {
    /// The module's name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Cgroup => "cgroup",
            Self::Procfs => "procfs",
            Self::Kube => "kube",
            Self::Agent => "agent",
            Self::History => "history",
            Self::Metrics => "metrics",
        }
    }
}

/// Stands for the labels of an entity: a container's [`CONTAINER_LABELS`], or `cgroup`.
pub const ENTITY: &str = "entity";
/// The labels of a container.
pub const CONTAINER_LABELS: [&str; 5] = ["namespace", "pod", "container", "workload", "workload_type"];

/// What there is one series for, with where its value is. A `None` leaves the series out.
#[derive(Clone, Copy, Debug)]
pub enum Series {
    /// Each entity and each scope in which it had traffic.
    PerScope(fn(&Traffic) -> u64),
    /// Each entity; the second argument is when the newest window ended.
    PerEntity(fn(&Entity, u64) -> Option<Value>),
    /// Open connections by scope and direction.
    Connections,
    /// The wait histogram of each entity that ever waited.
    Waits,
    /// Each entity and each response code that DNS servers answered it with.
    DnsResponses,
    /// The histogram of how long each entity that asked DNS servers waited for answers.
    DnsWaits,
    /// Each entity and each kind of cause for which it waited.
    Caused,
    /// Each entity, each resource that its tasks were stalled for, and whether some or all of them were.
    Stalls,
    /// Each workload and each scope in which its pods had traffic.
    PerWorkloadScope(fn(&Traffic) -> u64),
    /// Each workload; the second argument is when the newest window ended.
    PerWorkload(fn(&Workload, u64) -> Option<Value>),
    /// Each pod of the node; always 1.
    PerPod,
    /// Each container of a pod of the node that has not ended, and each resource for which the spec has such a bound.
    PerResource(fn(&ContainerResources) -> &Bounds),
    /// The node, from the traffic of the unattributed entity, summed over its scopes.
    Unattributed(fn(&Traffic) -> u64),
    /// The node.
    Node(fn(&NodeFacts) -> Option<Value>),
    /// Each network device of the node.
    PerDevice(fn(&Device) -> u64),
    /// The agent's version; always 1.
    Build,
    /// Each kernel program, with the reason when it is down.
    ProgramUp,
    /// Each kernel program.
    PerProgram(fn(&ProgramFacts) -> Option<Value>),
    /// Each bounded kernel table.
    PerMap(fn(&MapFacts) -> u64),
    /// Each reason why something was not counted where it belongs.
    PerDrop,
    /// The agent.
    Agent(fn(&AgentFacts) -> Option<Value>),
    /// Where rows are kept, with the reason when they cannot be.
    HistoryUp,
    /// The history.
    History(fn(&HistoryFacts) -> Option<Value>),
    /// The API server, where there is to be one.
    Kube(fn(&KubeFacts) -> Value),
    /// Each thing that needs a permission of the API server, with the reason when it is not to be had.
    PerKubeFeature,
    /// The page itself: how many series it has.
    Page,
}

impl Series {
    /// The labels of such a series, in the order in which they are written.
    pub const fn labels(&self) -> &'static [&'static str] {
        match self {
            Self::PerScope(_) => &["node", ENTITY, "scope"],
            Self::PerEntity(_) => &["node", ENTITY],
            Self::Connections => &["node", ENTITY, "scope", "direction"],
            Self::Waits | Self::DnsWaits => &["node", ENTITY, "le"],
            Self::DnsResponses => &["node", ENTITY, "rcode"],
            Self::Caused => &["node", ENTITY, "by"],
            Self::Stalls => &["node", ENTITY, "resource", "kind"],
            Self::PerWorkloadScope(_) => &["node", "namespace", "workload", "workload_type", "scope"],
            Self::PerWorkload(_) => &["node", "namespace", "workload", "workload_type"],
            Self::PerPod => &[
                "node",
                "namespace",
                "pod",
                "uid",
                "workload",
                "workload_type",
                "host_network",
                "qos_class",
                "phase",
                "created_by_kind",
                "created_by_name",
            ],
            Self::PerResource(_) => &["node", "namespace", "pod", "container", "resource", "unit"],
            Self::Unattributed(_) | Self::Node(_) => &["node"],
            Self::PerDevice(_) => &["node", "device"],
            Self::Build => &["version", "revision"],
            Self::ProgramUp => &["program", "reason"],
            Self::PerProgram(_) => &["program"],
            Self::PerMap(_) => &["map"],
            Self::PerDrop => &["reason"],
            Self::PerKubeFeature => &["feature", "reason"],
            Self::HistoryUp => &["store", "reason"],
            Self::Agent(_) | Self::History(_) | Self::Kube(_) | Self::Page => &[],
        }
    }
}

/// A value in the form in which it is known, so that writing it loses nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Written as it is.
    Count(u64),
    /// Written as seconds, exactly.
    Nanoseconds(u64),
    /// Written as seconds, exactly.
    Microseconds(u64),
    /// Written so that it reads back as the same float.
    Float(f64),
}
