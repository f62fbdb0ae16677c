//! The books: booking, lives and ends of entities, names that come late, workloads, the budget of series.

use super::*;
use crate::ledger::{InPod, PodNames, WorkloadNames};
use observer_ebpf::{Scope, Traffic, causes::Membership};
use std::{cell::RefCell, sync::Arc};

mod blame;
mod budget;
mod churn;
mod load;
mod naming;
mod plain;

/// Names as a test says.
#[derive(Default)]
struct Known {
    cgroups: RefCell<HashMap<u64, Cgroup>>,
    pods: RefCell<HashMap<String, Arc<PodNames>>>,
    containers: RefCell<HashMap<String, Arc<str>>>,
}

impl Names for Known {
    fn cgroup(&self, id: u64) -> Option<Cgroup> {
        self.cgroups.borrow().get(&id).cloned()
    }

    fn pod(&self, uid: &str) -> Option<Arc<PodNames>> {
        self.pods.borrow().get(uid).cloned()
    }

    fn membership(&self, cgroup: u64) -> Option<Membership> {
        let number = |name: &str| name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte));
        let cgroups = self.cgroups.borrow();
        let known = cgroups.get(&cgroup)?;
        let pod = known.pod.as_ref().map_or(0, |place| number(&place.uid));
        Some(Membership { pod, container: number(&known.path) })
    }

    fn container(&self, _uid: &str, id: &str) -> Option<Arc<str>> {
        self.containers.borrow().get(id).cloned()
    }
}

impl Known {
    /// A cgroup that belongs to no pod.
    fn cgroup_at(self, id: u64, path: &str) -> Self {
        self.cgroups.borrow_mut().insert(id, Cgroup { path: path.into(), pod: None, gone_at_ns: None });
        self
    }

    /// A container's cgroup.
    fn container_at(&self, id: u64, uid: &str, container: &str) {
        let pod = Some(InPod { uid: uid.into(), container: Some(container.into()) });
        self.cgroups
            .borrow_mut()
            .insert(id, Cgroup { path: format!("/{uid}/{container}").into(), pod, gone_at_ns: None });
    }

    fn name_pod(&self, uid: &str, pod: &str, workload: &str, kind: &str) {
        let workload = Arc::new(WorkloadNames { name: workload.into(), kind: kind.into() });
        let names = PodNames { namespace: "shop".into(), pod: pod.into(), workload };
        self.pods.borrow_mut().insert(uid.to_owned(), Arc::new(names));
    }

    fn name_container(&self, id: &str, name: &str) {
        self.containers.borrow_mut().insert(id.to_owned(), name.into());
    }
}

fn bytes(cgroup: u64, transmit_bytes: u64) -> Sample {
    let mut added = Added { cgroup, ..Added::default() };
    added.traffic[Scope::Internet as usize] = Traffic { transmit_bytes, transmit_packets: 1, ..Traffic::default() };
    Sample { added: vec![added], ..Sample::default() }
}

fn sum(books: &Books) -> u64 {
    books.traffic.iter().map(|traffic| traffic.transmit_bytes).sum()
}

/// Bytes on the series of a name: a cgroup's path, `POD/CONTAINER`, `other` and a namespace.
fn sent(ledger: &Ledger, name: &str) -> Option<u64> {
    let named = |entity: &&Entity| match &entity.identity {
        Identity::Unattributed => name == "unattributed",
        Identity::Cgroup { path } => &**path == name,
        Identity::UnnamedPod { uid, container } => format!("{uid}/{}", container.as_deref().unwrap_or("")) == name,
        Identity::Container { pod, container } => format!("{}/{}", pod.pod, container.as_deref().unwrap_or("")) == name,
        Identity::Other { namespace } => format!("other {}", namespace.as_deref().unwrap_or("")) == name,
    };
    ledger.entities().iter().filter(|entity| entity.shown).find(named).map(|entity| sum(&entity.books))
}

fn workload<'a>(ledger: &'a Ledger, name: &str) -> Option<&'a Workload> {
    let named = |workload: &&Workload| match &workload.names {
        None => name == "unattributed",
        Some(key) => *key.workload.name == *name,
    };
    ledger.workloads().iter().find(named)
}

/// Bytes over all series of entities.
fn all(ledger: &Ledger) -> u64 {
    ledger.entities().iter().filter(|entity| entity.shown).map(|entity| sum(&entity.books)).sum()
}
