//! What readers of the books see: entities with their sums, the node's own figures and the agent's.

use super::Peak;
use observer_ebpf::{SCOPES, Traffic, histogram};
use std::sync::Arc;

/// A view of the books at one moment. Borrowed: the agent is one thread, and rendering copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// When the newest window ended: what [`Peak::largest`] looks back from.
    pub window_ended_ns: u64,
    /// The value of the `node` label.
    pub node_name: &'a str,
    /// Every entity that has series, `unattributed` first.
    pub entities: &'a [Entity],
    /// The node's figures.
    pub node: &'a NodeFacts,
    /// The agent's figures.
    pub agent: &'a AgentFacts,
}

/// Never reused while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub u64);

/// Whose books these are; decides the labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// What could not be booked on anybody: `cgroup="unattributed"`, which no path can be.
    Unattributed,
    /// A cgroup that runs something itself: its path below the v2 root, as UTF-8 (the cgroup room escapes other bytes).
    Cgroup {
        /// For instance `/system.slice/sshd.service`.
        path: Arc<str>,
    },
}

/// An entity with its books.
#[derive(Clone, Debug)]
pub struct Entity {
    /// Its number.
    pub id: EntityId,
    /// Its labels.
    pub identity: Identity,
    /// Its sums.
    pub books: Books,
    /// Bytes sent in the largest window of the last minute.
    pub transmit_peak: Peak,
    /// Bytes received in the largest window of the last minute.
    pub receive_peak: Peak,
}

/// Sums since the agent started; none ever falls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// L3 traffic by [`observer_ebpf::Scope`].
    pub traffic: [Traffic; SCOPES],
    /// Waits for a CPU by [`histogram::bucket`].
    pub waits: [u64; histogram::BUCKETS],
    /// Nanoseconds waited.
    pub wait_ns: u64,
    /// Task-nanoseconds in uninterruptible sleep.
    pub uninterruptible_ns: u64,
    /// `cpu.stat`, once it has been read.
    pub cpu: Option<CpuUsage>,
}

/// What `cpu.stat` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// `usage_usec`.
    pub usage_us: u64,
    /// Present where the cpu controller is.
    pub throttling: Option<Throttling>,
}

/// The cpu controller's part of `cpu.stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// `nr_periods`.
    pub periods: u64,
    /// `nr_throttled`.
    pub throttled_periods: u64,
    /// `throttled_usec`.
    pub throttled_us: u64,
}

/// The node as /proc tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// `/proc/loadavg`; absent when it could not be read.
    pub load: Option<LoadAverages>,
    /// `/proc/net/dev` of the host's network namespace.
    pub devices: Vec<Device>,
}

/// The kernel's load averages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadAverages {
    /// Over one minute.
    pub one: f64,
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen minutes.
    pub fifteen: f64,
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

/// The agent about itself.
#[derive(Clone, Debug, Default)]
pub struct AgentFacts {
    /// Each kernel program and whether it runs.
    pub programs: Vec<ProgramFacts>,
    /// Each bounded table and how full it is.
    pub maps: Vec<MapFacts>,
    /// What could not be counted where it belongs, by reason; every reason is always there.
    pub drops: Vec<(&'static str, u64)>,
    /// The process.
    pub process: ProcessFacts,
    /// How long the last scrape took, reading and rendering, in seconds.
    pub scrape_seconds: f64,
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
