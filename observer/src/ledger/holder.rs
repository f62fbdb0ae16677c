//! Who can have an address.

use super::WorkloadNames;
use std::sync::Arc;

/// Who can have an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A pod that has it for itself.
    Pod(Arc<PodHolder>),
    /// A service.
    Service {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// A node, with all pods that are in its own network.
    Node {
        /// Its name.
        name: Arc<str>,
    },
}

/// A pod that has, or had, an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHolder {
    /// Its UID.
    pub uid: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its workload, where that is known.
    pub workload: Option<Arc<WorkloadNames>>,
    /// The node that it is on.
    pub node: Option<Arc<str>>,
}

impl Holder {
    /// Whether it is the same one, whatever else has become known of it.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pod(one), Self::Pod(other)) => one.uid == other.uid,
            _ => self == other,
        }
    }

    /// What is told of the same one now; what it is one of is not forgotten.
    pub(super) fn learn(&mut self, told: &Self) {
        if told.has_workload() || !self.has_workload() {
            *self = told.clone();
        }
    }

    fn has_workload(&self) -> bool {
        matches!(self, Self::Pod(pod) if pod.workload.is_some())
    }
}

/// Whether something that was so from one moment to another can have been so then; the ends that nobody knows are open.
pub(super) fn covers(since: Option<u64>, until: Option<u64>, unix_seconds: u64) -> bool {
    since.is_none_or(|since| since <= unix_seconds) && until.is_none_or(|until| unix_seconds <= until)
}
