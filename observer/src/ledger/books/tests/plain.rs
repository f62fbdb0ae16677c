//! Cgroups without pods.

use super::*;

#[test]
fn a_service_that_restarts_goes_on_under_its_name() {
    let names = Known::default().cgroup_at(7, "/a.service").cgroup_at(8, "/a.service");
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 100), &names, 1);
    ledger.cgroup_gone(7, 5);
    ledger.book(&bytes(8, 10), &names, 6);
    ledger.expire(5 + KEEP_NS);
    assert_eq!(sent(&ledger, "/a.service"), Some(110));
}

#[test]
fn a_vanished_cgroup_stays_two_minutes() {
    let names = Known::default().cgroup_at(7, "/a").cgroup_at(8, "/b");
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 100), &names, 1);
    ledger.book(&bytes(8, 1), &names, 1);
    ledger.cgroup_gone(7, 5);
    ledger.expire(5 + KEEP_NS - 1);
    assert_eq!(sent(&ledger, "/a"), Some(100));
    ledger.expire(5 + KEEP_NS);
    assert_eq!(sent(&ledger, "/a"), None);
    ledger.book(&bytes(8, 1), &names, 6);
    assert_eq!(sent(&ledger, "/b"), Some(2));
}

#[test]
fn a_service_that_restarts_for_ever_leaves_no_ids_behind() {
    const MINUTE: u64 = 60_000_000_000;
    let mut ledger = Ledger::default();
    for restart in 1..=10_000 {
        let names = Known::default().cgroup_at(restart, "/timer.service");
        ledger.book(&bytes(restart, 1), &names, restart * MINUTE);
        ledger.cgroup_gone(restart, restart * MINUTE);
        ledger.expire(restart * MINUTE);
    }
    assert_eq!(sent(&ledger, "/timer.service"), Some(10_000));
    assert!(ledger.by_cgroup.len() <= 3, "{}", ledger.by_cgroup.len());
    // A socket of one that is long gone has nobody to be charged to.
    ledger.book(&bytes(1, 1), &Known::default(), 1);
    assert_eq!((sent(&ledger, "/timer.service"), ledger.nameless()), (Some(10_000), 1));
}

#[test]
fn what_has_no_name_is_unattributed_and_counted() {
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 100), &Known::default(), 1);
    ledger.book(&bytes(0, 11), &Known::default(), 1);
    assert_eq!(sent(&ledger, "unattributed"), Some(111));
    assert_eq!(ledger.nameless(), 1);
}

#[test]
fn a_window_is_measured_over_its_true_length() {
    let names = Known::default().cgroup_at(7, "/a");
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 100), &names, 1);
    ledger.book(&bytes(7, 50), &names, 1);
    ledger.end_window(2_000_000_000);
    assert!((ledger.entities()[1].recent.transmit_peak.largest(ledger.window_ended_ns()) - 75.0).abs() < 1e-9);
}

#[test]
fn cpu_time_never_falls_and_adds_up_over_cgroups() {
    let names = Known::default().cgroup_at(7, "/a").cgroup_at(8, "/a");
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 1), &names, 1);
    for usage_us in [100, 90, 120] {
        ledger.book_cpu(7, CpuUsage { usage_us, throttling: None });
    }
    ledger.cgroup_gone(7, 1);
    ledger.book(&bytes(8, 1), &names, 2);
    ledger.book_cpu(8, CpuUsage { usage_us: 5, throttling: None });
    assert_eq!(ledger.entities()[1].books.cpu.unwrap().usage_us, 125);
}
