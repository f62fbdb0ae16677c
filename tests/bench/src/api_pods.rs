//! Pods as an API server shows them: with all that the kubelet and the controllers write into one, or as small as they come.

use crate::{api_server::NODE, tenants};
use serde_json::{Value, json};

/// Pods of one ReplicaSet.
const REPLICAS: u32 = 10;
const NAMESPACE: &str = "shop";

/// A pod of one container, of just under 4 kB: the one whose cgroups [`tenants::Tenants`] make under this number. `restarts` decides the
/// id of its container: none, and it is that of the cgroup.
pub(crate) fn pod(number: u32, restarts: u32) -> Value {
    let (name, started) = (name(number), format!("2026-11-23T08:{:02}:{:02}Z", restarts / 60 % 60, restarts % 60));
    let id = |restarts| format!("containerd://{}", tenants::container_id(number + restarts * 1_000_000));
    let last_state = if restarts == 0 {
        json!({})
    } else {
        json!({"terminated": {"containerID": id(restarts - 1), "exitCode": 137, "reason": "OOMKilled",
            "startedAt": "2026-11-23T08:00:00Z", "finishedAt": started}})
    };
    let mut pod = small(number);
    pod["metadata"]["annotations"] = json!({
        "cni.projectcalico.org/podIP": "10.1.2.3/32",
        "prometheus.io/scrape": "true", "prometheus.io/port": "8080",
    });
    pod["metadata"]["managedFields"] = managed_fields();
    pod["spec"] = spec(&name);
    let condition =
        |kind| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": started});
    pod["status"] = json!({
        "phase": "Running", "qosClass": "Burstable", "hostIP": "192.0.2.7", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}],
        "startTime": "2026-11-23T08:00:00Z",
        "conditions": (["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition)),
        "containerStatuses": [{
            "name": "app", "image": "registry.example/shop/web:1.2.3", "ready": true, "started": true, "restartCount": restarts,
            "imageID": format!("registry.example/shop/web@sha256:{}", tenants::container_id(number)),
            "containerID": id(restarts), "state": {"running": {"startedAt": started}}, "lastState": last_state,
        }],
    });
    pod
}

/// A pod as small as they come, of 500 bytes.
pub(crate) fn small(number: u32) -> Value {
    let owner = replica_set_name(number / REPLICAS);
    json!({
        "metadata": {
            "name": name(number), "namespace": NAMESPACE, "uid": tenants::pod_uid(number), "resourceVersion": "1",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": uid_of(&owner),
                "controller": true}],
        },
        "status": {
            "phase": "Running", "qosClass": "Burstable",
            "containerStatuses": [{"name": "app", "containerID": format!("containerd://{}", tenants::container_id(number))}],
        },
    })
}

/// A ReplicaSet as far as an agent asks for it: who it is, and its Deployment.
pub(crate) fn replica_set(name: &str) -> Value {
    let deployment = name.rsplit_once('-').map_or(name, |(deployment, _)| deployment);
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": uid_of(name), "resourceVersion": "1",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment,
                "uid": uid_of(deployment), "controller": true}],
        },
    })
}

fn name(number: u32) -> String {
    format!("{}-{:05x}", replica_set_name(number / REPLICAS), number)
}

fn replica_set_name(number: u32) -> String {
    format!("web-{number}-5d9c7b8f6d")
}

/// As long as a UID, and another for each name.
fn uid_of(name: &str) -> String {
    format!("{name:0>36}")
}

/// What the API server keeps of who wrote which field: a fifth of most pods.
fn managed_fields() -> Value {
    let field = |name: &str| json!({name: {".": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}}});
    json!([{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": "2026-11-23T08:00:01Z",
        "fieldsType": "FieldsV1", "subresource": "status", "fieldsV1": {"f:status": {
            "f:conditions": (["Initialized", "Ready", "ContainersReady"].map(|kind| field(&format!("k:{{\"type\":\"{kind}\"}}")))),
            "f:containerStatuses": {}, "f:hostIP": {}, "f:phase": {}, "f:podIP": {}, "f:startTime": {}}}}])
}

fn spec(name: &str) -> Value {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
        "successThreshold": 1, "failureThreshold": 3});
    let toleration = |key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    json!({
        "nodeName": NODE, "serviceAccountName": "web", "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        "hostname": name, "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "securityContext": {},
        "containers": [{
            "name": "app", "image": "registry.example/shop/web:1.2.3", "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "database", "key": "url"}}},
                {"name": "LOG_LEVEL", "value": "info"}],
            "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "volumeMounts": [{"name": "token", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "livenessProbe": probe, "readinessProbe": probe, "terminationMessagePath": "/dev/termination-log",
        }],
        "volumes": [{"name": "token", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}],
        "tolerations": (["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(toleration)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_as_large_as_they_are_said_to_be() {
        let bytes = |pod: Value| pod.to_string().len();
        assert!((3_500..4_000).contains(&bytes(pod(7, 1))), "{}", bytes(pod(7, 1)));
        assert!((450..550).contains(&bytes(small(7))), "{}", bytes(small(7)));
    }

    #[test]
    fn a_pod_and_its_replica_set_agree_on_who_it_is() {
        let owner = &small(123)["metadata"]["ownerReferences"][0];
        let asked = replica_set(owner["name"].as_str().unwrap());
        assert_eq!(asked["metadata"]["uid"], owner["uid"]);
        assert_eq!(asked["metadata"]["ownerReferences"][0]["name"], "web-12");
    }
}
