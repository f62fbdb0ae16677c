//! What readers of the books see: entities with their sums, the node's own figures and the agent's.

use super::{Entity, PodNames, Workload};
use std::sync::Arc;

/// A view of the books at one moment. Borrowed: the agent is one thread, and rendering copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// When the newest window ended: what [`Peak::largest`](super::Peak::largest) looks back from.
    pub window_ended_ns: u64,
    /// The value of the `node` label.
    pub node_name: &'a str,
    /// Every entity that has series, `unattributed` first.
    pub entities: &'a [Entity],
    /// Every workload that has, or lately had, a pod here.
    pub workloads: &'a [Workload],
    /// The pods of this node, as the API tells.
    pub pods: &'a [PodFacts],
    /// The node's figures.
    pub node: &'a NodeFacts,
    /// The agent's figures.
    pub agent: &'a AgentFacts,
}

/// The node as /proc tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// `/proc/loadavg`; absent when it could not be read.
    pub load: Option<LoadAverages>,
    /// Its one-minute average less the entities' shares; absent while their tasks are not followed.
    pub unattributed_load: Option<f64>,
    /// The part of that which are tasks that sleep on a run queue; absent where nobody looks.
    pub sleeping_load: Option<f64>,
    /// `/proc/net/dev` of the host's network namespace.
    pub devices: Vec<Device>,
}

/// Load averages: the kernel's, or an entity's share of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadAverages {
    /// Over one minute.
    pub one: f64,
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen minutes.
    pub fifteen: f64,
}

impl LoadAverages {
    /// To the millionth of a task, as they are shown: so that what is shown adds up.
    #[must_use]
    pub fn rounded(self) -> Self {
        let round = |load: f64| (load * 1e6).round() / 1e6;
        Self { one: round(self.one), five: round(self.five), fifteen: round(self.fifteen) }
    }
}

/// A network device's own counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub receive_bytes: u64,
    /// Bytes sent.
    pub transmit_bytes: u64,
}

/// A pod as the API tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Its names, its workload's among them.
    pub names: Arc<PodNames>,
    /// Its UID in the API.
    pub uid: Arc<str>,
    /// Whether it shares the node's network namespace.
    pub host_network: bool,
    /// `Guaranteed`, `Burstable`, `BestEffort`.
    pub qos_class: &'static str,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: &'static str,
    /// The kind of its controller as the pod names it, empty for none.
    pub created_by_kind: Arc<str>,
    /// The name of its controller, empty for none.
    pub created_by_name: Arc<str>,
    /// What its containers ask for and may use; of those that have neither there is nothing.
    pub resources: Arc<[ContainerResources]>,
}

/// What a container asks for and may use, by its pod's spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerResources {
    /// Its name; empty for what the pod has as a whole.
    pub container: Arc<str>,
    /// What the scheduler keeps for it.
    pub requests: Bounds,
    /// What the kernel keeps it to.
    pub limits: Bounds,
}

/// Amounts of resources; `None` for those that are not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Billionths of a CPU.
    pub cpu_nanocores: Option<u64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
}

impl Bounds {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is known of the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeFacts {
    /// Whether the last request was answered.
    pub up: bool,
    /// How often the watch of the pods began anew after an error.
    pub watch_restarts: u64,
    /// What needs a permission, and why it is not to be had where it is not.
    pub features: Vec<(&'static str, Option<String>)>,
}

/// The agent about itself.
#[derive(Clone, Debug, Default)]
pub struct AgentFacts {
    /// Each kernel program and whether it runs.
    pub programs: Vec<ProgramFacts>,
    /// Each bounded table and how full it is.
    pub maps: Vec<MapFacts>,
    /// What could not be counted where it belongs, by reason; every reason is always there.
    pub drops: Vec<(&'static str, u64)>,
    /// The API server, where there is to be one.
    pub kube: Option<KubeFacts>,
    /// What is remembered.
    pub history: HistoryFacts,
    /// The budget of series.
    pub series_limit: u64,
    /// The process.
    pub process: ProcessFacts,
    /// How long the last scrape took, reading and rendering, in seconds.
    pub scrape_seconds: f64,
}

/// The history about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFacts {
    /// Whether it is, or ought to be, on a disk.
    pub on_disk: bool,
    /// Why rows are not kept where they ought to be.
    pub down_because: Option<String>,
    /// Rows that were dropped before they could be written.
    pub lost_rows: u64,
    /// Bytes of rows in memory, most of them to be written.
    pub waiting_bytes: u64,
    /// What the file takes of the disk.
    pub file_bytes: u64,
    /// Bytes written to it since the start.
    pub written_bytes: u64,
    /// Commits that failed.
    pub write_failures: u64,
    /// Files that could not be used.
    pub files_moved_aside: u64,
    /// Workloads of which there may be rows.
    pub workloads: u64,
    /// Rows of workloads that had none of their own.
    pub shared_rows: u64,
    /// Workloads that were forgotten for new ones.
    pub forgotten_workloads: u64,
}

/// A kernel program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Its name in the object.
    pub name: &'static str,
    /// `None` when it is attached, else why it is not.
    pub down_because: Option<String>,
    /// Nanoseconds it ran and how often: only when the kernel's statistics are on.
    pub run_time: Option<(u64, u64)>,
    /// How many instructions the verifier followed, of a million that it would: where the kernel says (5.16).
    pub verified_instructions: Option<u32>,
}

/// A bounded kernel table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapFacts {
    /// Its name in the object.
    pub name: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Entries there are.
    pub max_entries: u64,
}

/// What /proc/self says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Address space in bytes.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// The soft limit of descriptors.
    pub max_fds: u64,
    /// Start, seconds since the epoch.
    pub start_time_seconds: f64,
    /// Threads.
    pub threads: u64,
}
