//! Whose books are whose: what decides the labels of a series.

use observer_ebpf::causes::Membership;
use std::sync::Arc;

/// Whose books these are. Entities with equal identities are one: their series could not be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// What could not be booked on anybody: `cgroup="unattributed"`, which no path can be.
    Unattributed,
    /// A cgroup that runs something itself and belongs to no pod: its path below the v2 root, as UTF-8 (the cgroup room
    /// escapes other bytes).
    Cgroup {
        /// For instance `/system.slice/sshd.service`.
        path: Arc<str>,
    },
    /// A container of a pod of which nothing but its UID is known yet.
    UnnamedPod {
        /// In the place of the pod's name.
        uid: Arc<str>,
        /// The container's id, in the place of its name; absent for what is in the pod's cgroup and in no container.
        container: Option<Arc<str>>,
    },
    /// A container of a pod.
    Container {
        /// The pod's names. Of two pods with the same names (a StatefulSet's, before and after) the books go on.
        pod: Arc<PodNames>,
        /// The container's name, its id until that is known; absent for what is in the pod's cgroup and in no container.
        container: Option<Arc<str>>,
    },
    /// The smallest entities of a namespace, beyond the budget of series.
    Other {
        /// Their namespace; absent for cgroups that belong to no pod.
        namespace: Option<Arc<str>>,
    },
}

/// What a pod is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodNames {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub pod: Arc<str>,
    /// What it belongs to.
    pub workload: Arc<WorkloadNames>,
}

/// What a workload is called, in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadNames {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind in lower case: `deployment`, `daemonset`, `statefulset`, `job`, `cronjob`, `replicaset`, `pod` for a bare
    /// pod, or any other kind that owns pods.
    pub kind: Arc<str>,
}

impl WorkloadNames {
    /// Whether its pods come once: what is gone does not come back under this name.
    pub fn comes_once(&self) -> bool {
        matches!(&*self.kind, "pod" | "job")
    }
}

/// What is known of a cgroup when something is booked on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path below the v2 root.
    pub path: Arc<str>,
    /// The pod it belongs to, where pods are known at all.
    pub pod: Option<InPod>,
    /// When it was found to be gone.
    pub gone_at_ns: Option<u64>,
}

/// A cgroup's place in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InPod {
    /// The pod's UID, as in the path.
    pub uid: Arc<str>,
    /// The id of its container.
    pub container: Option<Arc<str>>,
}

/// Where names come from: the ledger asks when it meets a cgroup, and again when it is told that a pod has changed.
pub trait Names {
    /// A cgroup by its id; `None` when nobody knows it any more.
    fn cgroup(&self, id: u64) -> Option<Cgroup>;

    /// What a pod is called, by the UID of its cgroup; `None` until it is known, its workload included.
    fn pod(&self, uid: &str) -> Option<Arc<PodNames>>;

    /// What a cgroup is part of by its path, whether or not anybody names pods.
    fn membership(&self, cgroup: u64) -> Option<Membership>;

    /// A container's name by its pod and its id; `None` until it is known.
    fn container(&self, uid: &str, id: &str) -> Option<Arc<str>>;
}

/// The identity of a cgroup by what is known now, and whether more may be known later.
pub(super) fn identify(cgroup: &Cgroup, names: &impl Names) -> (Identity, bool) {
    match &cgroup.pod {
        None => (Identity::Cgroup { path: Arc::clone(&cgroup.path) }, false),
        Some(place) => identify_in_pod(place, names),
    }
}

/// [`identify`] for what is in a pod.
pub(super) fn identify_in_pod(InPod { uid, container }: &InPod, names: &impl Names) -> (Identity, bool) {
    let Some(pod) = names.pod(uid) else {
        return (Identity::UnnamedPod { uid: Arc::clone(uid), container: container.clone() }, true);
    };
    let Some(id) = container else { return (Identity::Container { pod, container: None }, false) };
    match names.container(uid, id) {
        Some(name) => (Identity::Container { pod, container: Some(name) }, false),
        None => (Identity::Container { pod, container: Some(Arc::clone(id)) }, true),
    }
}

impl Identity {
    /// The namespace of what is in a pod with names.
    pub fn namespace(&self) -> Option<&Arc<str>> {
        match self {
            Self::Container { pod, .. } => Some(&pod.namespace),
            Self::Other { namespace } => namespace.as_ref(),
            Self::Unattributed | Self::Cgroup { .. } | Self::UnnamedPod { .. } => None,
        }
    }

    /// Its pod's names.
    pub fn pod(&self) -> Option<&Arc<PodNames>> {
        match self {
            Self::Container { pod, .. } => Some(pod),
            _ => None,
        }
    }
}
