//! Books to render: entities with everything in them, and a node and an agent with every fact.

use crate::ledger::{
    AgentFacts, Books, Bounds, Connections, ContainerResources, CpuUsage, Device, Entity, EntityId, HistoryFacts,
    Identity, KubeFacts, LoadAverages, MapFacts, MemoryUse, NodeFacts, PodFacts, PodNames, Pressure, ProcessFacts,
    ProgramFacts, Recent, Snapshot, Stall, Throttling, Workload, WorkloadId, WorkloadNames,
};
use observer_ebpf::{Drop, Scope, Traffic, dns::DnsBook, histogram};
use std::sync::Arc;

/// What a [`Snapshot`] borrows.
pub(super) struct TestBooks {
    pub(super) node_name: String,
    pub(super) entities: Vec<Entity>,
    pub(super) workloads: Vec<Workload>,
    pub(super) pods: Vec<PodFacts>,
    pub(super) node: NodeFacts,
    pub(super) agent: AgentFacts,
}

impl TestBooks {
    /// Nothing but a node's name.
    pub(super) fn empty(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            entities: Vec::new(),
            workloads: Vec::new(),
            pods: Vec::new(),
            node: NodeFacts::default(),
            agent: AgentFacts::default(),
        }
    }

    /// `unattributed` and `pods` more entities that have every series, with every fact of node and agent.
    pub(super) fn full(pods: u64) -> Self {
        let mut entities = vec![busy_entity(0, Identity::Unattributed)];
        entities.extend((1..=pods).map(|id| busy_entity(id, pod(id))));
        Self {
            node_name: "worker-1".to_owned(),
            entities,
            // Three pods each, as a rule.
            workloads: (1..=pods.div_ceil(3)).map(busy_workload).collect(),
            pods: (1..=pods).map(pod_facts).collect(),
            node: node_facts(),
            agent: agent_facts(),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            window_ended_ns: 1,
            node_name: &self.node_name,
            entities: &self.entities,
            workloads: &self.workloads,
            pods: &self.pods,
            node: &self.node,
            agent: &self.agent,
        }
    }
}

pub(super) fn cgroup(path: &str) -> Identity {
    Identity::Cgroup { path: path.into() }
}

pub(super) fn quiet_entity(id: u64, identity: Identity) -> Entity {
    let (books, recent) = (Books::default(), Recent::default());
    let mut connections = Connections::default();
    connections[Scope::Internet as usize] = [None, Some(id)];
    Entity { id: EntityId(id), identity, shown: true, books, recent, memory: None, connections }
}

fn pod(id: u64) -> Identity {
    Identity::Container { pod: pod_names(id), container: Some("application".into()) }
}

fn pod_names(id: u64) -> Arc<PodNames> {
    let workload = Arc::new(WorkloadNames { name: workload_name(id.div_ceil(3)), kind: "deployment".into() });
    let pod = format!("{}-7f8d9c6b5-{id:05x}", workload.name).into();
    Arc::new(PodNames { namespace: "production".into(), pod, workload })
}

fn workload_name(id: u64) -> Arc<str> {
    format!("checkout-service-{id}").into()
}

fn pod_facts(id: u64) -> PodFacts {
    PodFacts {
        names: pod_names(id),
        uid: format!("{id:08x}-7d1c-4b0e-9f5a-0242ac120002").into(),
        host_network: id.is_multiple_of(2),
        qos_class: "Burstable",
        phase: "Running",
        created_by_kind: "ReplicaSet".into(),
        created_by_name: format!("{}-7f8d9c6b5", workload_name(id.div_ceil(3))).into(),
        resources: [ContainerResources {
            container: "application".into(),
            requests: Bounds { cpu_nanocores: Some(100_000_000), memory_bytes: Some(64 << 20) },
            limits: Bounds { cpu_nanocores: Some(1_500_000_000), memory_bytes: Some(256 << 20) },
        }]
        .into(),
    }
}

fn busy_workload(id: u64) -> Workload {
    let books = busy_entity(id, Identity::Unattributed).books;
    let key = (&*pod_names(3 * id)).into();
    let mut workload = Workload::new(WorkloadId(id), Some(key));
    (workload.books, workload.pods, workload.pods_started) = (books, 3, 5);
    workload.recent.transmit_peak.push(1, 1_234_567.0);
    workload.recent.receive_peak.push(1, 7_654_321.0);
    workload.recent.load = LoadAverages { one: 2.5, five: 1.5, fifteen: 0.75 };
    workload
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
    entity.books.dns = Some(Box::new(DnsBook {
        queries: base + 30,
        responses: std::array::from_fn(|rcode| base + 40 + rcode as u64),
        unasked: base + 49,
        unanswered: base + 50,
        waited_ns: base + 60,
        waits: std::array::from_fn(|bucket| base + 70 + bucket as u64),
    }));
    entity.books.wait_ns = base * 7 + 123_456_789;
    entity.books.run_ns = base + 4;
    entity.books.caused_ns = std::array::from_fn(|by| base + 20 + by as u64);
    entity.books.uninterruptible_ns = base + 5;
    let throttling = Throttling { periods: base + 6, throttled_periods: base / 2, throttled_ns: base + 8 };
    entity.books.cpu = Some(CpuUsage { usage_us: base + 9, throttling: Some(throttling) });
    entity.recent.transmit_peak.push(1, 1_234_567.0 + id as f64 / 3.0);
    entity.recent.receive_peak.push(1, 7_654_321.0);
    entity.recent.load_peak.push(1, 12.25);
    entity.recent.load = LoadAverages { one: 1.234_567, five: 0.5, fifteen: 0.25 };
    let stall = |base| Stall { some_us: Some(base + 1), full_us: Some(base / 3) };
    let (cpu, memory, io) = (stall(base), stall(base + 10), stall(base + 20));
    entity.books.pressure = Some(Box::new(Pressure { cpu, memory, io }));
    entity.books.oom_kills = Some(id % 7);
    entity.memory = Some(MemoryUse { working_set_bytes: base + 11, limit_bytes: Some(2 * base) });
    entity
}

fn node_facts() -> NodeFacts {
    let device =
        |name: &str, receive_bytes, transmit_bytes| Device { name: name.to_owned(), receive_bytes, transmit_bytes };
    NodeFacts {
        load: Some(LoadAverages { one: 0.25, five: 1.5, fifteen: 12.75 }),
        unattributed_load: Some(-0.125),
        sleeping_load: Some(0.0625),
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
            ProgramFacts { name: "egress", run_time: Some((1_000_000_001, 7)), ..ProgramFacts::default() },
            ProgramFacts {
                name: "sched_switch",
                down_because: Some("the kernel has no field \"sched_info\"".to_owned()),
                ..ProgramFacts::default()
            },
        ],
        maps: vec![MapFacts { name: "SLOTS", entries: 12, max_entries: 4096 }],
        kube: Some(KubeFacts {
            up: true,
            watch_restarts: 2,
            features: vec![("pods", None), ("workloads", Some("may not get jobs".to_owned()))],
        }),
        history: HistoryFacts {
            on_disk: true,
            down_because: Some("no room for \"history.redb\"".to_owned()),
            lost_rows: 3,
            waiting_bytes: 4096,
            file_bytes: 12_345_678,
            written_bytes: 23_456_789,
            write_failures: 2,
            files_moved_aside: 1,
            workloads: 250,
            shared_rows: 5,
            forgotten_workloads: 6,
        },
        series_limit: 20_000,
        drops: Drop::ALL.iter().map(|reason| (reason.label(), *reason as u64)).collect(),
        process,
        scrape_seconds: 0.001,
    }
}
