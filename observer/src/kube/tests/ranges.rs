//! Which addresses are the cluster's.

use super::server::{Mood, TestServer};
use crate::kube::{ClusterRanges, NodeRanges, RangeReader, WantedRanges, node_of};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::timeout;

const ALL: WantedRanges = WantedRanges { cluster: true, service: true };
const NOTHING: WantedRanges = WantedRanges { cluster: false, service: false };
const NODES: &str = "/api/v1/nodes";
const SERVICES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

fn node(name: &str, pods: &[&str], address: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"podCIDR": pods.first(), "podCIDRs": pods},
        "status": {"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]},
    })
}

fn list(items: &[Value], next: &str) -> Value {
    json!({"metadata": {"continue": next, "resourceVersion": "7"}, "items": items})
}

fn services(cidrs: &[&str]) -> Value {
    list(&[json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}})], "")
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn reader(server: &TestServer, wanted: WantedRanges) -> RangeReader {
    server.connect_wanting(wanted).await.ranges
}

#[tokio::test]
async fn nodes_tell_their_pods_ranges_and_their_addresses_and_services_theirs() {
    let server = TestServer::start().await;
    let nodes = [
        node("node-7", &["10.244.7.0/24", "fd44:7::/64"], "10.1.0.7"),
        node("node-8", &["10.244.8.0/24", "fd44:8::/64"], "10.1.0.8"),
    ];
    server.put_object(NODES, list(&nodes, ""));
    server.put_object(SERVICES, services(&["10.96.0.0/12", "fd96::/108"]));
    let told = reader(&server, ALL).await.read().await;
    let expected = ClusterRanges {
        node_pods: nets(&["10.244.7.0/24", "fd44:7::/64"]),
        cluster: nets(&["10.1.0.8/32", "10.244.8.0/24", "fd44:8::/64"]),
        service: nets(&["10.96.0.0/12", "fd96::/108"]),
        nodes: [NodeRanges {
            name: "node-8".into(),
            addresses: vec!["10.1.0.8".parse().unwrap()],
            pods: nets(&["10.244.8.0/24", "fd44:8::/64"]),
        }]
        .into(),
        node_count: Some(2),
    };
    assert_eq!(node_of("fd44:8::9".parse().unwrap(), &expected.nodes).map(|name| &**name), Some("node-8"));
    assert_eq!(node_of("10.1.0.8".parse().unwrap(), &expected.nodes), None, "it is the node's own");
    assert_eq!((told.ranges, told.missing, told.again_in), (expected, None, Duration::from_mins(5)));
    assert_eq!(server.asked(), [format!("{NODES}?limit=50"), SERVICES.to_owned()]);
}

#[tokio::test]
async fn where_the_ranges_are_configured_nodes_are_read_for_their_names_and_the_nodes_own_range_always_is() {
    let server = TestServer::start().await;
    let own = node("node-7", &["10.244.7.0/24"], "10.1.0.7");
    let other = node("node-8", &["10.244.8.0/24", "fd44:8::/64"], "10.1.0.8");
    server.put_object("/api/v1/nodes/node-7", own.clone());
    server.put_object(NODES, list(&[own.clone(), other], ""));
    let mut reader = reader(&server, NOTHING).await;
    let told = reader.read().await;
    let nodes: Vec<_> = told.ranges.nodes.iter().map(|node| (&*node.name, node.pods.clone())).collect();
    assert_eq!(nodes, [("node-8", nets(&["10.244.8.0/24", "fd44:8::/64"]))]);
    assert_eq!((told.ranges.node_pods, told.missing), (nets(&["10.244.7.0/24"]), None));
    assert_eq!((told.ranges.cluster, told.ranges.service), (Vec::new(), Vec::new()));
    assert_eq!(server.asked(), [format!("{NODES}?limit=50")]);
    // It goes without them, and asks again soon.
    server.put_object(NODES, json!({}));
    let told = reader.read().await;
    assert_eq!((told.ranges.nodes.len(), told.missing, told.again_in), (1, None, Duration::from_secs(30)));
    assert_eq!(server.asked().last().unwrap(), "/api/v1/nodes/node-7");
}

#[tokio::test]
async fn of_a_cluster_that_has_become_large_one_page_is_read_and_no_node_is_known_any_more() {
    let server = TestServer::start().await;
    let own = node("node-7", &["10.244.7.0/24"], "10.1.0.7");
    server.put_object("/api/v1/nodes/node-7", own.clone());
    server.put_object(NODES, list(&[own, node("node-8", &[], "10.1.0.8")], ""));
    let mut reader = reader(&server, NOTHING).await;
    assert_eq!(reader.read().await.ranges.nodes.len(), 1);
    let nodes: Vec<_> = (0..50).map(|at| node(&format!("node-{at}"), &[], "x")).collect();
    let mut page = list(&nodes, "more of it");
    page["metadata"]["remainingItemCount"] = 951.into();
    server.put_object(NODES, page);
    let told = reader.read().await;
    assert_eq!((told.ranges.nodes.len(), told.ranges.node_count), (0, Some(1001)));
    assert_eq!((told.ranges.node_pods, told.missing), (nets(&["10.244.7.0/24"]), None));
    assert_eq!(told.again_in, Duration::from_secs(10_000));
    assert_eq!(server.asked()[1..], [format!("{NODES}?limit=50"), "/api/v1/nodes/node-7".to_owned()]);
}

#[tokio::test]
async fn neighbouring_ranges_of_nodes_are_one() {
    let server = TestServer::start().await;
    let nodes: Vec<_> = (0..8).map(|at| node(&format!("node-{at}"), &[&format!("10.244.{at}.0/24")], "x")).collect();
    server.put_object(NODES, list(&nodes, ""));
    let told = reader(&server, WantedRanges { cluster: true, service: false }).await.read().await;
    assert_eq!(told.ranges.node_pods, nets(&["10.244.7.0/24"]));
    assert_eq!(told.ranges.cluster, nets(&["10.244.0.0/22", "10.244.4.0/23", "10.244.6.0/24"]));
}

#[tokio::test]
async fn a_node_that_nobody_knows_is_said_to_be_none() {
    let server = TestServer::start().await;
    let told = reader(&server, NOTHING).await.read().await;
    assert!(told.missing.is_some_and(|missing| missing.contains("no node node-7") && missing.contains("--node-name")));
    server.put_object(NODES, list(&[node("node-8", &["10.244.8.0/24"], "10.1.0.8")], ""));
    let told = reader(&server, WantedRanges { cluster: true, service: false }).await.read().await;
    assert!(told.missing.is_some_and(|missing| missing.contains("no node node-7")), "nor in the list");
    assert_eq!(told.ranges.cluster, nets(&["10.1.0.8/32", "10.244.8.0/24"]));
}

/// What the server tells of nodes says nothing of the watch of pods.
#[tokio::test]
async fn a_server_that_tells_of_nodes_and_not_of_pods_is_not_up() {
    let server = TestServer::start().await;
    server.forbid("/api/v1/pods");
    server.put_object(NODES, list(&[node("node-7", &["10.244.7.0/24"], "10.1.0.7")], ""));
    let mut connection = server.connect_wanting(WantedRanges { cluster: true, service: false }).await;
    // Long enough for the watch to wait longer between its tries than the server has to be calm.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let _ = timeout(Duration::from_millis(300), connection.watch.next()).await;
        assert_eq!(connection.ranges.read().await.missing, None);
        assert!(!connection.pulse.is_up(), "up, and nobody may list pods");
    }
    assert!(connection.pulse.failures() > 0);
}

#[tokio::test]
async fn a_large_cluster_is_read_by_pages_and_less_often() {
    let server = TestServer::start().await;
    let nodes: Vec<_> = (0..50).map(|at| node(&format!("node-{at}"), &[&format!("10.244.{at}.0/24")], "x")).collect();
    // The server says the same of every page: one that has no end.
    server.put_object(NODES, list(&nodes, "more of it"));
    server.put_object(SERVICES, services(&[]));
    let told = reader(&server, ALL).await.read().await;
    let missing = told.missing.unwrap();
    assert!(missing.contains("more than 1000 nodes") && missing.contains("--cluster-cidr"), "{missing}");
    // Twenty pages, services, and its own node.
    assert_eq!((server.asked().len(), told.again_in), (22, Duration::from_secs(10_000)));
    assert_eq!(server.asked()[1], format!("{NODES}?limit=50&continue=more+of+it"));
}

#[tokio::test]
async fn what_is_forbidden_or_not_served_is_said_with_what_to_do() {
    let server = TestServer::start().await;
    server.forbid(NODES);
    let told = reader(&server, ALL).await.read().await;
    let missing = told.missing.unwrap();
    for words in ["may not list nodes", "docs/security.md", "--cluster-cidr", "from 1.33 on", "--service-cidr"] {
        assert!(missing.contains(words), "{words} in {missing}");
    }
    assert_eq!(told.ranges, ClusterRanges::default());
}

#[tokio::test]
async fn nodes_without_ranges_are_said_to_have_none() {
    let server = TestServer::start().await;
    server.put_object(NODES, list(&[node("node-7", &[], "10.1.0.7"), node("node-8", &[], "10.1.0.8")], ""));
    server.put_object(SERVICES, services(&["10.96.0.0/12"]));
    let told = reader(&server, ALL).await.read().await;
    assert!(told.missing.is_some_and(|missing| missing.contains("no node has a range of pods")));
    assert_eq!(told.ranges.cluster, nets(&["10.1.0.8/32"]));
}

#[tokio::test]
async fn a_server_that_is_down_takes_nothing_away_and_is_asked_again_soon() {
    let server = TestServer::start().await;
    server.put_object(
        NODES,
        list(&[node("node-7", &["10.244.7.0/24"], "10.1.0.7"), node("node-8", &[], "10.1.0.8")], ""),
    );
    server.put_object(SERVICES, services(&["10.96.0.0/12"]));
    let mut reader = reader(&server, ALL).await;
    let known = reader.read().await.ranges;
    server.become_(Mood::Refusing(500));
    let told = reader.read().await;
    assert_eq!((told.ranges, told.again_in), (known, Duration::from_secs(30)));
    assert!(told.missing.is_some_and(|missing| missing.contains("cannot list nodes")));
    server.become_(Mood::Babbling);
    assert!(reader.read().await.missing.is_some());
    server.become_(Mood::Fine);
    assert_eq!(reader.read().await.missing, None);
}
