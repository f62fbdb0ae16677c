//! `/api/v1/snapshot` and `/api/v1/events`: what everybody on the node does now.

use super::{Order, SnapshotQuery, Who};
use crate::ledger::{Books, By, Entity, Ledger, LoadAverages, MemoryUse, Recent, Snapshot};
use observer_ebpf::{Scope, TcpBook, Traffic};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap, ops::AddAssign};

/// The node, and who does most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotAnswer {
    /// The node.
    pub node: String,
    /// When.
    pub time_unix_seconds: u64,
    /// How long the newest window is, of which the rates are; 0 before the first has ended.
    pub window_seconds: f64,
    /// The kernel's load averages; not there if they cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Averages>,
    /// What of the first of them is no entity's; not there while tasks are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load1_unattributed: Option<f64>,
    /// All entities together.
    pub all: Doings,
    /// Those that do most, by what the request sorts by.
    pub entities: Vec<EntityRow>,
    /// How many entities there are beyond those that were asked for.
    pub more: usize,
    /// How many nodes these are together; an agent tells of its own alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
}

/// Load averages over one, five and fifteen minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Averages {
    /// Over one minute.
    pub load1: f64,
    /// Over five minutes.
    pub load5: f64,
    /// Over fifteen minutes.
    pub load15: f64,
}

impl From<LoadAverages> for Averages {
    fn from(load: LoadAverages) -> Self {
        let LoadAverages { one, five, fifteen } = load.rounded();
        Self { load1: one, load5: five, load15: fifteen }
    }
}

/// What the last windows brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Doings {
    /// L3 bytes sent in a second of the newest window.
    pub transmit_bytes_per_second: f64,
    /// L3 bytes received in a second of it.
    pub receive_bytes_per_second: f64,
    /// The largest rate of a window of the last minute.
    pub transmit_peak_bytes_per_second: f64,
    /// The same of what was received.
    pub receive_peak_bytes_per_second: f64,
    /// Tasks that ran, waited for a CPU or slept uninterruptibly, in the mean of the newest window.
    pub active_tasks: f64,
    /// The most of them in a window of the last minute.
    pub load_peak: f64,
    /// Task-seconds of waits for a CPU that ended in a second of the newest window.
    pub wait_seconds_per_second: f64,
    /// Shares of the node's load averages.
    #[serde(flatten)]
    pub load: Averages,
}

impl AddAssign for Averages {
    fn add_assign(&mut self, Self { load1, load5, load15 }: Self) {
        self.load1 += load1;
        self.load5 += load5;
        self.load15 += load15;
    }
}

/// Sums, but for the peaks: they need not have been in the same second, and the largest of them is one that was.
impl AddAssign for Doings {
    fn add_assign(&mut self, more: Self) {
        self.transmit_bytes_per_second += more.transmit_bytes_per_second;
        self.receive_bytes_per_second += more.receive_bytes_per_second;
        self.active_tasks += more.active_tasks;
        self.wait_seconds_per_second += more.wait_seconds_per_second;
        for (largest, other) in [
            (&mut self.transmit_peak_bytes_per_second, more.transmit_peak_bytes_per_second),
            (&mut self.receive_peak_bytes_per_second, more.receive_peak_bytes_per_second),
            (&mut self.load_peak, more.load_peak),
        ] {
            *largest = largest.max(other);
        }
        self.load += more.load;
    }
}

/// An entity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EntityRow {
    /// Who.
    pub entity: Who,
    /// What the last windows brought.
    #[serde(flatten)]
    pub now: Doings,
    /// L3 bytes sent since the agent started, by scope; those without any are left out.
    pub transmit_bytes: BTreeMap<String, u64>,
    /// L3 bytes received, by scope.
    pub receive_bytes: BTreeMap<String, u64>,
    /// Task-seconds of waits for a CPU.
    pub wait_seconds: f64,
    /// Of the long ones, by who had the CPU; kinds without any are left out.
    pub caused_wait_seconds: BTreeMap<String, f64>,
    /// Task-seconds of uninterruptible sleep.
    pub uninterruptible_seconds: f64,
    /// Seconds of CPU time, by the kernel's account; not there before that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Seconds for which its own quota stopped it; not there where no controller tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_seconds: Option<f64>,
    /// Its memory, less page cache that was not used lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_working_set_bytes: Option<u64>,
    /// Its limit of memory; not there if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// TCP connections that were open at the last scrape; not there before one, and on kernels that cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_connections: Option<u64>,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// TCP connections that did not come to be.
    pub failed_connections: u64,
}

impl SnapshotAnswer {
    /// What the books say.
    pub fn of(snapshot: &Snapshot<'_>, ledger: &Ledger, query: &SnapshotQuery, now_unix_seconds: u64) -> Self {
        let window_seconds = ledger.window_elapsed_ns() as f64 / 1e9;
        let doings = |recent: &Recent| doings(recent, snapshot.window_ended_ns, window_seconds);
        // What shares series is in its namespace's `other`: so the rows add up to the node's.
        let shown = snapshot.entities.iter().filter(|entity| entity.shown);
        let is_wanted = |entity: &&Entity| {
            let wanted = query.entity.as_deref();
            wanted.is_none_or(|wanted| Who::from(&entity.identity).is_meant_by(wanted))
        };
        let mut all: Vec<_> = shown.filter(is_wanted).collect();
        all.sort_by_cached_key(|entity| (Reverse(query.sort.key(entity)), entity.id));
        let more = all.len().saturating_sub(query.top);
        let rows = all.into_iter().take(query.top).map(|entity| row(entity, doings(&entity.recent))).collect();
        Self {
            node: snapshot.node_name.to_owned(),
            time_unix_seconds: now_unix_seconds,
            window_seconds,
            load: snapshot.node.load.map(Averages::from),
            load1_unattributed: snapshot.node.unattributed_load,
            all: doings(ledger.node()),
            entities: rows,
            more,
            nodes: None,
        }
    }
}

/// A number that is never less than zero, by the order of its bits, which is its own.
fn ordered(number: f64) -> u64 {
    number.max(0.0).to_bits()
}

impl Order {
    fn key(self, Entity { books, recent, memory, .. }: &Entity) -> (u64, u64) {
        let window = &recent.window;
        match self {
            Self::Bytes => {
                let bytes = |traffic: &Traffic| traffic.transmit_bytes + traffic.receive_bytes;
                (window.transmit_bytes + window.receive_bytes, books.traffic.iter().map(bytes).sum())
            }
            Self::Load => (ordered(recent.load.one), window.active_ns),
            Self::Wait => (window.wait_ns, books.wait_ns),
            Self::Memory => (memory.map_or(0, |memory| memory.working_set_bytes), 0),
        }
    }
}

fn doings(recent: &Recent, window_ended_ns: u64, window_seconds: f64) -> Doings {
    let a_second = |amount: f64| if window_seconds > 0.0 { amount / window_seconds } else { 0.0 };
    let Recent { window, transmit_peak, receive_peak, load_peak, load, .. } = recent;
    Doings {
        transmit_bytes_per_second: a_second(window.transmit_bytes as f64),
        receive_bytes_per_second: a_second(window.receive_bytes as f64),
        transmit_peak_bytes_per_second: transmit_peak.largest(window_ended_ns),
        receive_peak_bytes_per_second: receive_peak.largest(window_ended_ns),
        active_tasks: a_second(window.active_ns as f64 / 1e9),
        load_peak: load_peak.largest(window_ended_ns),
        wait_seconds_per_second: a_second(window.wait_ns as f64 / 1e9),
        load: Averages::from(*load),
    }
}

fn row(Entity { identity, books, memory, connections, .. }: &Entity, now: Doings) -> EntityRow {
    let Books { traffic, tcp, wait_ns, caused_ns, uninterruptible_ns, cpu, oom_kills, .. } = books;
    let TcpBook { retransmits, failed_connects, .. } = *tcp;
    let by_scope = |bytes: fn(&Traffic) -> u64| {
        let all = Scope::ALL.iter().zip(traffic).map(|(scope, traffic)| (scope.label().to_owned(), bytes(traffic)));
        all.filter(|(_, bytes)| *bytes > 0).collect()
    };
    let caused = By::ALL.iter().zip(caused_ns).filter(|(_, ns)| **ns > 0);
    let counted = connections.as_flattened().iter().flatten();
    let MemoryUse { working_set_bytes, limit_bytes } = memory.unwrap_or_default();
    EntityRow {
        entity: Who::from(identity),
        now,
        transmit_bytes: by_scope(|traffic| traffic.transmit_bytes),
        receive_bytes: by_scope(|traffic| traffic.receive_bytes),
        wait_seconds: *wait_ns as f64 / 1e9,
        caused_wait_seconds: caused.map(|(by, ns)| (by.label().to_owned(), *ns as f64 / 1e9)).collect(),
        uninterruptible_seconds: *uninterruptible_ns as f64 / 1e9,
        cpu_seconds: cpu.map(|cpu| cpu.usage_us as f64 / 1e6),
        throttled_seconds: cpu.and_then(|cpu| Some(cpu.throttling?.throttled_ns as f64 / 1e9)),
        memory_working_set_bytes: memory.map(|_| working_set_bytes),
        memory_limit_bytes: memory.and(limit_bytes),
        oom_kills: *oom_kills,
        open_connections: counted.copied().reduce(|sum, count| sum + count),
        retransmits,
        failed_connections: failed_connects,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Added, AgentFacts, NodeFacts, Sample, fixture::Services};
    use observer_ebpf::SCOPES;

    /// Two windows, in the second of which each cgroup sent and waited for as much as it is told.
    fn ledger(amounts: &[(u64, u64, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.end_first_window(1_000_000_000, None);
        let added = amounts.iter().map(|(cgroup, bytes, wait_ns)| {
            let mut traffic = [Traffic::default(); SCOPES];
            traffic[Scope::Internet as usize].transmit_bytes = *bytes;
            Added { cgroup: *cgroup, traffic, wait_ns: *wait_ns, ..Added::default() }
        });
        ledger.book(&Sample { added: added.collect(), ..Sample::default() }, &Services, 0);
        ledger.end_window(500_000_000);
        ledger
    }

    fn answer(ledger: &Ledger, query: &SnapshotQuery) -> SnapshotAnswer {
        let snapshot = Snapshot {
            window_ended_ns: ledger.window_ended_ns(),
            node_name: "n",
            entities: ledger.entities(),
            workloads: ledger.workloads(),
            pods: &[],
            node: &NodeFacts::default(),
            agent: &AgentFacts::default(),
        };
        SnapshotAnswer::of(&snapshot, ledger, query, 100)
    }

    fn names(answer: &SnapshotAnswer) -> Vec<&str> {
        answer.entities.iter().filter_map(|row| row.entity.cgroup.as_deref()).collect()
    }

    #[test]
    fn rates_are_those_of_the_newest_window_and_who_does_most_comes_first() {
        let ledger = ledger(&[(1, 1000, 7_000_000), (2, 5000, 0), (3, 0, 9_000_000)]);
        let by_bytes = answer(&ledger, &SnapshotQuery { top: 2, ..SnapshotQuery::default() });
        assert_eq!((names(&by_bytes), by_bytes.more), (vec!["/service2", "/service1"], 2));
        let most = &by_bytes.entities[0];
        assert_eq!(most.now.transmit_bytes_per_second.to_bits(), 10_000_f64.to_bits());
        assert_eq!(most.transmit_bytes, BTreeMap::from([("internet".to_owned(), 5000)]));
        assert!(most.receive_bytes.is_empty());
        assert_eq!(by_bytes.all.transmit_bytes_per_second.to_bits(), 12_000_f64.to_bits());
        let by_wait = answer(&ledger, &SnapshotQuery { sort: Order::Wait, ..SnapshotQuery::default() });
        assert_eq!(names(&by_wait)[..2], ["/service3", "/service1"]);
        assert!((by_wait.entities[0].now.wait_seconds_per_second - 0.018).abs() < 1e-9);
        let one = answer(&ledger, &SnapshotQuery { entity: Some("/service1".into()), ..SnapshotQuery::default() });
        assert_eq!((names(&one), one.more), (vec!["/service1"], 0));
    }

    #[test]
    fn before_the_first_window_there_are_no_rates() {
        let none = answer(&Ledger::default(), &SnapshotQuery::default());
        assert_eq!((none.window_seconds, none.all), (0.0, Doings::default()));
        let json = serde_json::to_string(&none).unwrap();
        assert!(!json.contains("load1_unattributed") && !json.contains("null"), "{json}");
    }
}
