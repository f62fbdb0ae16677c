//! The watch: what is asked for, what is told, and what becomes of it when the server is not well.

use super::server::{Mood, PATIENCE, TestServer, pod};
use crate::kube::{Connection, PodEvent, PodStore};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Follows the watch into a store until a condition holds.
async fn until(
    connection: &mut Connection,
    store: &mut PodStore,
    what: &str,
    holds: impl Fn(&PodStore, &Connection) -> bool,
) {
    let waited = timeout(PATIENCE, async {
        while !holds(store, connection) {
            // What the pulse alone tells is no event.
            let Ok(event) = timeout(Duration::from_millis(50), connection.watch.next()).await else { continue };
            match event {
                PodEvent::Begin => store.begin_list(),
                PodEvent::Listed(pod) => store.listed(pod),
                PodEvent::Done => drop(store.end_list(1)),
                PodEvent::Changed(pod) => drop(store.changed(pod, 1)),
                PodEvent::Deleted(pod) => store.deleted(&pod.cgroup_uid, 1),
            }
        }
    });
    assert!(waited.await.is_ok(), "never came: {what}; {:?}", connection.pulse.complaint());
}

fn has(uid: &'static str) -> impl Fn(&PodStore, &Connection) -> bool {
    move |store, _| store.names(uid).is_some()
}

fn is_down(reason: &'static str) -> impl Fn(&PodStore, &Connection) -> bool {
    move |_, connection| {
        !connection.pulse.is_up() && connection.pulse.complaint().is_some_and(|told| told.contains(reason))
    }
}

fn is_up(_: &PodStore, connection: &Connection) -> bool {
    connection.pulse.is_up()
}

#[tokio::test]
async fn only_this_nodes_pods_are_asked_for_and_every_change_is_told() {
    let server = TestServer::start().await;
    server.put(pod("u1", "one"));
    let (mut connection, mut store) = (server.connect().await, PodStore::default());
    until(&mut connection, &mut store, "the list", has("u1")).await;
    assert!(connection.pulse.is_up());
    until(&mut connection, &mut store, "the watch", |_, _| server.asked().len() >= 2).await;
    server.put(pod("u2", "two"));
    until(&mut connection, &mut store, "the new pod", has("u2")).await;
    server.delete("u1");
    until(&mut connection, &mut store, "the deletion", |store, _| !store.is_there("u1") && store.is_there("u2")).await;
    assert!(server.asked()[0].contains("resourceVersion=0"), "from the server's cache: {:?}", server.asked());
    for asked in server.asked() {
        assert!(
            asked.starts_with("/api/v1/pods?") && asked.contains("fieldSelector=spec.nodeName%3Dnode-7"),
            "{asked}"
        );
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_told_with_its_reason_and_comes_back() {
    let server = TestServer::start().await;
    let (mut connection, mut store) = (server.connect().await, PodStore::default());
    for (mood, reason) in [
        (Mood::Refusing(403), "may not list pods"),
        (Mood::Refusing(401), "not authenticated (401)"),
        (Mood::Refusing(500), "refused with 500 (500)"),
        (Mood::Babbling, "cannot list pods"),
        (Mood::Hanging, "no answer within 0.5 s"),
    ] {
        server.become_(mood.clone());
        until(&mut connection, &mut store, &format!("{mood:?}"), is_down(reason)).await;
    }
    server.put(pod("u1", "one"));
    server.become_(Mood::Fine);
    until(&mut connection, &mut store, "the recovery", has("u1")).await;
    assert!(connection.pulse.is_up() && connection.pulse.complaint().is_none());
}

#[tokio::test]
async fn a_watch_that_is_too_old_makes_a_new_list_and_finds_who_went_unseen() {
    let server = TestServer::start().await;
    server.put(pod("u1", "one"));
    server.put(pod("u2", "two"));
    let (mut connection, mut store) = (server.connect().await, PodStore::default());
    until(&mut connection, &mut store, "the watch", |_, _| server.asked().len() >= 2).await;
    server.delete_unseen("u1");
    server.tell(&json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old resource version", "metadata": {}}}));
    until(&mut connection, &mut store, "410", |_, connection| connection.pulse.failures() >= 1).await;
    until(&mut connection, &mut store, "the new list", |_, connection| connection.pulse.is_up()).await;
    until(&mut connection, &mut store, "who went", |store, _| !store.is_there("u1")).await;
    assert!(store.is_there("u2"));
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_goes_on_where_it_was() {
    let server = TestServer::start().await;
    server.put(pod("u1", "one"));
    let (mut connection, mut store) = (server.connect().await, PodStore::default());
    until(&mut connection, &mut store, "the watch", |_, _| server.asked().len() >= 2).await;
    server.become_(Mood::Refusing(503));
    server.drop_watches();
    until(&mut connection, &mut store, "503", is_down("503")).await;
    assert!(store.names("u1").is_some(), "what was known stays known");
    server.become_(Mood::Fine);
    // Nothing changes on the node: the answer alone tells that all is well.
    until(&mut connection, &mut store, "calm", is_up).await;
    server.put(pod("u2", "two"));
    until(&mut connection, &mut store, "the new pod", has("u2")).await;
    let lists = server.asked().iter().filter(|asked| !asked.contains("watch=true")).count();
    assert_eq!(lists, 1, "the watch went on without another list: {:?}", server.asked());
}

#[tokio::test]
async fn a_server_that_answers_and_then_babbles_does_not_flap() {
    let server = TestServer::start().await;
    let (mut connection, mut store) = (server.connect().await, PodStore::default());
    until(&mut connection, &mut store, "the watch", |_, _| server.asked().len() >= 2).await;
    server.become_(Mood::Babbling);
    server.drop_watches();
    until(&mut connection, &mut store, "babble", is_down("")).await;
    let complaint = connection.pulse.complaint();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        let _ = timeout(Duration::from_millis(50), connection.watch.next()).await;
        assert!(!connection.pulse.is_up(), "up after {:?}", since.elapsed());
    }
    assert_eq!(connection.pulse.complaint(), complaint);
}
