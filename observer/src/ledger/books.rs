//! Booking: every sample to exactly one entity, and to the workload of its pod.

use super::{
    Added, Books, Cgroup, Connections, CpuUsage, Entity, EntityId, Identity, Names, Recent, Sample, Workload,
    account::{Account, KEEP_NS, Member},
    blame::Pairs,
    flows::Flows,
    holding::{BeforeTheWindows, Held},
    identity::identify,
    looked_up::LookedUp,
    node_ports::NodePorts,
    pods::Pods,
    tenancies::Tenancies,
    workloads::Workloads,
};
use std::collections::{HashMap, HashSet};

#[cfg(test)]
mod tests;

/// The place of `unattributed` among the entities.
pub(super) const UNATTRIBUTED: usize = 0;

/// The books of a node.
#[derive(Debug)]
pub struct Ledger {
    pub(super) entities: Vec<Entity>,
    /// At the same places as the entities.
    pub(super) accounts: Vec<Account>,
    pub(super) by_identity: HashMap<Identity, usize>,
    pub(super) by_cgroup: HashMap<u64, usize>,
    pub(super) pods: Pods,
    pub(super) workloads: Workloads,
    pub(super) pairs: Pairs,
    pub(super) flows: Flows,
    pub(super) tenancies: Tenancies,
    pub(super) node_ports: NodePorts,
    pub(super) looked_up: LookedUp,
    next_id: u64,
    /// What lasted at the last reading of that, by task.
    pub(super) held: Vec<Held>,
    /// What lasted at the one before, and did not any more.
    pub(super) ended: Vec<Held>,
    pub(super) before_the_windows: BeforeTheWindows,
    pub(super) window_ended_ns: u64,
    /// How long the newest window was.
    pub(super) window_elapsed_ns: u64,
    /// How much of the period of the load averages has passed.
    pub(super) period_ns: u64,
    /// What the last windows brought, over all entities.
    pub(super) node: Recent,
    /// What the kernel counts as active beside that: tasks that sleep on a run queue, by one look in each window.
    pub(super) asleep: Recent,
    nameless: u64,
    changes: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        let mut ledger = Self {
            entities: Vec::new(),
            accounts: Vec::new(),
            by_identity: HashMap::new(),
            by_cgroup: HashMap::new(),
            pods: Pods::default(),
            workloads: Workloads::default(),
            pairs: Pairs::default(),
            flows: Flows::default(),
            tenancies: Tenancies::default(),
            node_ports: NodePorts::default(),
            looked_up: LookedUp::default(),
            next_id: 0,
            held: Vec::new(),
            ended: Vec::new(),
            before_the_windows: BeforeTheWindows::default(),
            window_ended_ns: 0,
            window_elapsed_ns: 0,
            period_ns: 0,
            node: Recent::default(),
            asleep: Recent::default(),
            nameless: 0,
            changes: 0,
        };
        ledger.open(Identity::Unattributed);
        ledger
    }
}

impl Ledger {
    /// Every entity, `unattributed` first.
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// Every workload that has, or lately had, a pod here.
    pub fn workloads(&self) -> &[Workload] {
        self.workloads.list()
    }

    /// Packets, waits, sleeps and DNS messages that were booked to `unattributed` because nobody knew their cgroup any more.
    pub fn nameless(&self) -> u64 {
        self.nameless
    }

    /// The cgroups that are there and have an entity, each with that entity's number of waits.
    pub fn live_cgroups(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.entities.len()).flat_map(move |at| {
            let account = &self.accounts[at];
            let hidden = account.on_other.as_ref().map_or(0, |books| books.waits.iter().sum());
            let waits = self.entities[at].books.waits.iter().sum::<u64>() + hidden;
            account.live.iter().map(move |member| (member.cgroup, waits))
        })
    }

    /// Books a sample. `names` is asked for each cgroup that has no entity yet.
    pub fn book(&mut self, sample: &Sample, names: &impl Names, now_ns: u64) {
        for added in &sample.added {
            let at = self.entity_of(added, names, now_ns);
            self.accounts[at].active.ended(added);
            if self.entities[at].shown {
                self.add(at, added);
            } else {
                self.accounts[at].on_other.get_or_insert_default().add(added);
                let other = self.other_of(at);
                self.add(other, added);
            }
            if let Some(workload) = self.accounts[at].workload.and_then(|id| self.workloads.get_mut(id)) {
                workload.add(added);
            }
        }
        self.book_caused(&sample.caused, names);
        self.book_flows(&sample.flows, sample.flows_interval, now_ns);
    }

    fn add(&mut self, at: usize, added: &Added) {
        self.entities[at].books.add(added);
        self.entities[at].recent.add(added);
        self.node.add(added);
    }

    /// How often a cgroup was given an entity, or one that had an entity went.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether a cgroup has an entity.
    pub fn has_books(&self, cgroup: u64) -> bool {
        self.by_cgroup.contains_key(&cgroup)
    }

    /// Opens the books of a cgroup that runs something, before anything is booked on it.
    pub fn open_cgroup(&mut self, cgroup: u64, names: &impl Names, now_ns: u64) {
        if !self.by_cgroup.contains_key(&cgroup)
            && let Some(known) = names.cgroup(cgroup)
        {
            self.join(cgroup, &known, names, now_ns);
        }
    }

    /// Books a reading of a cgroup's `cpu.stat`, less what its children used. Never lowers the sum: children are read
    /// a moment after their parent.
    pub fn book_cpu(&mut self, cgroup: u64, usage: CpuUsage) {
        let Some(at) = self.by_cgroup.get(&cgroup).copied() else { return };
        let account = &mut self.accounts[at];
        let before = if let Some((_, last)) = account.cpu.iter_mut().find(|(id, _)| *id == cgroup) {
            std::mem::replace(last, usage.at_least(*last))
        } else {
            account.cpu.push((cgroup, usage));
            CpuUsage::default()
        };
        self.add_to_books(at, |books| books.cpu.get_or_insert_default().add(usage, before));
    }

    /// Adds something to an entity's books, wherever they are, and to those of its workload.
    pub(super) fn add_to_books(&mut self, at: usize, add: impl Fn(&mut Books)) {
        if self.entities[at].shown {
            add(&mut self.entities[at].books);
        } else {
            add(self.accounts[at].on_other.get_or_insert_default());
            let other = self.other_of(at);
            add(&mut self.entities[other].books);
        }
        if let Some(workload) = self.accounts[at].workload.and_then(|id| self.workloads.get_mut(id)) {
            add(&mut workload.books);
        }
    }

    /// A cgroup is gone; its entity goes two minutes after its last cgroup.
    pub fn cgroup_gone(&mut self, cgroup: u64, at_ns: u64) {
        let Some(at) = self.by_cgroup.get(&cgroup) else { return };
        self.changes += 1;
        let parted = self.accounts[*at].part(cgroup, at_ns);
        let change = parted.and_then(|member| self.pods.part(member.pod.as_deref()?));
        self.apply(change, at_ns);
    }

    /// Lets entities go whose cgroups have been gone for two minutes, and forgets such cgroups of those that stay.
    pub fn expire(&mut self, now_ns: u64) {
        let (by_cgroup, pods) = (&mut self.by_cgroup, &mut self.pods);
        for account in &mut self.accounts {
            account.gone.retain(|(member, at_ns)| {
                let kept = now_ns.saturating_sub(*at_ns) < KEEP_NS;
                if !kept {
                    by_cgroup.remove(&member.cgroup);
                    if let Some(uid) = &member.pod {
                        pods.forget(uid);
                    }
                }
                kept
            });
        }
        self.retire_others(now_ns);
        for at in 0..self.entities.len() {
            if let (Identity::UnnamedPod { uid, .. }, true) =
                (self.entities[at].identity.clone(), self.accounts[at].has_expired(now_ns))
            {
                let late = self.pods.keep_nameless(&uid, self.counted(at), now_ns);
                if let Some(books) = late {
                    self.workloads.add_nameless(&books);
                }
            }
        }
        for books in self.pods.give_up_nameless(now_ns) {
            self.workloads.add_nameless(&books);
        }
        if self.accounts.iter().any(|account| account.has_expired(now_ns)) {
            let expired: Vec<bool> = self.accounts.iter().map(|account| account.has_expired(now_ns)).collect();
            self.bequeath_load(&expired);
            self.remove(|at| expired[at]);
            let there: HashSet<EntityId> = self.entities.iter().map(|entity| entity.id).collect();
            self.pairs.retain(|id| there.contains(&id));
            self.flows.retain(|id| there.contains(&id));
            self.looked_up.retain(|id| there.contains(&id));
        }
        self.workloads.expire(now_ns);
    }

    /// Removes entities, and closes the gaps.
    pub(super) fn remove(&mut self, leaves: impl Fn(usize) -> bool) {
        let mut place = Vec::with_capacity(self.entities.len());
        let mut kept = 0;
        for at in 0..self.entities.len() {
            place.push((!leaves(at)).then_some(kept));
            kept += usize::from(!leaves(at));
        }
        let moved = |at: &mut usize| match place[*at] {
            Some(to) => {
                *at = to;
                true
            }
            None => false,
        };
        self.by_identity.retain(|_, at| moved(at));
        self.by_cgroup.retain(|_, at| moved(at));
        let mut keep = place.iter().map(Option::is_some);
        self.entities.retain(|_| keep.next().unwrap_or(true));
        let mut keep = place.iter().map(Option::is_some);
        self.accounts.retain(|_| keep.next().unwrap_or(true));
    }

    /// Everything that was counted of an entity, on whatever series it is.
    pub(super) fn counted(&self, at: usize) -> Books {
        let mut books = self.entities[at].books.clone();
        if let Some(on_other) = &self.accounts[at].on_other {
            books.merge(on_other);
        }
        books
    }

    /// The entity of a cgroup that has books, else that of nobody.
    pub(super) fn known(&self, cgroup: u64) -> usize {
        self.by_cgroup.get(&cgroup).copied().unwrap_or(UNATTRIBUTED)
    }

    fn entity_of(&mut self, added: &Added, names: &impl Names, now_ns: u64) -> usize {
        if added.cgroup == 0 {
            return UNATTRIBUTED;
        }
        if let Some(at) = self.by_cgroup.get(&added.cgroup) {
            return *at;
        }
        let Some(cgroup) = names.cgroup(added.cgroup) else {
            self.nameless += added.events();
            return UNATTRIBUTED;
        };
        self.join(added.cgroup, &cgroup, names, now_ns)
    }

    /// Makes a cgroup one of those behind the entity of its name.
    fn join(&mut self, id: u64, cgroup: &Cgroup, names: &impl Names, now_ns: u64) -> usize {
        self.changes += 1;
        let (identity, more_to_come) = identify(cgroup, names);
        let at = self.open(identity);
        self.by_cgroup.insert(id, at);
        let pod = cgroup.pod.as_ref().map(|place| &place.uid);
        let account = &mut self.accounts[at];
        account.join(Member { cgroup: id, pod: pod.cloned() }, cgroup.gone_at_ns);
        if more_to_come {
            account.awaits.clone_from(&cgroup.pod);
        }
        if let Some(uid) = pod {
            let change = self.pods.join(uid, cgroup.gone_at_ns.is_none());
            self.apply(change, now_ns);
        }
        self.enter_workload(at, now_ns);
        at
    }

    pub(super) fn open(&mut self, identity: Identity) -> usize {
        let (entities, accounts, next_id) = (&mut self.entities, &mut self.accounts, &mut self.next_id);
        *self.by_identity.entry(identity).or_insert_with_key(|identity| {
            entities.push(Entity {
                id: EntityId(*next_id),
                identity: identity.clone(),
                shown: true,
                books: Books::default(),
                recent: Recent::default(),
                memory: None,
                connections: Connections::default(),
            });
            accounts.push(Account::default());
            *next_id += 1;
            entities.len() - 1
        })
    }
}
