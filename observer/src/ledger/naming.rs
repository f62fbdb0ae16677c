//! Names that come late: what was counted under a pod's UID goes on under its name, and counts for its workload.

use super::{Identity, Ledger, Names, WorkloadId, account::Account, identity::identify_in_pod, pods::Change};
use std::sync::Arc;

impl Ledger {
    /// A pod has changed: asks for the names of everything of it that has not all of them.
    pub fn pod_changed(&mut self, uid: &str, names: &impl Names, now_ns: u64) {
        let mut merged = Vec::new();
        for at in 0..self.entities.len() {
            let Some(place) = self.accounts[at].awaits.clone().filter(|place| &*place.uid == uid) else { continue };
            let (identity, more_to_come) = identify_in_pod(&place, names);
            self.accounts[at].awaits = more_to_come.then_some(place);
            merged.extend(self.rename(at, identity, now_ns));
        }
        self.remove(|at| merged.contains(&at));
        self.name_what_ended_without(uid, names, now_ns);
    }

    /// Gives an entity another identity. When there is one of that identity already, its books are added to that one's and
    /// its place is returned, to be removed.
    fn rename(&mut self, at: usize, identity: Identity, now_ns: u64) -> Option<usize> {
        if self.entities[at].identity == identity {
            return None;
        }
        match self.by_identity.get(&identity).copied() {
            None => {
                let before = std::mem::replace(&mut self.entities[at].identity, identity.clone());
                self.by_identity.remove(&before);
                self.by_identity.insert(identity, at);
                self.enter_workload(at, now_ns);
                None
            }
            Some(to) => {
                self.enter_workload_of(at, &identity, now_ns);
                self.merge(at, to);
                Some(at)
            }
        }
    }

    /// Adds one entity's books to another's. What is on `other` is moved with it, so that every sum stays whole.
    fn merge(&mut self, from: usize, to: usize) {
        let account = std::mem::take(&mut self.accounts[from]);
        for cgroup in account.live.iter().chain(account.gone.iter().map(|(member, _)| member)) {
            self.by_cgroup.insert(cgroup.cgroup, to);
        }
        let books = std::mem::take(&mut self.entities[from].books);
        let recent = std::mem::take(&mut self.entities[from].recent);
        if self.entities[to].shown {
            self.entities[to].books.merge(&books);
        } else {
            self.book_on_other(to, &books);
        }
        self.entities[to].recent.merge(recent);
        if !self.entities[to].shown {
            self.hide_load(to);
        }
        self.accounts[to].absorb(account);
        self.pairs.rename(self.entities[from].id, self.entities[to].id);
        self.flows.rename(self.entities[from].id, self.entities[to].id);
        self.looked_up.rename(self.entities[from].id, self.entities[to].id);
    }

    /// Books what an entity of a pod with names has counted so far on its workload, and from now on all else.
    pub(super) fn enter_workload(&mut self, at: usize, now_ns: u64) {
        let identity = self.entities[at].identity.clone();
        self.enter_workload_of(at, &identity, now_ns);
    }

    fn enter_workload_of(&mut self, at: usize, identity: &Identity, now_ns: u64) {
        let Some(pod) = identity.pod() else { return };
        let id = self.workloads.of(pod);
        let account = &mut self.accounts[at];
        if account.workload.is_none() {
            account.workload = Some(id);
            let counted = self.counted(at);
            if let Some(workload) = self.workloads.get_mut(id) {
                workload.books.merge(&counted);
                workload.recent.share_load(&self.entities[at].recent);
            }
        }
        let members: Vec<Arc<str>> = {
            let Account { live, gone, .. } = &self.accounts[at];
            live.iter().chain(gone.iter().map(|(member, _)| member)).filter_map(|member| member.pod.clone()).collect()
        };
        for uid in members {
            self.count_pod(&uid, id, now_ns);
        }
    }

    /// Counts a pod for its workload, once.
    pub(super) fn count_pod(&mut self, uid: &str, id: WorkloadId, now_ns: u64) {
        let Some(is_there) = self.pods.belongs(uid, id) else { return };
        if let Some(workload) = self.workloads.get_mut(id) {
            workload.pods_started += 1;
            workload.pod_came(true, now_ns);
            if !is_there {
                workload.pod_came(false, now_ns);
            }
        }
    }

    /// A pod came or went with one of its cgroups.
    pub(super) fn apply(&mut self, change: Option<Change>, now_ns: u64) {
        let (id, came) = match change {
            Some(Change::Came(id)) => (id, true),
            Some(Change::Went(id)) => (id, false),
            None => return,
        };
        if let Some(workload) = self.workloads.get_mut(id) {
            workload.pod_came(came, now_ns);
        }
    }

    /// The series of a pod that ended long before its name came are gone; its workload has its books all the same.
    fn name_what_ended_without(&mut self, uid: &str, names: &impl Names, now_ns: u64) {
        let Some(pod) = names.pod(uid) else { return };
        let Some((books, _)) = self.pods.take_nameless(uid) else { return };
        let id = self.workloads.of(&pod);
        if let Some(workload) = self.workloads.get_mut(id) {
            workload.books.merge(&books);
            workload.pods_started += 1;
            workload.pod_came(true, now_ns);
            workload.pod_came(false, now_ns);
        }
    }
}
