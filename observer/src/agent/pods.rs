//! The pods as the agent keeps them: the store, how it stands with the API server, and what that does not grant.

use crate::{
    kube::{Answer, Owner, PodEvent, PodStore, Pulse},
    ledger::{KubeFacts, PodFacts},
};
use std::{collections::BTreeSet, sync::Arc};

/// The feature that needs the owners of pods.
const WORKLOADS: &str = "workloads";
/// The feature that needs the pods themselves.
const PODS: &str = "pods";

/// Where there is an API server.
#[derive(Debug)]
pub(super) struct Pods {
    pub(super) store: PodStore,
    pulse: Pulse,
    /// Owners that may not be read.
    forbidden: BTreeSet<&'static str>,
}

impl Pods {
    /// None are known yet.
    pub(super) fn new(pulse: Pulse) -> Self {
        Self { store: PodStore::default(), pulse, forbidden: BTreeSet::new() }
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
    pub(super) fn owner_known(&mut self, Answer { owner, workload, resource, forbidden }: Answer) -> Vec<Arc<str>> {
        // What was answered about one resource says nothing of the others.
        let news = if forbidden { self.forbidden.insert(resource) } else { self.forbidden.remove(resource) };
        if news && forbidden {
            tracing::warn!("workloads: {}; docs/security.md lists the verbs", may_not_get(resource));
        } else if news {
            tracing::info!("workloads: {resource} can be read now");
        }
        self.store.owner_known(&owner, workload)
    }

    /// How it stands with the API server.
    pub(super) fn kube_facts(&self) -> KubeFacts {
        let features = vec![(PODS, self.pulse.complaint()), (WORKLOADS, self.degraded())];
        KubeFacts { up: self.pulse.is_up(), watch_restarts: self.pulse.failures(), features }
    }

    /// What is missing for workloads.
    fn degraded(&self) -> Option<String> {
        let all: Vec<_> = self.forbidden.iter().copied().collect();
        (!all.is_empty()).then(|| may_not_get(&all.join(" and ")))
    }

    /// What the API tells of each pod.
    pub(super) fn facts(&mut self) -> &[PodFacts] {
        self.store.facts()
    }
}

fn may_not_get(resources: &str) -> String {
    format!("the service account may not get {resources}: pods go by their own owner")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kube::Patience, ledger::WorkloadNames};

    #[test]
    fn what_may_be_read_of_one_resource_does_not_heal_the_other() {
        let mut pods = Pods::new(Pulse::new(Patience::default()));
        let workload = || WorkloadNames { name: "x".into(), kind: "job".into() };
        let answer = |resource, forbidden| Answer { owner: "o".into(), workload: workload(), resource, forbidden };
        let reason =
            |pods: &Pods| pods.kube_facts().features.into_iter().find(|(name, _)| *name == WORKLOADS).unwrap().1;
        pods.owner_known(answer("replicasets", true));
        pods.owner_known(answer("jobs", false));
        assert!(reason(&pods).unwrap().contains("may not get replicasets:"));
        pods.owner_known(answer("jobs", true));
        assert!(reason(&pods).unwrap().contains("jobs and replicasets"));
        pods.owner_known(answer("replicasets", false));
        pods.owner_known(answer("jobs", false));
        assert_eq!(reason(&pods), None);
    }
}
