//! The store: lists that take the place of others, pods that end, owners that come late.

use super::server::{owned, pod};
use crate::{
    kube::{Pod, PodStore, pod::PrunedPod},
    ledger::WorkloadNames,
};
use serde_json::{Value, json};
use std::sync::Arc;

const TWO_MINUTES: u64 = 120_000_000_000;

fn read(pod: Value) -> Pod {
    serde_json::from_value::<PrunedPod>(pod).unwrap().pod
}

fn names(store: &PodStore, uid: &str) -> Option<String> {
    let names = store.names(uid)?;
    Some(format!("{}/{} of {} {}", names.namespace, names.pod, names.workload.kind, names.workload.name))
}

#[test]
fn a_new_list_takes_the_place_of_the_old_one_when_it_is_complete() {
    let mut store = PodStore::default();
    for uid in ["u1", "u2"] {
        store.changed(read(pod(uid, &format!("bare-{uid}"))), 1);
    }
    store.begin_list();
    store.listed(read(pod("u2", "bare-u2")));
    store.listed(read(pod("u3", "bare-u3")));
    assert_eq!((names(&store, "u1").is_some(), names(&store, "u3")), (true, None), "nobody is nameless meanwhile");
    let changed = store.end_list(10);
    assert_eq!(changed.iter().map(|uid| &**uid).collect::<Vec<_>>(), ["u3"]);
    assert_eq!(names(&store, "u3").as_deref(), Some("shop/bare-u3 of pod bare-u3"));
    // Who is gone is remembered for two minutes.
    assert!(names(&store, "u1").is_some() && store.facts().iter().all(|facts| &*facts.uid != "u1"));
    store.expire(10 + TWO_MINUTES);
    assert_eq!((names(&store, "u1"), store.len()), (None, 2));
}

#[test]
fn a_list_that_broke_off_changes_nothing() {
    let mut store = PodStore::default();
    store.changed(read(pod("u1", "bare")), 1);
    store.begin_list();
    store.begin_list();
    store.listed(read(pod("u1", "bare")));
    assert_eq!(store.end_list(10).len(), 0);
    assert!(names(&store, "u1").is_some());
}

#[test]
fn a_pod_has_no_name_until_its_workload_is_known() {
    let mut store = PodStore::default();
    for at in 1..=2 {
        store.changed(read(owned(pod(&format!("u{at}"), &format!("web-{at}")), "apps/v1", "ReplicaSet", "web-1")), 1);
    }
    assert_eq!(names(&store, "u1"), None);
    let unknown = store.unknown_owners();
    assert_eq!(unknown.len(), 1, "one question for both: {unknown:?}");
    let web = WorkloadNames { name: "web".into(), kind: "deployment".into() };
    assert_eq!(store.owner_known(&"uid-of-web-1".into(), web).len(), 2);
    assert_eq!(names(&store, "u2").as_deref(), Some("shop/web-2 of deployment web"));
    store.changed(read(owned(pod("u3", "web-3"), "apps/v1", "ReplicaSet", "web-1")), 2);
    assert_eq!(names(&store, "u3").as_deref(), Some("shop/web-3 of deployment web"), "known already");
}

#[test]
fn kinds_that_are_the_workload_themselves_are_not_asked_for() {
    let mut store = PodStore::default();
    for (uid, api_version, kind) in
        [("u1", "apps/v1", "StatefulSet"), ("u2", "apps/v1", "DaemonSet"), ("u3", "example.com/v1", "Database")]
    {
        store.changed(read(owned(pod(uid, "p"), api_version, kind, "db")), 1);
        assert_eq!(names(&store, uid), Some(format!("shop/p of {} db", kind.to_lowercase())));
    }
    // Somebody's own kind of that name is not the one of apps/v1.
    store.changed(read(owned(pod("u4", "p"), "example.com/v1", "ReplicaSet", "mine")), 1);
    assert_eq!(names(&store, "u4").as_deref(), Some("shop/p of replicaset mine"));
    assert_eq!(store.unknown_owners().len(), 0);
}

#[test]
fn finished_pods_leave_two_minutes_after_they_end_and_their_owners_with_them() {
    let mut store = PodStore::default();
    for run in 0..1000u64 {
        let now = run * 5_000_000_000;
        let uid = format!("u{run}");
        let mut json = owned(pod(&uid, &format!("tick-{run}")), "batch/v1", "Job", &format!("tick-{run}"));
        store.changed(read(json.clone()), now);
        let tick = WorkloadNames { name: "tick".into(), kind: "cronjob".into() };
        store.owner_known(&Arc::from(format!("uid-of-tick-{run}")), tick);
        json["status"]["phase"] = json!("Succeeded");
        store.changed(read(json), now + 1);
        store.expire(now);
        assert!(store.len() <= 25, "{} pods after {run} runs", store.len());
    }
    assert_eq!(store.facts().iter().filter(|facts| facts.phase == "Succeeded").count(), store.len());
    store.expire(u64::MAX);
    assert!(store.is_empty() && store.facts().is_empty());
}

#[test]
fn the_facts_are_what_the_api_tells() {
    let mut store = PodStore::default();
    let mut json = owned(pod("u1", "db-0"), "apps/v1", "StatefulSet", "db");
    json["spec"]["hostNetwork"] = json!(true);
    store.changed(read(json), 1);
    let [facts] = store.facts() else { panic!("one pod") };
    assert_eq!((&*facts.uid, facts.host_network, facts.qos_class, facts.phase), ("u1", true, "Burstable", "Running"));
    assert_eq!((&*facts.created_by_kind, &*facts.created_by_name), ("StatefulSet", "db"));
}

#[test]
fn only_a_pod_that_is_there_and_has_a_network_of_its_own_has_addresses() {
    let addressed = |uid: &str, addresses: &[&str]| {
        let mut pod = pod(uid, uid);
        pod["status"]["podIPs"] = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        pod
    };
    let mut on_the_node = addressed("u2", &["10.1.0.7"]);
    on_the_node["spec"]["hostNetwork"] = json!(true);
    let mut ended = addressed("u3", &["10.244.7.3"]);
    ended["status"]["phase"] = json!("Succeeded");
    let mut store = PodStore::default();
    for pod in [addressed("u1", &["10.244.7.1", "fd44:7::1"]), on_the_node, ended, addressed("u4", &["10.244.7.4"])] {
        store.changed(read(pod), 1);
    }
    store.deleted("u4", 2);
    let mut told: Vec<_> = store.addresses().map(|address| address.to_string()).collect();
    told.sort();
    assert_eq!(told, ["10.244.7.1", "fd44:7::1"]);
}
