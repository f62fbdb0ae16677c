//! Memory, pressure and kills on a node of a few cgroups.

use super::*;
use crate::ledger::{Added, Books, Cgroup, Entity, InPod, Names, PodNames, Sample, WorkloadNames};
use observer_ebpf::causes::Membership;
use std::sync::Arc;

/// Cgroups 1 to 9 are containers of a pod each, of one deployment; from 10 on they are no pods'.
struct Node;

impl Names for Node {
    fn cgroup(&self, id: u64) -> Option<Cgroup> {
        let pod = (id < 10).then(|| InPod { uid: format!("u{id}").into(), container: Some("c".into()) });
        (id < 20).then(|| Cgroup { path: format!("/{id}").into(), pod, gone_at_ns: None })
    }

    fn pod(&self, uid: &str) -> Option<Arc<PodNames>> {
        let workload = Arc::new(WorkloadNames { name: "web".into(), kind: "deployment".into() });
        Some(Arc::new(PodNames { namespace: "shop".into(), pod: uid.into(), workload }))
    }

    fn membership(&self, _cgroup: u64) -> Option<Membership> {
        None
    }

    fn container(&self, _uid: &str, _id: &str) -> Option<Arc<str>> {
        Some("app".into())
    }
}

fn ledger(cgroups: &[u64]) -> Ledger {
    let mut ledger = Ledger::default();
    for cgroup in cgroups {
        ledger.open_cgroup(*cgroup, &Node, 1);
    }
    ledger
}

fn entity(ledger: &Ledger, cgroup: u64) -> &Entity {
    &ledger.entities()[ledger.by_cgroup[&cgroup]]
}

fn used(ledger: &mut Ledger, cgroup: u64) -> Option<(u64, Option<u64>)> {
    ledger.sum_memory();
    entity(ledger, cgroup).memory.map(|memory| (memory.working_set_bytes, memory.limit_bytes))
}

#[test]
fn what_is_used_now_goes_up_and_down_and_ends_with_its_cgroup() {
    let mut ledger = ledger(&[10]);
    assert_eq!(used(&mut ledger, 10), None, "nobody has read it");
    ledger.book_working_set(10, 700);
    ledger.book_memory_limit(10, Some(1000));
    assert_eq!(used(&mut ledger, 10), Some((700, Some(1000))));
    ledger.book_working_set(10, 300);
    ledger.book_memory_limit(10, None);
    assert_eq!(used(&mut ledger, 10), Some((300, None)));
    ledger.cgroup_gone(10, 2);
    assert_eq!(used(&mut ledger, 10), None, "what is gone uses nothing");
    ledger.book_working_set(10, 300);
    assert_eq!(used(&mut ledger, 10), None, "a reading that comes late revives nothing");
}

#[test]
fn a_workload_uses_what_its_pods_use_and_less_when_one_goes() {
    let mut ledger = ledger(&[1, 2, 10]);
    for (cgroup, bytes) in [(1, 700), (2, 50), (10, 9)] {
        ledger.book_working_set(cgroup, bytes);
    }
    ledger.sum_memory();
    assert_eq!(ledger.workloads()[0].working_set_bytes, Some(750));
    ledger.cgroup_gone(1, 2);
    ledger.sum_memory();
    assert_eq!(ledger.workloads()[0].working_set_bytes, Some(50));
}

#[test]
fn what_is_folded_is_used_by_other() {
    let mut ledger = ledger(&[1, 2, 10]);
    for (cgroup, bytes) in [(1, 700), (2, 50), (10, 9)] {
        ledger.book_working_set(cgroup, bytes);
    }
    ledger.keep_within(2, |_| 1);
    ledger.sum_memory();
    let shown = ledger.entities().iter().filter(|entity| entity.shown).filter_map(|entity| entity.memory);
    assert_eq!(shown.map(|memory| memory.working_set_bytes).sum::<u64>(), 759);
    assert_eq!(ledger.workloads()[0].working_set_bytes, Some(750));
}

#[test]
fn a_kill_counts_for_its_cgroup_and_what_nobody_knows_is_unattributed() {
    let mut ledger = ledger(&[1]);
    ledger.book_working_set(1, 5);
    assert_eq!(entity(&ledger, 1).books.oom_kills, Some(0), "so that the first is a rise");
    ledger.book_oom_kills(1, 2);
    ledger.book_oom_kills(0, 1);
    ledger.book_oom_kills(99, 1);
    let kills: Vec<_> = ledger.entities().iter().map(|entity| entity.books.oom_kills).collect();
    assert_eq!(kills, [Some(2), Some(2)]);
    assert_eq!(ledger.workloads()[0].books.oom_kills, Some(2));
}

#[test]
fn pressure_adds_what_came_between_two_readings_of_each_cgroup() {
    let stall = |some_us| Stall { some_us: Some(some_us), full_us: None };
    let reading = |cpu, io| Pressure { cpu: stall(cpu), memory: Stall::default(), io: stall(io) };
    let mut ledger = ledger(&[1]);
    ledger.book_pressure(1, reading(5, 100));
    ledger.book_pressure(1, reading(7, 130));
    assert_eq!(entity(&ledger, 1).books.pressure.as_deref(), Some(&reading(7, 130)));
    // Folded and back: what it counted meanwhile is on `other`, and no sum is lost.
    ledger.keep_within(1, |_| 1);
    ledger.book_pressure(1, reading(9, 131));
    let books: Vec<&Books> = ledger.entities().iter().filter(|one| one.shown).map(|one| &one.books).collect();
    assert!(books.iter().any(|books| books.pressure.as_deref() == Some(&reading(9, 131))));
    let mut late = Added { cgroup: 1, ..Added::default() };
    late.waits[0] = 1;
    ledger.book(&Sample { added: vec![late], ..Sample::default() }, &Node, 2);
    assert_eq!(ledger.workloads()[0].books.pressure.as_deref(), Some(&reading(9, 131)));
}
