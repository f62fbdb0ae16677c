//! From a pod's owner to its workload: a ReplicaSet stands for its Deployment, a Job for its CronJob, by their own owner
//! references, read with one GET for each. Never by a name's pattern.

use super::{
    Owner,
    pod::{WireOwner, controller_of},
};
use crate::ledger::WorkloadNames;
use http::Request;
use kube::Client;
use serde::Deserialize;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// Questions at the same time; the rest waits, so that a node full of new pods is no burst on the API server.
const AT_ONCE: usize = 4;
/// How often a question is asked again when the server does not answer.
const TRIES: u32 = 6;
/// The pause before the second try; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks for workloads.
#[derive(Default)]
pub struct Owners {
    client: Option<Client>,
    asked: HashSet<Arc<str>>,
    waiting: Vec<(Arc<str>, Owner)>,
    running: JoinSet<Answer>,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The owner's UID.
    pub owner: Arc<str>,
    /// What it stands for; itself, when its own owner could not be found out.
    pub workload: WorkloadNames,
    /// What was asked for: `replicasets`.
    pub resource: &'static str,
    /// True when it may not be read.
    pub forbidden: bool,
}

/// A workload that can be told without asking: kinds that are their pods' workload themselves.
pub(super) fn plain(owner: &Owner) -> Option<WorkloadNames> {
    resource_of(owner).is_none().then(|| itself(owner))
}

/// Where an owner that may have an owner of its own is read.
fn resource_of(owner: &Owner) -> Option<(&'static str, &'static str)> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, &*owner.kind) {
        ("apps", "ReplicaSet") => Some(("apps/v1", "replicasets")),
        ("batch", "Job") => Some(("batch/v1", "jobs")),
        _ => None,
    }
}

fn itself(owner: &Owner) -> WorkloadNames {
    WorkloadNames { name: Arc::clone(&owner.name), kind: owner.kind.to_ascii_lowercase().into() }
}

impl Owners {
    /// Asks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client: Some(client), ..Self::default() }
    }

    /// Asks for each of these owners that has not been asked for yet.
    pub fn ask(&mut self, owners: Vec<(Arc<str>, Owner)>) {
        for (namespace, owner) in owners {
            if self.asked.insert(Arc::clone(&owner.uid)) {
                self.waiting.push((namespace, owner));
            }
        }
        self.start();
    }

    /// The next answer; never, while nothing was asked.
    pub async fn next(&mut self) -> Answer {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => {
                    self.asked.remove(&answer.owner);
                    self.start();
                    return answer;
                }
                // A question that panicked is not repeated; the pod keeps its UID.
                Some(Err(error)) => tracing::error!(%error, "a question for a pod's owner ended unexpectedly"),
                None => std::future::pending().await,
            }
        }
    }

    /// Whether answers are still to come.
    pub fn are_asked_for(&self) -> bool {
        !(self.waiting.is_empty() && self.running.is_empty())
    }

    fn start(&mut self) {
        while self.running.len() < AT_ONCE
            && let (Some(client), Some((namespace, owner))) = (&self.client, self.waiting.pop())
        {
            self.running.spawn(find(client.clone(), namespace, owner));
        }
    }
}

#[derive(Deserialize)]
struct Wire {
    metadata: WireMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    owner_references: Vec<WireOwner>,
}

pub(super) async fn find(client: Client, namespace: Arc<str>, owner: Owner) -> Answer {
    let (version, resource) = resource_of(&owner).unwrap_or_default();
    let answer = |workload, forbidden| Answer { owner: Arc::clone(&owner.uid), workload, resource, forbidden };
    if resource.is_empty() {
        return answer(itself(&owner), false);
    }
    let path = format!("/apis/{version}/namespaces/{namespace}/{resource}/{}", owner.name);
    let mut pause = PAUSE;
    for attempt in 1..=TRIES {
        match read(&client, &path).await {
            // Another of the same name would have other owners.
            Ok(found) if found.metadata.uid == *owner.uid => {
                let above = controller_of(found.metadata.owner_references);
                return answer(above.as_ref().map_or_else(|| itself(&owner), itself), false);
            }
            Ok(_) => return answer(itself(&owner), false),
            Err(kube::Error::Api(status)) if status.code == 404 => return answer(itself(&owner), false),
            Err(kube::Error::Api(status)) if status.code == 403 => return answer(itself(&owner), true),
            Err(error) if attempt == TRIES => {
                tracing::warn!(owner = %owner.name, kind = %owner.kind, %namespace, %error, "what owns it cannot be found out; it counts as the workload");
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
    answer(itself(&owner), false)
}

/// Reads the metadata alone: of a Job or ReplicaSet that is a tenth.
async fn read(client: &Client, path: &str) -> Result<Wire, kube::Error> {
    let request = Request::get(path)
        .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}
