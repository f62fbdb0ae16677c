//! Books to render: entities with everything in them, and a node and an agent with every fact.

use crate::ledger::{
    AgentFacts, Books, CpuUsage, Device, Entity, EntityId, Identity, LoadAverages, MapFacts, NodeFacts, Peak,
    ProcessFacts, ProgramFacts, Snapshot, Throttling,
};
use observer_ebpf::{Drop, Scope, Traffic, histogram};

/// What a [`Snapshot`] borrows.
pub(super) struct TestBooks {
    pub(super) node_name: String,
    pub(super) entities: Vec<Entity>,
    pub(super) node: NodeFacts,
    pub(super) agent: AgentFacts,
}

impl TestBooks {
    /// Nothing but a node's name.
    pub(super) fn empty(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            entities: Vec::new(),
            node: NodeFacts::default(),
            agent: AgentFacts::default(),
        }
    }

    /// `unattributed` and `pods` more entities that have every series, with every fact of node and agent.
    pub(super) fn full(pods: u64) -> Self {
        let mut entities = vec![busy_entity(0, Identity::Unattributed)];
        entities.extend((1..=pods).map(|id| busy_entity(id, pod(id))));
        Self { node_name: "worker-1".to_owned(), entities, node: node_facts(), agent: agent_facts() }
    }

    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            window_ended_ns: 1,
            node_name: &self.node_name,
            entities: &self.entities,
            node: &self.node,
            agent: &self.agent,
        }
    }
}

pub(super) fn cgroup(path: &str) -> Identity {
    Identity::Cgroup { path: path.into() }
}

pub(super) fn quiet_entity(id: u64, identity: Identity) -> Entity {
    let (transmit_peak, receive_peak) = (Peak::default(), Peak::default());
    Entity { id: EntityId(id), identity, books: Books::default(), transmit_peak, receive_peak }
}

fn pod(id: u64) -> Identity {
    let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod";
    cgroup(&format!("{slice}{id:08x}_7d1c_4b0e_9f5a_0242ac120002.slice/cri-containerd-{id:064x}.scope"))
}

/// Distinct, large numbers everywhere: a mixed-up field shows, and they are as long as those of a busy node.
fn busy_entity(id: u64, identity: Identity) -> Entity {
    let mut entity = quiet_entity(id, identity);
    let base = 1_000_000_000 * (id + 1);
    for scope in Scope::ALL {
        let base = base + 10 * scope as u64;
        let (transmit_bytes, transmit_packets) = (base + 1, base / 1000 + 2);
        let (receive_bytes, receive_packets) = (base + 3, base / 1000 + 4);
        entity.books.traffic[scope as usize] =
            Traffic { transmit_bytes, transmit_packets, receive_bytes, receive_packets };
    }
    for bucket in 0..histogram::BUCKETS {
        entity.books.waits[bucket] = 1000 * (id + 1) + bucket as u64;
    }
    entity.books.wait_ns = base * 7 + 123_456_789;
    entity.books.uninterruptible_ns = base + 5;
    let throttling = Throttling { periods: base + 6, throttled_periods: base / 2, throttled_us: base + 8 };
    entity.books.cpu = Some(CpuUsage { usage_us: base + 9, throttling: Some(throttling) });
    entity.transmit_peak.push(1, 1_234_567.0 + id as f64 / 3.0);
    entity.receive_peak.push(1, 7_654_321.0);
    entity
}

fn node_facts() -> NodeFacts {
    let device =
        |name: &str, receive_bytes, transmit_bytes| Device { name: name.to_owned(), receive_bytes, transmit_bytes };
    NodeFacts {
        load: Some(LoadAverages { one: 0.25, five: 1.5, fifteen: 12.75 }),
        devices: vec![device("eth0", 10, 20), device("lo", 30, 30)],
    }
}

fn agent_facts() -> AgentFacts {
    let process = ProcessFacts {
        cpu_seconds: 0.125,
        resident_bytes: 9_000_000,
        virtual_bytes: 90_000_000,
        open_fds: 30,
        max_fds: 1024,
        start_time_seconds: 1_700_000_000.25,
        threads: 1,
    };
    AgentFacts {
        programs: vec![
            ProgramFacts { name: "egress", down_because: None, run_time: Some((1_000_000_001, 7)) },
            ProgramFacts {
                name: "sched_switch",
                down_because: Some("the kernel has no field \"sched_info\"".to_owned()),
                run_time: None,
            },
        ],
        maps: vec![MapFacts { name: "SLOTS", entries: 12, max_entries: 4096 }],
        drops: Drop::ALL.iter().map(|reason| (reason.label(), *reason as u64)).collect(),
        process,
        scrape_seconds: 0.001,
    }
}
