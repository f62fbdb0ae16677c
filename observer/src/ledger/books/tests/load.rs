//! Load averages: what ended, what lasts, and that no share of the node's is ever lost.

use super::*;
use crate::ledger::{Lasting, LoadAverages};

const SECOND: u64 = 1_000_000_000;

fn ran(cgroup: u64, run_ns: u64) -> Sample {
    Sample { added: vec![Added { cgroup, run_ns, ..Added::default() }], ..Sample::default() }
}

/// The one task of a cgroup.
fn lasting(cgroup: u64, active_ns: u64) -> Lasting {
    Lasting { cgroup, thread: cgroup as u32, on_queue: true, since_ns: 0, active_ns }
}

fn load_of(ledger: &Ledger, path: &str) -> Option<LoadAverages> {
    let named = |entity: &&Entity| entity.identity == Identity::Cgroup { path: path.into() };
    ledger.entities().iter().find(named).map(|entity| entity.recent.load)
}

/// The shares that are shown, together.
fn shares(ledger: &Ledger) -> f64 {
    ledger.entities().iter().filter(|entity| entity.shown).map(|entity| entity.recent.load.one).sum()
}

fn peak_of(ledger: &Ledger, at: usize) -> f64 {
    ledger.entities()[at].recent.load_peak.largest(ledger.window_ended_ns())
}

#[test]
fn a_task_that_runs_for_minutes_without_a_switch_is_one_all_the_time() {
    let names = Known::default().cgroup_at(7, "/a");
    let mut ledger = Ledger::default();
    ledger.open_cgroup(7, &names, 1);
    for second in 1..=300 {
        ledger.note_lasting(&[lasting(7, second * SECOND)], &names, 1);
        ledger.end_window(SECOND);
        assert_eq!(ledger.entities()[1].recent.window.active_ns, SECOND);
    }
    let LoadAverages { one, .. } = load_of(&ledger, "/a").unwrap();
    assert!((0.99..1.0).contains(&one), "{one}");
    // It ends: all of it is booked, and nothing twice.
    ledger.book(&ran(7, 300 * SECOND + SECOND / 2), &names, 1);
    ledger.note_lasting(&[], &names, 1);
    ledger.end_window(SECOND);
    assert_eq!(ledger.entities()[1].recent.window.active_ns, SECOND / 2);
}

#[test]
fn what_ends_between_two_readings_is_made_good_by_the_next_window() {
    let names = Known::default().cgroup_at(7, "/a");
    let mut ledger = Ledger::default();
    ledger.open_cgroup(7, &names, 1);
    ledger.note_lasting(&[lasting(7, 3 * SECOND)], &names, 1);
    ledger.end_window(SECOND);
    // What has ended was read a moment before, what lasts a moment after the end.
    ledger.note_lasting(&[], &names, 1);
    ledger.end_window(SECOND);
    assert_eq!(ledger.entities()[1].recent.window.active_ns, 0);
    ledger.book(&ran(7, 4 * SECOND), &names, 1);
    ledger.end_window(SECOND);
    assert_eq!(ledger.entities()[1].recent.window.active_ns, SECOND);
}

#[test]
fn the_peak_is_the_busiest_window_and_the_average_is_not() {
    let names = Known::default().cgroup_at(7, "/a");
    let mut ledger = Ledger::default();
    for second in 0..60 {
        ledger.book(&ran(7, if second == 7 { 4 * SECOND } else { 0 }), &names, 1);
        ledger.end_window(SECOND);
    }
    assert!((peak_of(&ledger, 1) - 4.0).abs() < 1e-9);
    assert!(load_of(&ledger, "/a").unwrap().one < 0.2);
}

#[test]
fn a_share_outlives_its_entity_until_it_has_faded() {
    let names = Known::default().cgroup_at(7, "/a");
    let mut ledger = Ledger::default();
    for _ in 0..60 {
        ledger.book(&ran(7, 2 * SECOND), &names, 1);
        ledger.end_window(SECOND);
    }
    ledger.cgroup_gone(7, 5);
    let before = shares(&ledger);
    ledger.expire(5 + KEEP_NS);
    assert_eq!(load_of(&ledger, "/a"), None);
    assert!(before > 1.0 && (shares(&ledger) - before).abs() < 1e-12);
    for _ in 0..600 {
        ledger.end_window(SECOND);
    }
    assert!(shares(&ledger) < 1e-3, "{}", shares(&ledger));
}

#[test]
fn what_one_that_leaves_was_charged_too_much_is_made_up_for() {
    let names = Known::default().cgroup_at(7, "/a").cgroup_at(8, "/b");
    let mut ledger = ledger_with(&names, [7, 8]);
    // Moved, and at its turn's end before anybody looked again: all of the turn is the new cgroup's.
    ledger.note_lasting(&[lasting(7, 5 * SECOND)], &names, 1);
    ledger.end_window(SECOND);
    ledger.cgroup_gone(7, 5);
    ledger.book(&ran(8, 6 * SECOND), &names, 1);
    ledger.note_lasting(&[], &names, 1);
    ledger.end_window(SECOND);
    ledger.expire(5 + KEEP_NS);
    ledger.book(&ran(0, 7 * SECOND), &names, 1);
    ledger.end_window(SECOND);
    assert_eq!(ledger.entities()[0].recent.window.active_ns, 2 * SECOND);
}

#[test]
fn folded_entities_have_their_share_on_other_and_the_sum_is_the_nodes() {
    let mut names = Known::default();
    for cgroup in 1..=20 {
        names = names.cgroup_at(cgroup, &format!("/{cgroup}"));
    }
    let mut ledger = Ledger::default();
    for second in 0..120 {
        for cgroup in 1..=20 {
            ledger.book(&ran(cgroup, cgroup * SECOND / 10), &names, 1);
        }
        let all: Vec<_> = (1..=20).map(|cgroup| lasting(cgroup, second * 1000)).collect();
        ledger.note_lasting(&all, &names, 1);
        ledger.end_window(SECOND);
        ledger.keep_within(if second % 20 < 10 { 8 } else { 100 }, |_| 1);
        assert!((shares(&ledger) - ledger.node().load.one).abs() < 1e-9, "second {second}");
    }
    assert!(shares(&ledger) > 15.0);
}

#[test]
fn a_workload_has_the_load_of_its_pods_from_before_they_were_named() {
    let names = Known::default();
    let mut ledger = Ledger::default();
    names.container_at(7, "u7", "c7");
    for second in 0..30 {
        // In the midst of a period.
        if second == 17 {
            names.name_pod("u7", "web-1", "web", "deployment");
            names.name_container("c7", "app");
            ledger.pod_changed("u7", &names, 3);
        }
        ledger.book(&ran(7, 3 * SECOND), &names, 1);
        ledger.end_window(SECOND);
    }
    let (node, web) = (ledger.node().load, workload(&ledger, "web").unwrap().recent.load);
    assert!((web.one - node.one).abs() < 1e-9 && web.one > 1.0);
    assert!((shares(&ledger) - node.one).abs() < 1e-9);
}

#[test]
fn what_lasts_of_a_cgroup_that_nobody_knows_is_nobodys_until_it_has_a_name() {
    let (names, mut ledger) = (Known::default(), Ledger::default());
    ledger.note_lasting(&[lasting(99, SECOND)], &names, 1);
    ledger.end_window(SECOND);
    assert_eq!((ledger.entities().len(), ledger.entities()[0].recent.window.active_ns), (1, SECOND));
    // What was charged stays with nobody.
    let names = names.cgroup_at(99, "/late");
    ledger.note_lasting(&[lasting(99, 2 * SECOND)], &names, 1);
    ledger.end_window(SECOND);
    let window = |at: usize| ledger.entities()[at].recent.window.active_ns;
    assert_eq!((window(0), window(1)), (0, SECOND));
}

#[test]
fn a_task_that_is_moved_leaves_what_has_passed_where_it_was() {
    let names = Known::default().cgroup_at(7, "/a").cgroup_at(8, "/b");
    let mut ledger = ledger_with(&names, [7, 8]);
    let task = |cgroup, active_ns| Lasting { cgroup, thread: 1, on_queue: true, since_ns: 5, active_ns };
    let mut seconds = [0, 0];
    for second in 1..=9 {
        // Another turn of another thread, which has nothing to do with it.
        let other = Lasting { cgroup: 8, thread: 2, on_queue: true, since_ns: 5, active_ns: 100 };
        ledger.note_lasting(&[task(if second <= 5 { 7 } else { 8 }, second * SECOND), other], &names, 1);
        ledger.end_window(SECOND);
        for (sum, at) in seconds.iter_mut().zip(1..) {
            *sum += ledger.entities()[at].recent.window.active_ns;
        }
        let expected = if second <= 5 { [second * SECOND, 100] } else { [5 * SECOND, (second - 5) * SECOND + 100] };
        assert_eq!(seconds, expected, "second {second}");
    }
    // The whole turn ends where the task is now.
    ledger.book(&ran(8, 9 * SECOND + 200), &names, 1);
    ledger.note_lasting(&[], &names, 1);
    ledger.end_window(SECOND);
    let window = |at: usize| ledger.entities()[at].recent.window.active_ns;
    assert_eq!((window(1), window(2)), (0, 100));
}

#[test]
fn a_task_that_is_moved_and_ends_its_turn_before_anybody_looks_leaves_it_too() {
    let names = Known::default().cgroup_at(7, "/a").cgroup_at(8, "/b");
    let mut ledger = ledger_with(&names, [7, 8]);
    let task = |thread| Lasting { cgroup: 7, thread, on_queue: true, since_ns: 5, active_ns: 5 * SECOND };
    ledger.note_lasting(&[task(1), task(2), task(3)], &names, 1);
    ledger.end_window(SECOND);
    // The first is in /b now, the second was moved as well and is gone, the third ended where it was.
    ledger.book(&ran(8, 2 * (5 * SECOND + 100)), &names, 1);
    ledger.book(&ran(7, 5 * SECOND + 200), &names, 1);
    ledger.note_lasting(&[], &names, 1);
    ledger.follow_ended(|thread| (thread != 2).then_some(if thread == 1 { 8 } else { 7 }));
    ledger.end_window(SECOND);
    let window = |ledger: &Ledger, at: usize| ledger.entities()[at].recent.window.active_ns;
    // What nobody can tell of any more is the new one's, and the former makes up for it.
    assert_eq!((window(&ledger, 1), window(&ledger, 2)), (0, 5 * SECOND + 200));
    ledger.book(&ran(7, 5 * SECOND), &names, 1);
    ledger.end_window(SECOND);
    assert_eq!(window(&ledger, 1), 200);
}

#[test]
fn what_began_before_the_first_window_is_of_it_only_from_then_on() {
    let names = Known::default().cgroup_at(7, "/a").cgroup_at(8, "/b");
    let mut ledger = ledger_with(&names, [7, 8]);
    let task = |cgroup: u64, now_ns: u64| Lasting { since_ns: 1000, ..lasting(cgroup, now_ns - 1000) };
    // The CPU of the one in /b has not switched yet.
    ledger.book(&ran(7, 400), &names, 1);
    ledger.note_lasting(&[task(7, 5000)], &names, 1);
    ledger.begin_windows(Some(5000));
    for (now_ns, expected) in [(6000, 1000), (7000, 1000)] {
        ledger.note_lasting(&[task(7, now_ns), task(8, now_ns)], &names, 1);
        ledger.end_window(1000);
        let window = |at: usize| ledger.entities()[at].recent.window.active_ns;
        assert_eq!((window(1), window(2)), (expected, expected));
    }
}

#[test]
fn the_first_window_has_no_load() {
    let names = Known::default().cgroup_at(7, "/a");
    let mut ledger = ledger_with(&names, [7]);
    ledger.begin_windows(Some(5000));
    // A wait that began long before.
    ledger.book(&ran(7, 9000), &names, 1);
    ledger.note_lasting(&[Lasting { since_ns: 5500, ..lasting(7, 500) }], &names, 1);
    ledger.end_first_window(1000, Some(6000));
    assert_eq!((ledger.entities()[1].recent.window.active_ns, ledger.period_ns), (0, 0));
    ledger.note_lasting(&[Lasting { since_ns: 5500, ..lasting(7, 1500) }], &names, 1);
    ledger.end_window(1000);
    assert_eq!(ledger.entities()[1].recent.window.active_ns, 1000);
}

/// With books for each.
fn ledger_with<const N: usize>(names: &Known, cgroups: [u64; N]) -> Ledger {
    let mut ledger = Ledger::default();
    for cgroup in cgroups {
        ledger.open_cgroup(cgroup, names, 1);
    }
    ledger
}
