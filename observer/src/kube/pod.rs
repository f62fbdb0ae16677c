//! A pod, pruned to what the books need while it is read.

use super::resources::{self, WireBounded, WireResources};
use crate::ledger::ContainerResources;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::Resource;
use serde::Deserialize;
use std::{borrow::Cow, net::IpAddr, sync::Arc};

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its UID in the API.
    pub uid: Arc<str>,
    /// The UID in its cgroup's path: that of the API, but for a static pod the hash of its manifest.
    pub cgroup_uid: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its controller, if it has one that is not the node.
    pub owner: Option<Owner>,
    /// Whether a container of it cannot be made at present.
    pub cannot_start: bool,
    /// The ids of its containers that are known, with their names; init, sidecar and ephemeral ones included.
    pub containers: Vec<(Box<str>, Arc<str>)>,
    /// What its containers ask for and may use, of those that say so.
    pub resources: Arc<[ContainerResources]>,
    /// Whether it shares the node's network namespace.
    pub host_network: bool,
    /// The node that it is on, once it is on one.
    pub node: Option<Arc<str>>,
    /// Its addresses, once it has them; those of the node, if it shares its network.
    pub addresses: Vec<IpAddr>,
    /// Since when it has them, at the earliest.
    pub since_unix_seconds: Option<u64>,
    /// When its last container ended, if it has ended for good.
    pub ended_unix_seconds: Option<u64>,
    /// The ports of the node that it says it listens on, with the protocols' numbers.
    pub node_ports: Arc<[(u16, u8)]>,
    /// `Guaranteed`, `Burstable`, `BestEffort`; empty when the API does not tell.
    pub qos_class: &'static str,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`; empty when the API does not tell.
    pub phase: &'static str,
}

/// What owns a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// For instance `apps/v1`.
    pub api_version: Box<str>,
    /// For instance `ReplicaSet`.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
}

impl Pod {
    /// Whether it has ended for good.
    pub fn has_finished(&self) -> bool {
        matches!(self.phase, "Succeeded" | "Failed")
    }

    /// A container's name by its id.
    pub fn container(&self, id: &str) -> Option<&Arc<str>> {
        self.containers.iter().find(|(known, _)| &**known == id).map(|(_, name)| name)
    }
}

/// What is read of a pod's JSON; everything else is passed over.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Wire")]
pub(super) struct PrunedPod {
    meta: ObjectMeta,
    pub(super) pod: Pod,
}

impl Resource for PrunedPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    metadata: WireMeta,
    #[serde(default)]
    spec: WireSpec,
    #[serde(default)]
    status: WireStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    name: Arc<str>,
    #[serde(default = "default_namespace")]
    namespace: Arc<str>,
    uid: Arc<str>,
    resource_version: Option<String>,
    #[serde(default)]
    annotations: WireAnnotations,
    #[serde(default)]
    owner_references: Vec<WireOwner>,
}

fn default_namespace() -> Arc<str> {
    "default".into()
}

#[derive(Default, Deserialize)]
struct WireAnnotations {
    /// Only the API's image of a static pod has this.
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
    #[serde(rename = "kubernetes.io/config.hash")]
    hash: Option<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireOwner {
    api_version: Box<str>,
    kind: Arc<str>,
    name: Arc<str>,
    uid: Arc<str>,
    #[serde(default)]
    controller: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    node_name: Option<Arc<str>>,
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    containers: Vec<WireBounded>,
    #[serde(default)]
    init_containers: Vec<WireBounded>,
    /// What the pod has as a whole.
    #[serde(default)]
    resources: WireResources,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    #[serde(default)]
    phase: Cow<'static, str>,
    #[serde(default)]
    qos_class: Cow<'static, str>,
    #[serde(rename = "podIPs", default)]
    pod_ips: Vec<WireAddress>,
    start_time: Option<Time>,
    #[serde(default)]
    conditions: Vec<WireCondition>,
    #[serde(default)]
    container_statuses: Vec<WireContainer>,
    #[serde(default)]
    init_container_statuses: Vec<WireContainer>,
    #[serde(default)]
    ephemeral_container_statuses: Vec<WireContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCondition {
    #[serde(rename = "type", default)]
    kind: Cow<'static, str>,
    #[serde(default)]
    status: Cow<'static, str>,
    last_transition_time: Option<Time>,
}

#[derive(Deserialize)]
struct WireAddress {
    #[serde(default)]
    ip: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainer {
    name: Arc<str>,
    #[serde(rename = "containerID", default)]
    container_id: String,
    #[serde(default)]
    state: WireState,
    #[serde(default)]
    last_state: WireState,
}

#[derive(Default, Deserialize)]
struct WireState {
    terminated: Option<WireTerminated>,
    waiting: Option<WireWaiting>,
}

#[derive(Deserialize)]
struct WireWaiting {
    #[serde(default)]
    reason: String,
}

impl WireContainer {
    /// It was tried, and could not be made: its image is not to be had, or its configuration is wrong. The two other reasons
    /// are those of a container whose turn has not come.
    fn cannot_start(&self) -> bool {
        let waiting = self.state.waiting.as_ref().map(|waiting| &*waiting.reason);
        waiting.is_some_and(|reason| !matches!(reason, "" | "ContainerCreating" | "PodInitializing"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTerminated {
    #[serde(rename = "containerID", default)]
    container_id: String,
    finished_at: Option<Time>,
}

impl WireStatus {
    /// Since when its sandbox is there, and with that its addresses; where the kubelet does not tell, since it has taken the pod on.
    fn since(&self) -> Option<u64> {
        let is_ready =
            |condition: &&WireCondition| condition.kind == "PodReadyToStartContainers" && condition.status == "True";
        let ready = self.conditions.iter().find(is_ready).and_then(|ready| ready.last_transition_time.as_ref());
        unix_seconds(ready.or(self.start_time.as_ref())?)
    }

    fn ended(&self) -> Option<u64> {
        let ends = self.container_statuses.iter().filter_map(|status| status.state.terminated.as_ref());
        ends.filter_map(|end| unix_seconds(end.finished_at.as_ref()?)).max()
    }
}

fn unix_seconds(time: &Time) -> Option<u64> {
    time.0.as_second().try_into().ok()
}

impl From<Wire> for PrunedPod {
    fn from(Wire { metadata, spec, status }: Wire) -> Self {
        let WireMeta { name, namespace, uid, resource_version, annotations, owner_references } = metadata;
        let meta = ObjectMeta {
            name: Some(name.to_string()),
            namespace: Some(namespace.to_string()),
            uid: Some(uid.to_string()),
            resource_version,
            ..ObjectMeta::default()
        };
        let phase = one_of(&status.phase, &["Pending", "Running", "Succeeded", "Failed", "Unknown"]);
        let ended_unix_seconds = status.ended().filter(|_| matches!(phase, "Succeeded" | "Failed"));
        // The kubelet notes both when it looks: of a short one, the beginning after the end.
        let since_unix_seconds = status.since().map(|since| ended_unix_seconds.map_or(since, |ended| since.min(ended)));
        let sidecars_too = spec.init_containers.iter().chain(&spec.containers);
        let node_ports: Vec<_> = sidecars_too.flat_map(|container| container.node_ports(spec.host_network)).collect();
        let WireStatus {
            phase: _,
            qos_class,
            pod_ips,
            container_statuses,
            init_container_statuses,
            ephemeral_container_statuses,
            start_time: _,
            conditions: _,
        } = status;
        let cgroup_uid = annotations.hash.filter(|_| annotations.mirror.is_some()).unwrap_or_else(|| Arc::clone(&uid));
        let statuses = init_container_statuses.iter().chain(&container_statuses).chain(&ephemeral_container_statuses);
        let pod = Pod {
            cgroup_uid,
            namespace,
            name,
            owner: controller_of(owner_references).filter(|owner| &*owner.kind != "Node"),
            cannot_start: statuses.clone().any(WireContainer::cannot_start),
            containers: statuses.flat_map(ids_of).collect(),
            resources: resources::of_pod(spec.containers, spec.init_containers, &spec.resources),
            host_network: spec.host_network,
            node: spec.node_name,
            since_unix_seconds,
            ended_unix_seconds,
            node_ports: if node_ports.is_empty() { Arc::default() } else { node_ports.into() },
            addresses: pod_ips.iter().filter_map(|address| address.ip.parse().ok()).collect(),
            qos_class: one_of(&qos_class, &["Guaranteed", "Burstable", "BestEffort"]),
            phase,
            uid,
        };
        Self { meta, pod }
    }
}

/// The owner that is the controller; there is at most one.
pub(super) fn controller_of(owners: Vec<WireOwner>) -> Option<Owner> {
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true))?;
    let WireOwner { api_version, kind, name, uid, controller: _ } = controller;
    Some(Owner { api_version, kind, name, uid })
}

/// The ids that a container has or had: the running one, the one before a restart.
fn ids_of(container: &WireContainer) -> impl Iterator<Item = (Box<str>, Arc<str>)> {
    let WireContainer { name, container_id, state, last_state } = container;
    let ended = [state, last_state].into_iter().filter_map(|state| Some(&state.terminated.as_ref()?.container_id));
    // `containerd://4f1c…`
    let mut ids: Vec<Box<str>> = std::iter::once(container_id)
        .chain(ended)
        .filter_map(|id| id.split_once("://"))
        .map(|(_runtime, id)| id.into())
        .collect();
    ids.dedup();
    ids.into_iter().map(|id| (id, Arc::clone(name)))
}

/// The known word that a text is.
fn one_of(text: &str, words: &[&'static str]) -> &'static str {
    words.iter().find(|word| **word == text).copied().unwrap_or("")
}
