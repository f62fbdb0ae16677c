//! The pods as the agent keeps them: the store, how it stands with the API server, and what that does not grant.

use crate::{
    kube::{Answer, Owner, PodEvent, PodStore, Pulse},
    ledger::{KubeFacts, PodFacts},
};
use std::sync::Arc;

/// The feature that needs the owners of pods.
const WORKLOADS: &str = "workloads";
/// The feature that needs the pods themselves.
const PODS: &str = "pods";

/// Where there is an API server.
#[derive(Debug)]
pub(super) struct Pods {
    pub(super) store: PodStore,
    pulse: Pulse,
    /// Why owners cannot be read.
    forbidden: Option<String>,
}

impl Pods {
    /// None are known yet.
    pub(super) fn new(pulse: Pulse) -> Self {
        Self { store: PodStore::default(), pulse, forbidden: None }
    }

    /// Follows an event. Returns the cgroup UIDs of pods of which it says anything new.
    pub(super) fn follow(&mut self, event: PodEvent, now_ns: u64) -> Vec<Arc<str>> {
        let store = &mut self.store;
        match event {
            PodEvent::Begin => store.begin_list(),
            PodEvent::Listed(pod) => store.listed(pod),
            PodEvent::Done => return store.end_list(now_ns),
            PodEvent::Changed(pod) => return store.changed(pod, now_ns).into_iter().collect(),
            PodEvent::Deleted(pod) => {
                let uid = Arc::clone(&pod.cgroup_uid);
                // What its last containers were called may be news.
                let changed = store.changed(pod, now_ns);
                store.deleted(&uid, now_ns);
                return changed.into_iter().collect();
            }
        }
        Vec::new()
    }

    /// The owners that are to be asked for.
    pub(super) fn unknown_owners(&self) -> Vec<(Arc<str>, Owner)> {
        self.store.unknown_owners()
    }

    /// What an owner stands for. Returns the cgroup UIDs of its pods.
    pub(super) fn owner_known(&mut self, Answer { owner, workload, forbidden }: Answer) -> Vec<Arc<str>> {
        if let Some(reason) = forbidden.as_ref().filter(|reason| self.forbidden.as_ref() != Some(reason)) {
            tracing::warn!("workloads: {reason}; docs/security.md lists the verbs");
        }
        self.forbidden = forbidden;
        self.store.owner_known(&owner, workload)
    }

    /// How it stands with the API server.
    pub(super) fn kube_facts(&self) -> KubeFacts {
        let features = vec![(PODS, self.pulse.complaint()), (WORKLOADS, self.forbidden.clone())];
        KubeFacts { up: self.pulse.is_up(), watch_restarts: self.pulse.failures(), features }
    }

    /// What the API tells of each pod.
    pub(super) fn facts(&mut self) -> &[PodFacts] {
        self.store.facts()
    }
}
