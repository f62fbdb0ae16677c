//! Pods whose names come before, while and after something is counted.

use super::*;

#[test]
fn a_name_that_comes_late_is_applied_to_what_was_counted() {
    let names = Known::default();
    names.container_at(7, "u1", "c1");
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 100), &names, 1);
    assert_eq!(sent(&ledger, "u1/c1"), Some(100));
    names.name_pod("u1", "web-1", "web", "deployment");
    ledger.pod_changed("u1", &names, 2);
    assert_eq!(sent(&ledger, "web-1/c1"), Some(100), "the pod's name is known before its container's");
    names.name_container("c1", "app");
    ledger.pod_changed("u1", &names, 3);
    ledger.book(&bytes(7, 11), &names, 4);
    assert_eq!((sent(&ledger, "web-1/app"), ledger.entities().len()), (Some(111), 2), "one series, under one name");
    let web = workload(&ledger, "web").unwrap();
    assert_eq!((sum(&web.books), web.pods, web.pods_started), (111, 1, 1));
}

#[test]
fn a_container_that_restarts_goes_on_under_its_name() {
    let names = Known::default();
    names.container_at(7, "u1", "c1");
    names.name_pod("u1", "web-1", "web", "deployment");
    names.name_container("c1", "app");
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 100), &names, 1);
    ledger.cgroup_gone(7, 2);
    names.container_at(8, "u1", "c2");
    ledger.book(&bytes(8, 10), &names, 3);
    assert_eq!(sent(&ledger, "web-1/c2"), Some(10));
    names.name_container("c2", "app");
    ledger.pod_changed("u1", &names, 4);
    assert_eq!((sent(&ledger, "web-1/app"), sent(&ledger, "web-1/c2")), (Some(110), None));
    ledger.expire(2 + KEEP_NS);
    ledger.book(&bytes(8, 1), &names, 5);
    assert_eq!(sent(&ledger, "web-1/app"), Some(111), "the second cgroup keeps it there");
    let web = workload(&ledger, "web").unwrap();
    assert_eq!((sum(&web.books), web.pods, web.pods_started), (111, 1, 1));
}

#[test]
fn pods_of_one_name_one_after_the_other_are_one_series_and_two_pods() {
    let names = Known::default();
    let mut ledger = Ledger::default();
    for (at, uid) in [(7, "u1"), (8, "u2")] {
        names.container_at(at, uid, &format!("c{at}"));
        names.name_pod(uid, "db-0", "db", "statefulset");
        names.name_container(&format!("c{at}"), "db");
        ledger.book(&bytes(at, 100), &names, at);
        ledger.cgroup_gone(at, at);
    }
    assert_eq!(sent(&ledger, "db-0/db"), Some(200));
    let db = workload(&ledger, "db").unwrap();
    assert_eq!((sum(&db.books), db.pods, db.pods_started), (200, 0, 2));
}

#[test]
fn a_pod_that_died_before_anybody_asked_is_booked_on_its_workload_when_its_name_comes() {
    let names = Known::default();
    names.container_at(7, "u1", "c1");
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 100), &names, 1);
    ledger.cgroup_gone(7, 2);
    ledger.expire(2 + KEEP_NS);
    assert_eq!((sent(&ledger, "u1/c1"), ledger.workloads().len()), (None, 0));
    names.name_pod("u1", "job-1", "nightly", "cronjob");
    ledger.pod_changed("u1", &names, 3 + KEEP_NS);
    let nightly = workload(&ledger, "nightly").unwrap();
    assert_eq!((sum(&nightly.books), nightly.pods, nightly.pods_started), (100, 0, 1));
}

#[test]
fn what_nobody_will_ever_name_is_on_the_workload_without_a_name() {
    let names = Known::default();
    let mut ledger = Ledger::default();
    for pod in 0..3000 {
        names.container_at(pod + 1, &format!("u{pod}"), &format!("c{pod}"));
        ledger.book(&bytes(pod + 1, 10), &names, 1);
        ledger.cgroup_gone(pod + 1, 1);
        ledger.expire(1 + KEEP_NS);
    }
    ledger.expire(1 + KEEP_NS + 3_600_000_000_000);
    assert_eq!(sum(&workload(&ledger, "unattributed").unwrap().books), 30_000);
    assert_eq!(ledger.entities().len(), 1);
}

#[test]
fn a_burst_before_the_name_came_is_still_the_peak_after_it() {
    let names = Known::default();
    names.container_at(7, "u1", "c1");
    names.name_pod("u1", "web-1", "web", "deployment");
    names.name_container("c1", "app");
    let mut ledger = Ledger::default();
    ledger.book(&bytes(7, 10), &names, 1);
    ledger.end_window(1_000_000_000);
    names.container_at(8, "u1", "c2");
    ledger.book(&bytes(8, 9000), &names, 2);
    ledger.end_window(1_000_000_000);
    names.name_container("c2", "app");
    ledger.pod_changed("u1", &names, 3);
    let app = &ledger.entities()[1];
    assert!((app.recent.transmit_peak.largest(ledger.window_ended_ns()) - 9000.0).abs() < 1e-9);
}

#[test]
fn a_workload_has_the_peak_of_its_pods_together() {
    let names = Known::default();
    let mut ledger = Ledger::default();
    for at in [7, 8] {
        names.container_at(at, &format!("u{at}"), &format!("c{at}"));
        names.name_pod(&format!("u{at}"), &format!("web-{at}"), "web", "deployment");
        ledger.book(&bytes(at, 1000), &names, 1);
    }
    ledger.end_window(1_000_000_000);
    let web = workload(&ledger, "web").unwrap();
    assert!((web.recent.transmit_peak.largest(ledger.window_ended_ns()) - 2000.0).abs() < 1e-9);
}
