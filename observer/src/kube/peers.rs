//! Who has an address elsewhere in the cluster: asked for one address at a time, when somebody wants to know. Never a watch of other
//! nodes' pods, and never a list of all.

use super::{
    Pod,
    owners::{self, Answer},
    pod::PrunedPod,
    ranges::NodeRanges,
};
use crate::{causes, ledger::WorkloadNames};
use form_urlencoded::byte_serialize;
use futures::{StreamExt as _, stream};
use http::Request;
use kube::Client;
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same for what owns pods, all of them together.
const OWNER_PATIENCE: Duration = Duration::from_secs(1);
/// Questions for owners at the same time.
const OWNERS_AT_ONCE: usize = 4;
/// Owners whose workloads are remembered.
const MOST_OWNERS: usize = 1024;

/// Who may have an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The address.
    pub address: IpAddr,
    /// Who can have it.
    pub kinds: Kinds,
    /// A node of whose pods it can be one's: by the node's range, or since such a pod had it last.
    pub node: Option<Arc<str>>,
}

/// Who can have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// Pods, by the range that it is in.
    Pods,
    /// A service, by the range that it is in.
    Services,
    /// Either: which ranges there are is not known.
    Any,
}

/// What the API server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// What was asked.
    pub address: IpAddr,
    /// Who was asked for.
    pub kinds: Kinds,
    /// The pods that have it or had it and are not deleted yet; those of a node's network, if it is a node's.
    pub pods: Vec<Peer>,
    /// The service that has it.
    pub service: Option<ServicePeer>,
}

/// A pod, with its workload where that could be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The pod.
    pub pod: Pod,
    /// What it is one of.
    pub workload: Option<Arc<WorkloadNames>>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePeer {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Since when it is there.
    pub since_unix_seconds: Option<u64>,
}

/// Why the API server says nothing of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// What was asked for: `pods`, `services`.
    pub resource: &'static str,
    /// One line.
    pub reason: String,
    /// Whether it says nothing at all, so that there is no use in asking for something else.
    pub is_silent: bool,
}

/// Asks.
pub struct Peers {
    client: Client,
    workloads: Mutex<HashMap<Arc<str>, Arc<WorkloadNames>>>,
}

#[derive(Deserialize)]
struct WireList<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct WireObject {
    metadata: WireMeta,
    #[serde(default)]
    spec: WireSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    name: Arc<str>,
    #[serde(default)]
    namespace: Option<Arc<str>>,
    creation_timestamp: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    parent_ref: Option<WireParent>,
}

#[derive(Deserialize)]
struct WireParent {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    namespace: Arc<str>,
    name: Arc<str>,
}

impl WireMeta {
    fn since(&self) -> Option<u64> {
        self.creation_timestamp.as_ref()?.0.as_second().try_into().ok()
    }
}

impl Peers {
    pub(super) fn new(client: Client) -> Self {
        Self { client, workloads: Mutex::default() }
    }

    /// Asks who has an address.
    ///
    /// # Errors
    /// Why nobody can tell.
    pub async fn find(&self, question: &Question) -> Result<PeerAnswer, NoAnswer> {
        let asked = tokio::time::timeout(PATIENCE, self.ask(question)).await;
        let late = |_| NoAnswer {
            resource: if question.kinds == Kinds::Services { "services" } else { "pods" },
            reason: format!("the API server does not answer within {} s", PATIENCE.as_secs()),
            is_silent: true,
        };
        let mut answer = asked.map_err(late)??;
        let owners = stream::iter(&mut answer.pods).for_each_concurrent(OWNERS_AT_ONCE, async |peer| {
            peer.workload = self.workload(&peer.pod).await;
        });
        // Those of whom nobody has told by then have a name nevertheless.
        let _ = tokio::time::timeout(OWNER_PATIENCE, owners).await;
        Ok(answer)
    }

    async fn ask(&self, Question { address, kinds, node }: &Question) -> Result<PeerAnswer, NoAnswer> {
        let mut answer = PeerAnswer { address: *address, kinds: *kinds, pods: Vec::new(), service: None };
        if *kinds == Kinds::Services {
            answer.service = self.service(*address).await?;
            return Ok(answer);
        }
        let mut pods = self.pods(&format!("status.podIP={address}")).await?;
        // Only a pod's first address can be asked for.
        if pods.is_empty()
            && let Some(node) = node
        {
            pods = self.pods(&format!("spec.nodeName={node}")).await?;
            pods.retain(|found| found.pod.addresses.contains(address) && !found.pod.host_network);
        }
        answer.pods = pods.into_iter().map(|PrunedPod { pod, .. }| Peer { pod, workload: None }).collect();
        if answer.pods.is_empty() && *kinds == Kinds::Any {
            answer.service = self.service(*address).await?;
        }
        Ok(answer)
    }

    /// From the server's cache, by an index or by looking at all of them, but never from its database.
    async fn pods(&self, selector: &str) -> Result<Vec<PrunedPod>, NoAnswer> {
        let selector: String = byte_serialize(selector.as_bytes()).collect();
        let path = format!("/api/v1/pods?fieldSelector={selector}&resourceVersion=0");
        let list: Option<WireList<PrunedPod>> = self.get(&path, "list pods").await?;
        Ok(list.map(|list| list.items).unwrap_or_default())
    }

    async fn service(&self, address: IpAddr) -> Result<Option<ServicePeer>, NoAnswer> {
        // Kubernetes has an object for each cluster IP from 1.33 on, of both families.
        let path = format!("/apis/networking.k8s.io/v1/ipaddresses/{address}");
        if let Ok(Some(WireObject { metadata, spec })) = self.get::<WireObject>(&path, "get ipaddresses").await
            && let Some(parent) = spec.parent_ref.filter(|parent| parent.resource == "services")
        {
            let WireParent { namespace, name, .. } = parent;
            return Ok(Some(ServicePeer { namespace, name, since_unix_seconds: metadata.since() }));
        }
        let path = format!("/api/v1/services?fieldSelector=spec.clusterIP%3D{address}&resourceVersion=0");
        let list: Option<WireList<WireObject>> = self.get(&path, "list services").await?;
        Ok(list.and_then(|list| list.items.into_iter().next()).map(|found| ServicePeer {
            namespace: found.metadata.namespace.clone().unwrap_or_else(|| "default".into()),
            since_unix_seconds: found.metadata.since(),
            name: found.metadata.name,
        }))
    }

    async fn workload(&self, pod: &Pod) -> Option<Arc<WorkloadNames>> {
        let lock = || self.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(owner) = &pod.owner else {
            return Some(Arc::new(WorkloadNames { name: Arc::clone(&pod.name), kind: "pod".into() }));
        };
        if let Some(plain) = owners::plain(owner) {
            return Some(Arc::new(plain));
        }
        if let Some(known) = lock().get(&owner.uid) {
            return Some(Arc::clone(known));
        }
        let asked = owners::find(self.client.clone(), Arc::clone(&pod.namespace), owner.clone());
        let Answer { workload, forbidden, .. } = asked.await;
        let (workload, mut known) = (Arc::new(workload), lock());
        // It may be granted later.
        if forbidden {
            return Some(workload);
        }
        if known.len() >= MOST_OWNERS {
            known.clear();
        }
        known.insert(Arc::clone(&owner.uid), Arc::clone(&workload));
        Some(workload)
    }

    /// `None`: there is no such thing.
    async fn get<T: DeserializeOwned + 'static>(&self, path: &str, what: &'static str) -> Result<Option<T>, NoAnswer> {
        // `list pods`
        let resource = what.split_once(' ').map_or(what, |(_, resource)| resource);
        let no_answer = |reason: String, is_silent| NoAnswer { resource, reason, is_silent };
        let request = Request::get(path).body(Vec::new());
        let request = request.map_err(|error| no_answer(format!("cannot {what}: {error}"), false))?;
        match self.client.request(request).await {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(no_answer(format!("the service account may not {what}: grant it, see docs/security.md"), false))
            }
            Err(error) => {
                let answers =
                    matches!(error, kube::Error::Api(_) | kube::Error::SerdeError(_) | kube::Error::FromUtf8(_));
                Err(no_answer(format!("cannot {what}: {}", causes::in_one_line(&error)), !answers))
            }
        }
    }
}

/// The node in whose range of pods an address is.
pub fn node_of(address: IpAddr, nodes: &[NodeRanges]) -> Option<&Arc<str>> {
    nodes.iter().find(|node| node.pods.iter().any(|range| range.contains(&address))).map(|node| &node.name)
}
