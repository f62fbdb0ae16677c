//! Who has an address elsewhere.

use super::server::{Mood, TestServer, owned, pod};
use crate::kube::{Kinds, PeerAnswer, Question};
use serde_json::{Value, json};

fn question(address: &str) -> Question {
    Question { address: address.parse().unwrap(), kinds: Kinds::Pods, node: None }
}

fn at(mut pod: Value, node: &str, addresses: &[&str]) -> Value {
    pod["spec"]["nodeName"] = node.into();
    pod["status"]["podIP"] = addresses[0].into();
    pod["status"]["podIPs"] = addresses.iter().map(|address| json!({"ip": address})).collect();
    pod
}

fn names(answer: &PeerAnswer) -> Vec<&str> {
    answer.pods.iter().map(|peer| &*peer.pod.name).collect()
}

#[tokio::test]
async fn a_pod_is_found_by_its_address_with_its_workload_and_its_times() {
    let server = TestServer::start().await;
    let mut web = owned(pod("w", "web-1"), "apps/v1", "ReplicaSet", "web-5f7c");
    web["status"]["startTime"] = "1970-01-01T00:01:00Z".into();
    web["status"]["conditions"] =
        json!([{"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "1970-01-01T00:01:05Z"}]);
    server.put(at(web, "node-8", &["10.244.8.9", "fd44:8::9"]));
    server.put(at(pod("other", "other"), "node-8", &["10.244.8.10"]));
    let mut job = at(pod("j", "job-1"), "node-8", &["10.244.8.9"]);
    job["status"]["phase"] = "Succeeded".into();
    // The kubelet looks when it has ended.
    job["status"]["conditions"] =
        json!([{"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "1970-01-01T00:00:31Z"}]);
    job["status"]["containerStatuses"][0]["state"] =
        json!({"terminated": {"finishedAt": "1970-01-01T00:00:30Z", "containerID": "containerd://x"}});
    server.put(job);
    let owner = json!({"metadata": {"name": "web-5f7c", "uid": "uid-of-web-5f7c",
        "ownerReferences": super::server::owner("apps/v1", "Deployment", "web")}});
    server.put_object("/apis/apps/v1/namespaces/shop/replicasets/web-5f7c", owner);
    let peers = server.connect().await.peers;
    let mut answer = peers.find(&question("10.244.8.9")).await.unwrap();
    answer.pods.sort_by_key(|peer| peer.pod.since_unix_seconds);
    assert_eq!(names(&answer), ["job-1", "web-1"]);
    let [job, web] = &answer.pods[..] else { unreachable!() };
    assert_eq!((job.pod.since_unix_seconds, job.pod.ended_unix_seconds), (Some(30), Some(30)));
    assert!(job.pod.has_finished() && !web.pod.has_finished());
    assert_eq!((web.pod.since_unix_seconds, web.pod.ended_unix_seconds), (Some(65), None));
    let workload = web.workload.as_ref().unwrap();
    assert_eq!((&*workload.kind, &*workload.name), ("deployment", "web"));
    assert_eq!(web.pod.node.as_deref(), Some("node-8"));
    let lists =
        |asked: &[String]| asked.iter().filter(|path| path.starts_with("/api/v1/pods")).cloned().collect::<Vec<_>>();
    assert_eq!(lists(&server.asked()), ["/api/v1/pods?fieldSelector=status.podIP%3D10.244.8.9&resourceVersion=0"]);
    // What owns it is known by now.
    peers.find(&question("10.244.8.9")).await.unwrap();
    assert_eq!(server.asked().iter().filter(|path| path.contains("replicasets")).count(), 1);
}

#[tokio::test]
async fn a_pods_second_address_is_found_among_the_pods_of_its_node() {
    let server = TestServer::start().await;
    server.put(at(pod("w", "web-1"), "node-8", &["10.244.8.9", "fd44:8::9"]));
    server.put(at(pod("o", "other"), "node-9", &["10.244.9.9", "fd44:8::9"]));
    let peers = server.connect().await.peers;
    assert!(names(&peers.find(&question("fd44:8::9")).await.unwrap()).is_empty());
    let of_node = Question { node: Some("node-8".into()), ..question("fd44:8::9") };
    assert_eq!(names(&peers.find(&of_node).await.unwrap()), ["web-1"]);
}

#[tokio::test]
async fn ports_of_a_node_are_told_by_the_pods_in_its_network_and_by_host_ports() {
    let server = TestServer::start().await;
    let mut exporter = at(pod("e", "exporter"), "node-8", &["10.1.0.8"]);
    exporter["spec"]["hostNetwork"] = true.into();
    exporter["spec"]["containers"][0]["ports"] =
        json!([{"containerPort": 9100}, {"containerPort": 53, "protocol": "UDP"}]);
    server.put(exporter);
    let mut web = at(pod("w", "web-1"), "node-8", &["10.244.8.9"]);
    web["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}, {"containerPort": 8080, "hostPort": 88}]);
    server.put(web);
    let peers = server.connect().await.peers;
    let exporter = &peers.find(&question("10.1.0.8")).await.unwrap().pods[0].pod;
    assert!(exporter.host_network);
    assert_eq!(*exporter.node_ports, [(9100, 6), (53, 17)]);
    let web = &peers.find(&question("10.244.8.9")).await.unwrap().pods[0].pod;
    assert_eq!(*web.node_ports, [(88, 6)]);
}

#[tokio::test]
async fn a_service_is_found_by_the_object_of_its_address_or_among_all_services() {
    let server = TestServer::start().await;
    let service = |address: &str| Question { kinds: Kinds::Services, ..question(address) };
    server.put_object(
        "/apis/networking.k8s.io/v1/ipaddresses/fd96::10",
        json!({"metadata": {"name": "fd96::10", "creationTimestamp": "1970-01-01T00:00:07Z"},
            "spec": {"parentRef": {"resource": "services", "namespace": "shop", "name": "db"}}}),
    );
    server.put_object(
        "/api/v1/services",
        json!({"items": [{"metadata": {"name": "cache", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.5"}}]}),
    );
    let peers = server.connect().await.peers;
    let found = peers.find(&service("fd96::10")).await.unwrap().service.unwrap();
    assert_eq!((&*found.namespace, &*found.name, found.since_unix_seconds), ("shop", "db", Some(7)));
    let any = Question { kinds: Kinds::Any, ..question("10.96.0.5") };
    assert!(peers.find(&any).await.unwrap().service.is_some());
    let found = peers.find(&service("10.96.0.5")).await.unwrap().service.unwrap();
    assert_eq!((&*found.name, found.since_unix_seconds), ("cache", None));
    assert_eq!(
        server.asked().last().unwrap(),
        "/api/v1/services?fieldSelector=spec.clusterIP%3D10.96.0.5&resourceVersion=0"
    );
}

#[tokio::test]
async fn a_server_that_cannot_tell_says_why() {
    let server = TestServer::start().await;
    let peers = server.connect().await.peers;
    server.forbid("/api/v1/services");
    let service = Question { kinds: Kinds::Services, ..question("10.96.0.5") };
    let refused = peers.find(&service).await.unwrap_err();
    assert!(refused.reason.contains("may not list services: grant it") && !refused.is_silent, "{refused:?}");
    assert_eq!(refused.resource, "services");
    server.become_(Mood::Hanging);
    assert!(peers.find(&question("10.244.8.9")).await.unwrap_err().is_silent);
    server.become_(Mood::Babbling);
    let garbled = peers.find(&question("10.244.8.9")).await.unwrap_err();
    assert!(garbled.reason.starts_with("cannot list pods:") && !garbled.is_silent, "{garbled:?}");
}
