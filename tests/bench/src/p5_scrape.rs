//! P5: what a scrape of a full node costs.
//!
//! The whole way: the real agent with 250 pods that run, wait and talk, asked over HTTP on a connection that stays open,
//! plain and compressed. And the encoder alone, on books of 250 pods that talk to every scope: some 10 000 lines, with
//! every allocation counted.

use crate::{
    heap,
    naming::{Naming, Node},
    report::{Row, Verdict},
    run::{Run, progress},
    scrape,
    statistics::Rounds,
};
use anyhow::{Result, ensure};
use observer::{
    ledger::{AgentFacts, Books, Entity, EntityId, Identity, MemoryUse, NodeFacts, Peak, Recent, Snapshot},
    metrics::Encoder,
};
use observer_ebpf::{SCOPES, TcpBook, Traffic, dns::DnsBook, histogram};
use std::{collections::BTreeMap, thread, time::Duration, time::Instant};

const PODS: u32 = 250;
/// Scrapes per round, of which the fastest counts.
const SCRAPES: usize = 5;

/// Measures, and adds four rows.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    encoder(run);
    for naming in Naming::ALL {
        whole_way(run, naming)?;
    }
    Ok(())
}

fn whole_way(run: &mut Run, naming: Naming) -> Result<()> {
    let home = run.arena.cgroup("agent")?;
    let node = Node::start(run, &home, PODS, naming)?;
    // Two samples later everybody has series.
    thread::sleep(Duration::from_millis(2_500));
    let mut client = node.client()?;
    let (mut plain, mut gzip) = (Rounds::default(), Rounds::default());
    let lines = scrape::samples(&client.get("/metrics", false)?.body);
    for round in 0..run.rounds {
        progress("P5", round, run.rounds);
        for (compressed, rounds) in [(false, &mut plain), (true, &mut gzip)] {
            let mut best = f64::INFINITY;
            for _ in 0..SCRAPES {
                let start = Instant::now();
                let response = client.get("/metrics", compressed)?;
                best = best.min(start.elapsed().as_secs_f64() * 1e3);
                ensure!(response.status == 200, "a scrape was answered with {}", response.status);
            }
            rounds.push(best);
        }
    }
    node.stop()?;
    run.report.rows.push(Row {
        id: "P5",
        measure: format!("ms per scrape over HTTP, {PODS} pods{}, {lines} samples", naming.words()),
        ours: plain.both(),
        others: gzip.both().into_iter().map(|pair| ("the same, compressed".into(), pair)).collect(),
        compared: None,
        goal: "<= 2 ms".into(),
        verdict: Verdict::at_most(plain.both(), 2.0),
        note: None,
        rounds: BTreeMap::from([("plain".into(), plain), ("gzip".into(), gzip)]),
    });
    Ok(())
}

/// Renders books of [`PODS`] pods, again and again.
fn encoder(run: &mut Run) {
    let entities: Vec<_> = (0..PODS).map(entity).collect();
    let (node, agent) = (NodeFacts::default(), AgentFacts::default());
    let snapshot = Snapshot {
        window_ended_ns: 60,
        node_name: "bench",
        entities: &entities,
        workloads: &[],
        pods: &[],
        node: &node,
        agent: &agent,
    };
    let mut encoder = Encoder::new();
    let lines = scrape::samples(&encoder.render(&snapshot));
    encoder.render(&snapshot);
    let (mut times, mut allocations) = (Rounds::default(), Rounds::default());
    for _ in 0..run.rounds {
        let before = heap::allocations();
        let start = Instant::now();
        for _ in 0..SCRAPES {
            std::hint::black_box(encoder.render(&snapshot));
        }
        times.push(start.elapsed().as_secs_f64() * 1e3 / SCRAPES as f64);
        allocations.push((heap::allocations() - before) as f64 / SCRAPES as f64);
    }
    let row = |measure, rounds: Rounds, goal: &str, limit| Row {
        id: "P5",
        measure,
        ours: rounds.both(),
        others: Vec::new(),
        compared: None,
        goal: goal.into(),
        verdict: Verdict::at_most(rounds.both(), limit),
        note: None,
        rounds: BTreeMap::from([("observer".into(), rounds)]),
    };
    run.report.rows.extend([
        row(format!("ms to encode {lines} samples of {PODS} pods"), times, "<= 2 ms, scrape and all", 2.0),
        row(format!("allocations to encode {lines} samples, once warm"), allocations, "none per line", 0.0),
    ]);
}

/// A pod with figures of everyday size, each a little different.
fn entity(number: u32) -> Entity {
    let n = u64::from(number) + 1;
    let mut books = Books { wait_ns: n * 987_654_321, uninterruptible_ns: n * 12_345_678, ..Books::default() };
    for scope in 0..SCOPES as u64 {
        let bytes = n * 1_234_567_891 * (scope + 1);
        books.traffic[scope as usize] = Traffic {
            transmit_bytes: bytes,
            transmit_packets: bytes / 900,
            receive_bytes: bytes * 3,
            receive_packets: bytes / 300,
        };
    }
    for bucket in 0..histogram::BUCKETS {
        books.waits[bucket] = n * 1_000 / (bucket as u64 + 1);
    }
    books.tcp = TcpBook { retransmits: n * 17, transmit_resets: n, receive_resets: n * 3, failed_connects: n };
    books.dns = Some(Box::new(DnsBook {
        queries: n * 1_234,
        // Found, not found, and now and then a server that fails.
        responses: [n * 1_000, 0, n, n * 233, 0, 0, 0],
        unasked: 0,
        unanswered: 0,
        waited_ns: n * 12_345_678_901,
        waits: std::array::from_fn(|bucket| n * 1_234 / (bucket as u64 + 1)),
    }));
    books.run_ns = n * 7_654_321_987;
    books.cpu = Some(observer::ledger::CpuUsage { usage_us: n * 7_654_321, throttling: None });
    books.oom_kills = Some(0);
    let mut peak = Peak::default();
    peak.push(60, n as f64 * 1_000.5);
    let mut recent = Recent::default();
    recent.transmit_peak = peak.clone();
    recent.receive_peak = peak.clone();
    recent.load_peak = peak;
    let path = format!("/kubepods.slice/kubepods-pod{number:08x}.slice/cri-containerd-{number:064x}.scope");
    let memory = Some(MemoryUse { working_set_bytes: n * 12_345_678, limit_bytes: Some(n << 28) });
    let connections = [[Some(n), Some(2 * n)]; SCOPES];
    let identity = Identity::Cgroup { path: path.into() };
    Entity { shown: true, id: EntityId(n), identity, books, recent, memory, connections }
}
