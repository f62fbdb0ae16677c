//! The pods behind the entities: how many cgroups of each are there, so that a workload's pods are counted once each.

use super::{Books, WorkloadId};
use std::{collections::HashMap, sync::Arc};

/// Pods that ended without a name and whose books wait for one.
const MAX_NAMELESS: usize = 1024;
/// How long they wait.
const NAMELESS_NS: u64 = 3_600_000_000_000;

/// By UID.
#[derive(Debug, Default)]
pub(super) struct Pods {
    known: HashMap<Arc<str>, Pod>,
    nameless: HashMap<Arc<str>, Nameless>,
}

#[derive(Debug, Default)]
struct Pod {
    /// Cgroups of it that are there.
    live: u32,
    /// Cgroups of it that are known, those included that went a short while ago.
    members: u32,
    workload: Option<WorkloadId>,
}

#[derive(Debug)]
struct Nameless {
    books: Books,
    since_ns: u64,
}

/// What became of a pod with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The workload has this pod now.
    Came(WorkloadId),
    /// It has no cgroup there any more.
    Went(WorkloadId),
}

impl Pods {
    /// Pods that are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// A cgroup of a pod is known.
    pub(super) fn join(&mut self, uid: &Arc<str>, live: bool) -> Option<Change> {
        let pod = self.known.entry(Arc::clone(uid)).or_default();
        pod.members += 1;
        if !live {
            return None;
        }
        pod.live += 1;
        pod.workload.filter(|_| pod.live == 1).map(Change::Came)
    }

    /// A cgroup of a pod has gone.
    pub(super) fn part(&mut self, uid: &str) -> Option<Change> {
        let pod = self.known.get_mut(uid)?;
        pod.live = pod.live.saturating_sub(1);
        pod.workload.filter(|_| pod.live == 0).map(Change::Went)
    }

    /// A cgroup that went is forgotten; with the last, the pod is.
    pub(super) fn forget(&mut self, uid: &str) {
        let Some(pod) = self.known.get_mut(uid) else { return };
        pod.members = pod.members.saturating_sub(1);
        if pod.members == 0 {
            self.known.remove(uid);
        }
    }

    /// A pod is one of a workload's. `Some` the first time, with whether it is there now.
    pub(super) fn belongs(&mut self, uid: &str, workload: WorkloadId) -> Option<bool> {
        let pod = self.known.get_mut(uid)?;
        if pod.workload.is_some() {
            return None;
        }
        pod.workload = Some(workload);
        Some(pod.live > 0)
    }

    /// Keeps the books of an entity that leaves without a name. Returns those for which there is no room.
    #[must_use]
    pub(super) fn keep_nameless(&mut self, uid: &Arc<str>, books: Books, now_ns: u64) -> Option<Books> {
        if let Some(kept) = self.nameless.get_mut(uid) {
            kept.books.merge(&books);
            return None;
        }
        if self.nameless.len() >= MAX_NAMELESS {
            return Some(books);
        }
        self.nameless.insert(Arc::clone(uid), Nameless { books, since_ns: now_ns });
        None
    }

    /// The books that waited for a pod's name, and when they were put away.
    pub(super) fn take_nameless(&mut self, uid: &str) -> Option<(Books, u64)> {
        self.nameless.remove(uid).map(|Nameless { books, since_ns }| (books, since_ns))
    }

    /// The books that have waited for too long.
    pub(super) fn give_up_nameless(&mut self, now_ns: u64) -> Vec<Books> {
        let late = self.nameless.extract_if(|_, kept| now_ns.saturating_sub(kept.since_ns) >= NAMELESS_NS);
        late.map(|(_, Nameless { books, .. })| books).collect()
    }
}
