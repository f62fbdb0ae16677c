//! Who made whom wait: kinds, pairs, and what becomes of them with their entities.

use super::*;
use crate::ledger::{By, Cause, Caused, Culprit};

fn caused(victim: u64, culprit: Culprit, ns: u64) -> Sample {
    Sample { caused: vec![Caused { victim, culprit, ns, is_open: true }], ..Sample::default() }
}

/// Two containers of the pod `u1` (7, 8), one of `u2` (9), a service (1).
fn node() -> Known {
    let names = Known::default().cgroup_at(1, "/a.service");
    for (cgroup, uid) in [(7, "u1"), (8, "u1"), (9, "u2")] {
        names.container_at(cgroup, uid, &format!("c{cgroup}"));
    }
    names
}

/// With books for each of them.
fn ledger_of(names: &Known) -> Ledger {
    let mut ledger = Ledger::default();
    for cgroup in names.cgroups.borrow().keys() {
        ledger.open_cgroup(*cgroup, names, 1);
    }
    ledger
}

fn by(ledger: &Ledger, cgroup: u64, by: By) -> u64 {
    ledger.entities()[ledger.by_cgroup[&cgroup]].books.caused_ns[by as usize]
}

fn pair(ledger: &Ledger, victim: u64, culprit: u64) -> Option<u64> {
    let id = |cgroup: u64| ledger.entities()[ledger.by_cgroup[&cgroup]].id;
    let wanted = (id(victim), Cause::Entity(id(culprit)));
    ledger.wait_pairs().find(|(victim, cause, _)| (*victim, *cause) == wanted).map(|(_, _, ns)| ns)
}

#[test]
fn every_wait_is_of_one_kind() {
    let names = node();
    let mut ledger = ledger_of(&names);
    for (culprit, kind) in [
        (Culprit::Cgroup(7), By::SameContainer),
        (Culprit::Cgroup(8), By::SamePod),
        (Culprit::Cgroup(9), By::OtherPod),
        (Culprit::Cgroup(1), By::Host),
        (Culprit::Idle, By::Host),
        (Culprit::Throttled, By::Throttled),
    ] {
        let before = by_of(&ledger, kind);
        ledger.book(&caused(7, culprit, 10), &names, 1);
        assert_eq!(by(&ledger, 7, kind), before + 10, "{culprit:?}");
    }
    ledger.book(&caused(1, Culprit::Cgroup(7), 10), &names, 1);
    assert_eq!(by(&ledger, 1, By::OtherPod), 10, "a service that waits for a pod");
    assert_eq!((pair(&ledger, 7, 9), pair(&ledger, 1, 7), pair(&ledger, 9, 7)), (Some(10), Some(10), None));
}

fn by_of(ledger: &Ledger, kind: By) -> u64 {
    ledger.by_cgroup.get(&7).map_or(0, |at| ledger.entities()[*at].books.caused_ns[kind as usize])
}

#[test]
fn a_culprit_that_nobody_knows_any_more_is_the_hosts() {
    let mut ledger = ledger_of(&node());
    ledger.book(&caused(7, Culprit::Cgroup(99), 10), &node(), 1);
    assert_eq!(by(&ledger, 7, By::Host), 10);
}

#[test]
fn what_is_throttled_is_no_load() {
    let mut ledger = Ledger::default();
    let caused_ns = [0, 0, 0, 0, 800];
    let waited = Added { cgroup: 7, wait_ns: 900, run_ns: 100, caused_ns, ..Added::default() };
    ledger.book(&Sample { added: vec![waited], ..Sample::default() }, &node(), 1);
    ledger.end_window(1000);
    assert_eq!(ledger.entities()[1].recent.window.active_ns, 200);
    assert_eq!(by(&ledger, 7, By::Throttled), 800);
}

#[test]
fn what_the_programs_have_told_by_kind_is_in_the_pairs_alone() {
    let names = node();
    let mut ledger = ledger_of(&names);
    let told = Caused { victim: 7, culprit: Culprit::Cgroup(9), ns: 10, is_open: false };
    let added = Added { cgroup: 7, caused_ns: [0, 0, 11, 0, 0], ..Added::default() };
    ledger.book(&Sample { added: vec![added], caused: vec![told], ..Sample::default() }, &names, 1);
    assert_eq!((by(&ledger, 7, By::OtherPod), pair(&ledger, 7, 9)), (11, Some(10)));
}

#[test]
fn pairs_follow_their_entities_into_one_and_go_with_them() {
    let names = node();
    let mut ledger = Ledger::default();
    names.name_pod("u1", "web-1", "web", "deployment");
    names.name_container("c7", "app");
    for cgroup in [7, 8, 9] {
        ledger.open_cgroup(cgroup, &names, 1);
    }
    ledger.book(&caused(7, Culprit::Cgroup(9), 5), &names, 1);
    ledger.book(&caused(8, Culprit::Cgroup(9), 7), &names, 1);
    ledger.book(&caused(9, Culprit::Cgroup(8), 3), &names, 1);
    // A container that was started again, whose name comes late.
    names.name_container("c8", "app");
    ledger.pod_changed("u1", &names, 2);
    assert_eq!((pair(&ledger, 7, 9), pair(&ledger, 9, 7)), (Some(12), Some(3)));
    for cgroup in [7, 8] {
        ledger.cgroup_gone(cgroup, 5);
    }
    ledger.expire(5 + KEEP_NS);
    assert_eq!(ledger.wait_pairs().count(), 0);
}

#[test]
fn pairs_are_bounded_and_what_does_not_fit_is_counted_and_still_of_its_kind() {
    let mut names = Known::default();
    for cgroup in 1..=200 {
        names = names.cgroup_at(cgroup, &format!("/{cgroup}"));
    }
    let mut ledger = ledger_of(&names);
    for victim in 1..=200 {
        for culprit in 1..=100 {
            ledger.book(&caused(victim, Culprit::Cgroup(culprit), 1), &names, 1);
        }
    }
    assert_eq!((ledger.wait_pairs().count() as u64) + ledger.pairs_left_out(), 20_000);
    assert!(ledger.pairs_left_out() > 10_000);
    assert_eq!(by(&ledger, 200, By::Host), 100);
}
