//! What is kept of a pod.

use super::server::{owned, pod};
use crate::{
    kube::pod::PrunedPod,
    ledger::{Bounds, ContainerResources},
};
use serde_json::{Value, json};

fn read(pod: Value) -> crate::kube::Pod {
    serde_json::from_value::<PrunedPod>(pod).unwrap().pod
}

#[test]
fn every_kind_of_container_is_known_by_its_id_the_one_before_a_restart_too() {
    let mut json = pod("u1", "web-1");
    json["status"]["initContainerStatuses"] = json!([
        {"name": "init", "containerID": "cri-o://i1", "state": {"terminated": {"containerID": "cri-o://i1", "exitCode": 0}}},
        {"name": "waiting", "containerID": "", "state": {"waiting": {"reason": "PodInitializing"}}},
    ]);
    json["status"]["ephemeralContainerStatuses"] = json!([{"name": "debug", "containerID": "docker://e1"}]);
    json["status"]["containerStatuses"] = json!([
        {"name": "app", "containerID": "containerd://a2", "state": {"running": {}},
         "lastState": {"terminated": {"containerID": "containerd://a1", "exitCode": 137}}},
    ]);
    let pod = read(json);
    let name = |id: &str| pod.container(id).map(ToString::to_string);
    for (id, expected) in [("i1", "init"), ("e1", "debug"), ("a1", "app"), ("a2", "app")] {
        assert_eq!(name(id).as_deref(), Some(expected));
    }
    assert_eq!((name(""), pod.containers.len()), (None, 4));
}

#[test]
fn a_static_pod_goes_by_the_hash_that_its_cgroup_has_and_the_node_is_no_workload() {
    let mut json = owned(pod("u1", "etcd-node-7"), "v1", "Node", "node-7");
    json["metadata"]["annotations"] =
        json!({"kubernetes.io/config.hash": "hash", "kubernetes.io/config.mirror": "hash"});
    let mirror = read(json.clone());
    assert_eq!((&*mirror.cgroup_uid, &*mirror.uid, mirror.owner), ("hash", "u1", None));
    // Anybody may write an annotation: only the API's image of a static pod has both.
    json["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": "hash"});
    assert_eq!(&*read(json).cgroup_uid, "u1");
}

#[test]
fn the_owner_is_the_controller_and_nobody_else() {
    let owner = read(owned(pod("u1", "web-1"), "apps/v1", "ReplicaSet", "web")).owner.unwrap();
    assert_eq!((&*owner.api_version, &*owner.kind, &*owner.name), ("apps/v1", "ReplicaSet", "web"));
    let mut json = owned(pod("u1", "web-1"), "apps/v1", "ReplicaSet", "web");
    json["metadata"]["ownerReferences"][1]["controller"] = json!(false);
    assert_eq!(read(json).owner, None);
}

#[test]
fn a_pod_that_was_just_made_has_no_status() {
    let mut json = pod("u1", "web-1");
    json["status"] = json!({});
    let made = read(json.clone());
    assert_eq!((made.phase, made.qos_class, made.containers.len(), made.has_finished()), ("", "", 0, false));
    json["status"] = json!({"phase": "Invented", "qosClass": "Burstable"});
    assert_eq!((read(json.clone()).phase, read(json).qos_class), ("", "Burstable"));
}

#[test]
fn what_is_not_needed_is_not_kept() {
    let json = pod("u1", "web-1").to_string();
    let mut pruned = None;
    let kept = allocation_counter::measure(|| pruned = Some(serde_json::from_str::<PrunedPod>(&json).unwrap().pod));
    assert!(kept.bytes_current < 600, "{kept:?} of {} bytes", json.len());
}

#[test]
fn what_containers_ask_for_and_may_use_is_kept_in_base_units() {
    let mut json = pod("u1", "web-1");
    json["spec"] = json!({
        "containers": [
            {"name": "app", "resources": {"requests": {"cpu": "250m", "memory": "64Mi", "nvidia.com/gpu": "1"}, "limits": {"memory": "1e9"}}},
            {"name": "free", "resources": {}},
            {"name": "zero", "resources": {"requests": {"cpu": "0"}}},
        ],
        "initContainers": [
            {"name": "once", "resources": {"limits": {"cpu": "4"}}},
            {"name": "beside", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1.5"}}},
        ],
        "resources": {"limits": {"cpu": "2", "memory": "2Gi"}},
    });
    let pod = read(json);
    let said: Vec<_> = pod
        .resources
        .iter()
        .map(|ContainerResources { container, requests, limits }| {
            let pair = |bounds: &Bounds| (bounds.cpu_nanocores, bounds.memory_bytes);
            (&**container, pair(requests), pair(limits))
        })
        .collect();
    assert_eq!(
        said,
        [
            ("beside", (None, None), (Some(1_500_000_000), None)),
            ("app", (Some(250_000_000), Some(64 << 20)), (None, Some(1_000_000_000))),
            ("zero", (Some(0), None), (None, None)),
            ("", (None, None), (Some(2_000_000_000), Some(2 << 30))),
        ]
    );
}

#[test]
fn a_pod_of_the_api_servers_own_types_says_the_same() {
    use k8s_openapi::api::core::v1;
    let resources: v1::ResourceRequirements =
        serde_json::from_value(json!({"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}})).unwrap();
    let container = v1::Container { name: "app".into(), resources: Some(resources), ..v1::Container::default() };
    let spec = v1::PodSpec { containers: vec![container], ..v1::PodSpec::default() };
    let mut json = serde_json::to_value(v1::Pod { spec: Some(spec), ..v1::Pod::default() }).unwrap();
    json["metadata"] = json!({"name": "web", "uid": "u"});
    let pod = read(json);
    assert_eq!(
        (pod.resources[0].requests.cpu_nanocores, pod.resources[0].limits.memory_bytes),
        (Some(100_000_000), Some(1 << 30))
    );
}

#[test]
fn a_container_that_waits_its_turn_is_told_from_one_that_cannot_be_made() {
    let waiting = |reason: &str| {
        let status = json!([{"name": "app", "state": {"waiting": {"reason": reason}}}]);
        read(json!({"metadata": {"name": "web", "uid": "u"}, "status": {"containerStatuses": status}})).cannot_start
    };
    for reason in ["ContainerCreating", "PodInitializing", ""] {
        assert!(!waiting(reason), "{reason}");
    }
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerConfigError"] {
        assert!(waiting(reason), "{reason}");
    }
}
