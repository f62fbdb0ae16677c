//! The workloads' books: sums over all pods that a workload ever had on this node, which never fall when pods go.

use super::{Added, Books, PodNames, Recent, WorkloadNames};
use std::{collections::HashMap, sync::Arc};

/// How long the books of a workload whose pods come once stay after the last of them is gone.
const KEEP_ONCE_NS: u64 = 120_000_000_000;
/// How long those of any other stay: a job of every night goes on where it was.
const KEEP_NS: u64 = 25 * 3_600_000_000_000;

/// Never reused while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId(pub u64);

/// A workload with its books.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its number.
    pub id: WorkloadId,
    /// Its labels; `None` for the sum of pods that ended before anybody knew what they were.
    pub names: Option<WorkloadKey>,
    /// The sums of its pods, those that are gone included.
    pub books: Books,
    /// What the last windows brought, over all its pods.
    pub recent: Recent,
    /// What its pods use of memory now, as far as that has been read; [`Ledger::sum_memory`](super::Ledger::sum_memory) forms it.
    pub working_set_bytes: Option<u64>,
    /// Pods that were seen on this node since the agent started.
    pub pods_started: u64,
    /// Pods that are there now.
    pub pods: u64,
    /// When its last pod went.
    idle_since_ns: Option<u64>,
}

/// What a workload is told by: its namespace and names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name and kind.
    pub workload: Arc<WorkloadNames>,
}

impl From<&PodNames> for WorkloadKey {
    fn from(pod: &PodNames) -> Self {
        Self { namespace: Arc::clone(&pod.namespace), workload: Arc::clone(&pod.workload) }
    }
}

impl Workload {
    /// A workload on which nothing is booked yet.
    pub fn new(id: WorkloadId, names: Option<WorkloadKey>) -> Self {
        Self {
            id,
            names,
            books: Books::default(),
            recent: Recent::default(),
            working_set_bytes: None,
            pods_started: 0,
            pods: 0,
            idle_since_ns: None,
        }
    }

    /// Books what one of its pods is charged with.
    pub(super) fn add(&mut self, added: &Added) {
        self.books.add(added);
        self.recent.add(added);
    }

    /// One of its pods has begun or, with `false`, gone.
    pub(super) fn pod_came(&mut self, came: bool, now_ns: u64) {
        self.pods = if came { self.pods + 1 } else { self.pods.saturating_sub(1) };
        self.idle_since_ns = (self.pods == 0).then_some(now_ns);
    }

    fn has_expired(&self, now_ns: u64) -> bool {
        let Some(WorkloadKey { workload, .. }) = &self.names else { return false };
        let keep_ns = if workload.comes_once() { KEEP_ONCE_NS } else { KEEP_NS };
        self.idle_since_ns.is_some_and(|idle| now_ns.saturating_sub(idle) >= keep_ns)
    }
}

/// All of them, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    list: Vec<Workload>,
    by_key: HashMap<WorkloadKey, WorkloadId>,
    /// The one without a name, once there is something on it.
    nameless: Option<WorkloadId>,
    next_id: u64,
}

impl Workloads {
    pub(super) fn list(&self) -> &[Workload] {
        &self.list
    }

    pub(super) fn list_mut(&mut self) -> &mut [Workload] {
        &mut self.list
    }

    /// Numbers only grow, so the list is sorted by them.
    pub(super) fn get_mut(&mut self, id: WorkloadId) -> Option<&mut Workload> {
        let at = self.list.binary_search_by_key(&id, |workload| workload.id).ok()?;
        self.list.get_mut(at)
    }

    /// The workload of a pod, opened if need be.
    pub(super) fn of(&mut self, pod: &PodNames) -> WorkloadId {
        let key = WorkloadKey::from(pod);
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id = self.open(Some(key.clone()));
        self.by_key.insert(key, id);
        id
    }

    /// Takes the books of pods that nobody will name any more.
    pub(super) fn add_nameless(&mut self, books: &Books) {
        let id = self.nameless.unwrap_or_else(|| self.open(None));
        self.nameless = Some(id);
        if let Some(workload) = self.get_mut(id) {
            workload.books.merge(books);
        }
    }

    fn open(&mut self, names: Option<WorkloadKey>) -> WorkloadId {
        let id = WorkloadId(self.next_id);
        self.next_id += 1;
        self.list.push(Workload::new(id, names));
        id
    }

    /// All that the last windows brought.
    pub(super) fn recent_mut(&mut self) -> impl Iterator<Item = &mut Recent> {
        self.list.iter_mut().map(|workload| &mut workload.recent)
    }

    pub(super) fn expire(&mut self, now_ns: u64) {
        let by_key = &mut self.by_key;
        self.list.retain(|workload| {
            let expired = workload.has_expired(now_ns);
            if let (true, Some(key)) = (expired, &workload.names) {
                by_key.remove(key);
            }
            !expired
        });
    }
}
