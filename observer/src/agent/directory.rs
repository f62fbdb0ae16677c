//! What things are called: the cgroup tree and the pods together, as the ledger asks for them.

use crate::{
    cgroup::{PodRef, Tree},
    kube::PodStore,
    ledger::{Cgroup, InPod, Names, PodNames},
};
use observer_ebpf::causes::Membership;
use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
};

/// What a cgroup is part of by its path: numbers for the kernel programs, which compare them. Of 64 bits each, so that two of one node
/// are never the same.
pub(super) fn membership_of(path: &str) -> Membership {
    match PodRef::of_path(path) {
        Some(pod) => Membership { pod: number(&pod.uid), container: number(&(&pod.uid, &pod.container)) },
        None => Membership { pod: 0, container: number(&path) },
    }
}

/// Never 0.
fn number(name: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish().max(1)
}

/// The name of a pod's sandbox, which the API does not list. No container's, since those have no capitals.
const SANDBOX: &str = "POD";

/// The tree, and the pods where there is an API server.
#[derive(Clone, Copy)]
pub(super) struct Directory<'a> {
    pub(super) tree: &'a Tree,
    pub(super) pods: Option<&'a PodStore>,
}

impl Names for Directory<'_> {
    fn cgroup(&self, id: u64) -> Option<Cgroup> {
        let found = self.tree.get(id)?;
        let place = || {
            let PodRef { uid, container } = PodRef::of_path(&found.path)?;
            Some(InPod { uid: uid.into(), container: container.map(Arc::from) })
        };
        let pod = self.pods.and_then(|_| place());
        Some(Cgroup { path: Arc::clone(&found.path), pod, gone_at_ns: found.gone_at_ns })
    }

    fn pod(&self, uid: &str) -> Option<Arc<PodNames>> {
        self.pods?.names(uid)
    }

    fn membership(&self, cgroup: u64) -> Option<Membership> {
        self.tree.get(cgroup).map(|found| membership_of(&found.path))
    }

    fn container(&self, uid: &str, id: &str) -> Option<Arc<str>> {
        let name = self.pods?.pod(uid)?.container(id).cloned();
        name.or_else(|| self.is_sandbox(uid, id).then(|| SANDBOX.into()))
    }
}

impl Directory<'_> {
    /// Whether a container that has no name is the pod's sandbox: it is the pod's first cgroup (ids only grow), and the
    /// API, which tells of all containers at once, knows a later one, or says that none can be made. A sandbox that takes the
    /// place of another comes when all that was there before has gone.
    fn is_sandbox(&self, uid: &str, id: &str) -> bool {
        let Some(pod) = self.pods.and_then(|pods| pods.pod(uid)) else { return false };
        if pod.containers.is_empty() && pod.cannot_start {
            return true;
        }
        let (mut first, mut living) = (HashMap::<&str, u64>::new(), HashSet::new());
        for (cgroup, known) in self.tree.known() {
            if let Some(PodRef { uid: theirs, container: Some(container) }) = PodRef::of_path(&known.path)
                && theirs == uid
            {
                let at = first.entry(container).or_insert(cgroup);
                *at = cgroup.min(*at);
                if known.gone_at_ns.is_none() {
                    living.insert(container);
                }
            }
        }
        if living.contains(id) {
            first.retain(|container, _| living.contains(container));
        }
        let Some(own) = first.get(id) else { return false };
        let mut others = first.iter().filter(|(container, _)| **container != id);
        others.clone().all(|(_, cgroup)| cgroup > own)
            && others.any(|(container, _)| pod.container(container).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::Pod;
    use std::path::PathBuf;

    const UID: &str = "0a1b2c3d-0000-1111-2222-333344445555";

    fn id(letter: &str) -> String {
        letter.repeat(64)
    }

    fn pod(containers: &[(&str, &str)]) -> Pod {
        Pod {
            uid: UID.into(),
            cgroup_uid: UID.into(),
            namespace: "shop".into(),
            name: "web-1".into(),
            owner: None,
            cannot_start: false,
            containers: containers.iter().map(|(letter, name)| (id(letter).into(), Arc::from(*name))).collect(),
            resources: Arc::new([]),
            host_network: false,
            node: None,
            addresses: Vec::new(),
            since_unix_seconds: None,
            ended_unix_seconds: None,
            node_ports: Arc::new([]),
            qos_class: "BestEffort",
            phase: "Running",
        }
    }

    fn node(cgroups: &[(u64, &str)], containers: &[(&str, &str)]) -> (Tree, PodStore) {
        let mut tree = Tree::new(PathBuf::from("/nonexistent"));
        for (cgroup, letter) in cgroups {
            tree.made(*cgroup, format!("/kubepods/besteffort/pod{UID}/{}", id(letter)).as_bytes());
        }
        let mut pods = PodStore::default();
        pods.changed(pod(containers), 1);
        (tree, pods)
    }

    fn name(tree: &Tree, pods: &PodStore, letter: &str) -> Option<String> {
        let directory = Directory { tree, pods: Some(pods) };
        directory.container(UID, &id(letter)).map(|name| name.to_string())
    }

    #[test]
    fn the_first_cgroup_of_a_pod_is_its_sandbox_once_the_api_knows_a_later_one() {
        let (tree, pods) = node(&[(10, "a"), (11, "b")], &[]);
        assert_eq!(name(&tree, &pods, "a"), None, "it might be a container of which the API has not told yet");
        let (tree, pods) = node(&[(10, "a"), (11, "b")], &[("b", "app")]);
        assert_eq!(name(&tree, &pods, "a").as_deref(), Some("POD"));
        assert_eq!(name(&tree, &pods, "b").as_deref(), Some("app"));
    }

    #[test]
    fn a_pod_that_cannot_start_a_container_has_nothing_but_its_sandbox() {
        let (tree, mut pods) = node(&[(10, "a")], &[]);
        assert_eq!(name(&tree, &pods, "a"), None);
        pods.changed(Pod { cannot_start: true, ..pod(&[]) }, 2);
        assert_eq!(name(&tree, &pods, "a").as_deref(), Some("POD"));
        // One of its containers runs, and another one cannot.
        let (tree, mut pods) = node(&[(10, "a"), (11, "b"), (12, "c")], &[]);
        pods.changed(Pod { cannot_start: true, ..pod(&[("b", "app")]) }, 2);
        assert_eq!((name(&tree, &pods, "a").as_deref(), name(&tree, &pods, "c")), (Some("POD"), None));
    }

    #[test]
    fn a_sandbox_that_takes_the_place_of_another_is_one_too() {
        let (mut tree, mut pods) = node(&[(10, "a"), (11, "b")], &[("b", "app")]);
        tree.removed(10, 5);
        tree.removed(11, 5);
        tree.made(12, format!("/kubepods/besteffort/pod{UID}/{}", id("c")).as_bytes());
        assert_eq!(name(&tree, &pods, "c"), None, "it might be a container");
        tree.made(13, format!("/kubepods/besteffort/pod{UID}/{}", id("d")).as_bytes());
        pods.changed(pod(&[("b", "app"), ("d", "app")]), 6);
        assert_eq!(name(&tree, &pods, "c").as_deref(), Some("POD"));
        assert_eq!(name(&tree, &pods, "a").as_deref(), Some("POD"), "and so was the former one");
    }

    #[test]
    fn a_container_that_restarts_is_not_taken_for_the_sandbox() {
        let (tree, pods) = node(&[(10, "a"), (11, "b"), (12, "c")], &[("b", "app")]);
        assert_eq!(name(&tree, &pods, "c"), None);
        // A runtime without sandboxes: nothing was there before the container.
        let (tree, pods) = node(&[(11, "b"), (12, "c")], &[("b", "app")]);
        assert_eq!(name(&tree, &pods, "c"), None);
    }

    #[test]
    fn without_an_api_server_a_pods_cgroup_is_a_cgroup() {
        let (tree, pods) = node(&[(10, "a")], &[]);
        assert_eq!(Directory { tree: &tree, pods: None }.cgroup(10).unwrap().pod, None);
        let place = Directory { tree: &tree, pods: Some(&pods) }.cgroup(10).unwrap().pod.unwrap();
        assert_eq!((&*place.uid, place.container.as_deref()), (UID, Some(&*id("a"))));
    }
}
