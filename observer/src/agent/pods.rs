//! The pods as the agent keeps them: the store, how it stands with the API server, and what that does not grant.

use crate::{
    cgroup::{PodRef, Tree},
    kube::{Answer, ClusterRanges, Kinds, NoAnswer, Owner, PeerAnswer, PodEvent, PodStore, Pulse},
    ledger::{KubeFacts, PodFacts},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The feature that needs the owners of pods.
const WORKLOADS: &str = "workloads";
/// How long a first pod may be here before the API lists it.
const ELSEWHERE_NS: u64 = 30_000_000_000;
/// What it means when it never does.
const ELSEWHERE: &str =
    "the API server lists no pod for this node, and pods run here: --node-name is not what the cluster calls this node";
/// The feature that needs the address ranges of nodes and services.
const RANGES: &str = "address_ranges";
/// The feature that needs whoever can be asked for an address.
const FAR_ENDS: &str = "far_ends";
/// The feature that needs the pods themselves.
const PODS: &str = "pods";

/// Where there is an API server.
#[derive(Debug)]
pub(super) struct Pods {
    pub(super) store: PodStore,
    pulse: Pulse,
    /// Since when the API lists no pod for this node although there are some, if so.
    elsewhere_since: Option<u64>,
    /// True once that has lasted, and was told.
    is_elsewhere: bool,
    /// Owners that may not be read.
    forbidden: BTreeSet<&'static str>,
    /// The cluster's addresses, as far as they are known.
    ranges: ClusterRanges,
    /// What of them is not, and why.
    ranges_missing: Option<String>,
    /// Of what nobody could tell whose an address is when that was last asked, and why.
    far_ends_missing: BTreeMap<&'static str, String>,
}

impl Pods {
    /// None are known yet.
    pub(super) fn new(pulse: Pulse) -> Self {
        Self {
            store: PodStore::default(),
            pulse,
            elsewhere_since: None,
            is_elsewhere: false,
            forbidden: BTreeSet::new(),
            ranges: ClusterRanges::default(),
            ranges_missing: Some("the API server has not been asked yet".into()),
            far_ends_missing: BTreeMap::new(),
        }
    }

    /// What the API server tells of the cluster's addresses.
    pub(super) fn ranges_told(&mut self, ranges: ClusterRanges, missing: Option<String>) {
        match &missing {
            Some(what) if self.ranges_missing != missing => tracing::warn!("scopes: {what}"),
            None if self.ranges_missing.is_some() => tracing::info!("scopes: the cluster's address ranges are known"),
            _ => {}
        }
        (self.ranges, self.ranges_missing) = (ranges, missing);
    }

    /// Somebody was asked for an address.
    pub(super) fn far_ends_told(&mut self, answer: &Result<PeerAnswer, NoAnswer>) {
        let before = self.far_ends_missing();
        match answer {
            // Whoever tells of the one says nothing of the other.
            Ok(PeerAnswer { kinds, .. }) => self.far_ends_missing.retain(|resource, _| match kinds {
                Kinds::Pods => *resource != "pods",
                Kinds::Services => *resource != "services",
                Kinds::Any => false,
            }),
            // Of a server that says nothing at all, the watch complains, once.
            Err(NoAnswer { is_silent: true, reason, .. }) => tracing::debug!(reason, "a far end has no name"),
            Err(NoAnswer { resource, reason, .. }) => _ = self.far_ends_missing.insert(resource, reason.clone()),
        }
        match self.far_ends_missing() {
            Some(reason) if before.as_ref() != Some(&reason) => tracing::warn!("far ends have no names: {reason}"),
            None if before.is_some() => tracing::info!("far ends have names again"),
            _ => {}
        }
    }

    fn far_ends_missing(&self) -> Option<String> {
        let all: Vec<_> = self.far_ends_missing.values().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Whether it is not known which addresses are the cluster's.
    pub(super) fn ranges_are_missing(&self) -> bool {
        self.ranges_missing.is_some()
    }

    /// The cluster's addresses.
    pub(super) fn ranges(&self) -> &ClusterRanges {
        &self.ranges
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

    /// Compares the list with what runs here: an agent that was given another node's name gets an answer, and no names.
    pub(super) fn look_around(&mut self, tree: &Tree, now_ns: u64) {
        let elsewhere = self.pulse.is_up()
            && self.store.is_empty()
            && tree.known().any(|(_, cgroup)| cgroup.gone_at_ns.is_none() && PodRef::of_path(&cgroup.path).is_some());
        self.elsewhere_since = elsewhere.then(|| self.elsewhere_since.unwrap_or(now_ns));
        let lasts = self.elsewhere_since.is_some_and(|since| now_ns.saturating_sub(since) >= ELSEWHERE_NS);
        if lasts && !self.is_elsewhere {
            tracing::warn!("{ELSEWHERE}");
        }
        self.is_elsewhere = lasts;
    }

    /// How it stands with the API server.
    pub(super) fn kube_facts(&self) -> KubeFacts {
        let silence = self.pulse.silence();
        let elsewhere = || self.is_elsewhere.then(|| ELSEWHERE.to_owned());
        let pods = self.pulse.complaint().or_else(|| silence.clone()).or_else(elsewhere);
        let features = vec![
            (PODS, pods),
            (WORKLOADS, self.degraded().or_else(|| silence.clone())),
            (RANGES, self.ranges_missing.clone()),
            (FAR_ENDS, self.far_ends_missing().or(silence)),
        ];
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
    use crate::{
        kube::{Ailment, Patience},
        ledger::WorkloadNames,
    };

    fn reason(pods: &Pods, feature: &str) -> Option<String> {
        pods.kube_facts().features.into_iter().find(|(name, _)| *name == feature).unwrap().1
    }

    #[test]
    fn a_server_that_lists_no_pod_where_pods_run_is_asked_for_another_node() {
        let pulse = Pulse::new(Patience::default());
        let mut pods = Pods::new(pulse.clone());
        let mut tree = Tree::new("/nonexistent".into());
        tree.made(7, format!("/kubepods/pod0a1b2c3d-0000-1111-2222-333344445555/{}", "a".repeat(64)).as_bytes());
        pods.look_around(&tree, 1);
        pulse.well();
        for (now_ns, told) in [(2, false), (ELSEWHERE_NS + 1, false), (ELSEWHERE_NS + 2, true)] {
            pods.look_around(&tree, now_ns);
            assert_eq!(reason(&pods, PODS).is_some_and(|reason| reason.contains("--node-name")), told, "{now_ns}");
            assert_eq!(reason(&pods, WORKLOADS), None);
        }
        pods.look_around(&Tree::new("/nonexistent".into()), 2 * ELSEWHERE_NS);
        assert_eq!(reason(&pods, PODS), None, "no pod runs here");
    }

    #[test]
    fn a_server_that_says_nothing_grants_nothing_and_one_that_refuses_pods_may_grant_the_rest() {
        let pulse = Pulse::new(Patience::default());
        let pods = Pods::new(pulse.clone());
        let both = |pods: &Pods| [PODS, WORKLOADS].map(|feature| reason(pods, feature).is_some());
        assert_eq!(both(&pods), [true, true], "nobody has answered yet");
        pulse.failed(Ailment::Unreachable, "refused");
        assert_eq!(both(&pods), [true, true]);
        for (code, workloads) in [(403, false), (410, false), (401, true), (503, true)] {
            pulse.failed(Ailment::Refused(code), "no");
            assert_eq!(both(&pods), [true, workloads], "{code}");
        }
        pulse.well();
        assert_eq!(both(&pods), [false, false]);
    }

    #[test]
    fn what_may_be_read_of_one_resource_does_not_heal_the_other() {
        let pulse = Pulse::new(Patience::default());
        pulse.well();
        let mut pods = Pods::new(pulse);
        let workload = || WorkloadNames { name: "x".into(), kind: "job".into() };
        let answer = |resource, forbidden| Answer { owner: "o".into(), workload: workload(), resource, forbidden };
        let reason = |pods: &Pods| reason(pods, WORKLOADS);
        pods.owner_known(answer("replicasets", true));
        pods.owner_known(answer("jobs", false));
        assert!(reason(&pods).unwrap().contains("may not get replicasets:"));
        pods.owner_known(answer("jobs", true));
        assert!(reason(&pods).unwrap().contains("jobs and replicasets"));
        pods.owner_known(answer("replicasets", false));
        pods.owner_known(answer("jobs", false));
        assert_eq!(reason(&pods), None);
    }

    #[test]
    fn an_answer_heals_what_it_was_asked_for_and_nothing_else() {
        let pulse = Pulse::new(Patience::default());
        let mut pods = Pods::new(pulse.clone());
        assert!(reason(&pods, FAR_ENDS).is_some(), "the server has not answered yet");
        pulse.well();
        let refused = |resource| NoAnswer { resource, reason: format!("may not list {resource}"), is_silent: false };
        // Of whom nobody is found is an answer, too.
        let nobody = |kinds| PeerAnswer {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            kinds,
            pods: Vec::new(),
            service: None,
        };
        pods.far_ends_told(&Err(NoAnswer { is_silent: true, ..refused("pods") }));
        assert_eq!(reason(&pods, FAR_ENDS), None, "that is the watch's complaint");
        pods.far_ends_told(&Err(refused("services")));
        pods.far_ends_told(&Err(refused("pods")));
        assert_eq!(reason(&pods, FAR_ENDS).unwrap(), "may not list pods; may not list services");
        pods.far_ends_told(&Ok(nobody(Kinds::Pods)));
        assert_eq!(reason(&pods, FAR_ENDS).unwrap(), "may not list services");
        pods.far_ends_told(&Ok(nobody(Kinds::Services)));
        assert_eq!(reason(&pods, FAR_ENDS), None);
    }
}
