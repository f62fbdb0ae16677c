//! The pods of this node, by the UID of their cgroups. A new list is gathered aside and takes the place of the old one when
//! it is complete, so that nobody is nameless meanwhile.

use super::{Owner, Pod};
use crate::ledger::{PodFacts, PodNames, WorkloadNames};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// How long a pod that was deleted, or has ended, is remembered: what its cgroups did last may still come.
const KEEP_NS: u64 = 120_000_000_000;

/// Pods by the UID in their cgroups' paths.
#[derive(Debug, Default)]
pub struct PodStore {
    pods: HashMap<Arc<str>, Entry>,
    /// The list that is being gathered.
    listed: Option<HashMap<Arc<str>, Pod>>,
    /// Workloads by the UID of a pod's owner, as far as they are known.
    workloads: HashMap<Arc<str>, Arc<WorkloadNames>>,
    facts: Vec<PodFacts>,
    facts_are_old: bool,
}

#[derive(Debug)]
struct Entry {
    pod: Pod,
    /// Complete once its workload is known.
    names: Option<Arc<PodNames>>,
    /// When it was found to be deleted or to have ended.
    gone_at_ns: Option<u64>,
}

impl PodStore {
    /// What a pod is called, by the UID of its cgroup.
    pub fn names(&self, uid: &str) -> Option<Arc<PodNames>> {
        self.pods.get(uid)?.names.clone()
    }

    /// A pod by the UID of its cgroup.
    pub fn pod(&self, uid: &str) -> Option<&Pod> {
        self.pods.get(uid).map(|entry| &entry.pod)
    }

    /// The UIDs of the cgroups of all pods that are known.
    pub fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pods.keys()
    }

    /// Whether a pod is known and neither deleted nor finished.
    pub fn is_there(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|entry| entry.gone_at_ns.is_none())
    }

    /// The addresses of pods that are there: those of the node's own network are the node's, and those of a pod that has ended may be
    /// another's.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let there = self.pods.values().filter(|entry| entry.gone_at_ns.is_none() && !entry.pod.host_network);
        there.flat_map(|entry| entry.pod.addresses.iter().copied())
    }

    /// Pods that are known.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// A list begins.
    pub fn begin_list(&mut self) {
        self.listed = Some(HashMap::new());
    }

    /// A pod of the list.
    pub fn listed(&mut self, pod: Pod) {
        self.listed.get_or_insert_default().insert(Arc::clone(&pod.cgroup_uid), pod);
    }

    /// The list is complete: whoever is not in it has been deleted. Returns the cgroup UIDs of pods that are new or changed.
    pub fn end_list(&mut self, now_ns: u64) -> Vec<Arc<str>> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        for (uid, entry) in &mut self.pods {
            if !listed.contains_key(uid) {
                entry.gone_at_ns.get_or_insert(now_ns);
                self.facts_are_old = true;
            }
        }
        listed.into_values().filter_map(|pod| self.changed(pod, now_ns)).collect()
    }

    /// A pod was made or has changed. Returns its cgroup UID if that says anything new.
    pub fn changed(&mut self, pod: Pod, now_ns: u64) -> Option<Arc<str>> {
        let uid = Arc::clone(&pod.cgroup_uid);
        let before = self.pods.get(&uid);
        let gone_at_ns =
            if pod.has_finished() { Some(before.and_then(|entry| entry.gone_at_ns).unwrap_or(now_ns)) } else { None };
        if before.is_some_and(|entry| entry.pod == pod && entry.gone_at_ns == gone_at_ns) {
            return None;
        }
        let names = before.filter(|entry| entry.pod.uid == pod.uid).and_then(|entry| entry.names.clone());
        let names = names.or_else(|| self.name(&pod));
        self.pods.insert(Arc::clone(&uid), Entry { pod, names, gone_at_ns });
        self.facts_are_old = true;
        Some(uid)
    }

    /// A pod was deleted.
    pub fn deleted(&mut self, cgroup_uid: &str, now_ns: u64) {
        if let Some(entry) = self.pods.get_mut(cgroup_uid) {
            entry.gone_at_ns.get_or_insert(now_ns);
            self.facts_are_old = true;
        }
    }

    /// Owners of which nobody has said yet what workload they stand for, once each.
    pub fn unknown_owners(&self) -> Vec<(Arc<str>, Owner)> {
        let mut asked = HashSet::new();
        let nameless = self.pods.values().filter(|entry| entry.names.is_none());
        nameless
            .filter_map(|entry| Some((Arc::clone(&entry.pod.namespace), entry.pod.owner.clone()?)))
            .filter(|(_, owner)| asked.insert(Arc::clone(&owner.uid)))
            .collect()
    }

    /// What workload an owner stands for. Returns the cgroup UIDs of its pods.
    pub fn owner_known(&mut self, owner: &Arc<str>, workload: WorkloadNames) -> Vec<Arc<str>> {
        self.workloads.insert(Arc::clone(owner), Arc::new(workload));
        let is_its = |entry: &Entry| entry.pod.owner.as_ref().is_some_and(|known| known.uid == *owner);
        let nameless = self.pods.iter().filter(|(_, entry)| entry.names.is_none() && is_its(entry));
        let uids: Vec<Arc<str>> = nameless.map(|(uid, _)| Arc::clone(uid)).collect();
        for uid in &uids {
            let names = self.pods.get(uid).and_then(|entry| self.name(&entry.pod));
            if let Some(entry) = self.pods.get_mut(uid) {
                entry.names = names;
            }
        }
        self.facts_are_old = true;
        uids
    }

    /// Forgets pods that have been gone for two minutes, and owners that no pod has any more.
    pub fn expire(&mut self, now_ns: u64) {
        let before = self.pods.len();
        self.pods.retain(|_, entry| entry.gone_at_ns.is_none_or(|gone| now_ns.saturating_sub(gone) < KEEP_NS));
        if self.pods.len() == before {
            return;
        }
        self.facts_are_old = true;
        let owners: HashSet<&str> =
            self.pods.values().filter_map(|entry| Some(&*entry.pod.owner.as_ref()?.uid)).collect();
        self.workloads.retain(|uid, _| owners.contains(&**uid));
    }

    /// What the API tells of each pod that has names and is not gone, in the order of their names.
    pub fn facts(&mut self) -> &[PodFacts] {
        if std::mem::take(&mut self.facts_are_old) {
            self.facts.clear();
            self.facts.extend(self.pods.values().filter_map(Entry::facts));
            self.facts.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        }
        &self.facts
    }

    fn name(&self, pod: &Pod) -> Option<Arc<PodNames>> {
        let workload = match &pod.owner {
            None => Arc::new(WorkloadNames { name: Arc::clone(&pod.name), kind: "pod".into() }),
            Some(owner) => match super::owners::plain(owner) {
                Some(workload) => Arc::new(workload),
                None => Arc::clone(self.workloads.get(&owner.uid)?),
            },
        };
        Some(Arc::new(PodNames { namespace: Arc::clone(&pod.namespace), pod: Arc::clone(&pod.name), workload }))
    }
}

impl Entry {
    fn facts(&self) -> Option<PodFacts> {
        let Pod { uid, owner, resources, host_network, qos_class, phase, .. } = &self.pod;
        // A pod that was deleted while it ran has no phase any more that would be true.
        if self.gone_at_ns.is_some() && !self.pod.has_finished() {
            return None;
        }
        let of_owner =
            |text: fn(&Owner) -> &Arc<str>| owner.as_ref().map_or_else(|| "".into(), |owner| Arc::clone(text(owner)));
        Some(PodFacts {
            names: self.names.clone()?,
            uid: Arc::clone(uid),
            host_network: *host_network,
            qos_class,
            phase,
            created_by_kind: of_owner(|owner| &owner.kind),
            created_by_name: of_owner(|owner| &owner.name),
            resources: Arc::clone(resources),
        })
    }
}
