//! Booking: every sample to exactly one entity.

use super::{Added, Books, CpuUsage, Entity, EntityId, Identity, Peak, Sample, Throttling};
use observer_ebpf::Traffic;
use std::{collections::HashMap, sync::Arc};

/// How long the series of a vanished cgroup stay.
const KEEP_NS: u64 = 120_000_000_000;
/// The place of `unattributed` among the entities.
const UNATTRIBUTED: usize = 0;

/// What is known of a cgroup's name when something is booked on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its path below the v2 root.
    pub path: Arc<str>,
    /// When it was found to be gone.
    pub gone_at_ns: Option<u64>,
}

/// The books of a node.
#[derive(Debug)]
pub struct Ledger {
    entities: Vec<Entity>,
    accounts: Vec<Account>,
    by_identity: HashMap<Identity, usize>,
    by_cgroup: HashMap<u64, usize>,
    next_id: u64,
    window_ended_ns: u64,
    nameless: u64,
}

/// What an entity has that no reader needs.
#[derive(Debug, Default)]
struct Account {
    /// The cgroups behind it that are there: several when a service restarts under its name.
    live: Vec<u64>,
    /// Those that went, and when: what comes late is still theirs for two minutes.
    gone: Vec<(u64, u64)>,
    /// When the last of them went.
    gone_at_ns: Option<u64>,
    /// Bytes sent and received since the last window ended.
    window_bytes: (u64, u64),
    /// The last reading of each cgroup's `cpu.stat`.
    cpu: Vec<(u64, CpuUsage)>,
}

impl Default for Ledger {
    fn default() -> Self {
        let mut ledger = Self {
            entities: Vec::new(),
            accounts: Vec::new(),
            by_identity: HashMap::new(),
            by_cgroup: HashMap::new(),
            next_id: 0,
            window_ended_ns: 0,
            nameless: 0,
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

    /// When the newest window ended, by the time that has passed in windows.
    pub fn window_ended_ns(&self) -> u64 {
        self.window_ended_ns
    }

    /// Packets, waits and sleeps that were booked to `unattributed` because nobody knew their cgroup any more.
    pub fn nameless(&self) -> u64 {
        self.nameless
    }

    /// The cgroups that are there and have an entity, each with that entity's number of waits.
    pub fn live_cgroups(&self) -> impl Iterator<Item = (u64, u64)> {
        self.entities.iter().zip(&self.accounts).flat_map(|(entity, account)| {
            let waits = entity.books.waits.iter().sum();
            account.live.iter().map(move |cgroup| (*cgroup, waits))
        })
    }

    /// Books a sample. `name` is asked for each cgroup that has no entity yet.
    pub fn book(&mut self, sample: &Sample, name: impl Fn(u64) -> Option<Name>) {
        for added in &sample.added {
            let at = self.entity_of(added, &name);
            let (books, account) = (&mut self.entities[at].books, &mut self.accounts[at]);
            books.add(added);
            for traffic in &added.traffic {
                account.window_bytes.0 += traffic.transmit_bytes;
                account.window_bytes.1 += traffic.receive_bytes;
            }
        }
    }

    /// Ends a window of `elapsed_ns`: what it brought is a candidate for the peaks.
    pub fn end_window(&mut self, elapsed_ns: u64) {
        self.window_ended_ns += elapsed_ns;
        let seconds = elapsed_ns as f64 / 1e9;
        for (entity, account) in self.entities.iter_mut().zip(&mut self.accounts) {
            let (transmitted, received) = std::mem::take(&mut account.window_bytes);
            if seconds > 0.0 {
                entity.transmit_peak.push(self.window_ended_ns, transmitted as f64 / seconds);
                entity.receive_peak.push(self.window_ended_ns, received as f64 / seconds);
            }
        }
    }

    /// Opens the books of a cgroup that runs something, before anything is booked on it.
    pub fn open_cgroup(&mut self, cgroup: u64, name: Name) {
        if !self.by_cgroup.contains_key(&cgroup) {
            self.join(cgroup, name);
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
        self.entities[at].books.cpu.get_or_insert_default().add(usage, before);
    }

    /// A cgroup is gone; its entity goes two minutes after its last cgroup.
    pub fn cgroup_gone(&mut self, cgroup: u64, at_ns: u64) {
        let Some(at) = self.by_cgroup.get(&cgroup) else { return };
        let account = &mut self.accounts[*at];
        account.live.retain(|live| *live != cgroup);
        account.cpu.retain(|(id, _)| *id != cgroup);
        account.gone.push((cgroup, at_ns));
        if account.live.is_empty() {
            account.gone_at_ns.get_or_insert(at_ns);
        }
    }

    /// Lets entities go whose cgroups have been gone for two minutes, and forgets such cgroups of those that stay.
    pub fn expire(&mut self, now_ns: u64) {
        for account in &mut self.accounts {
            let by_cgroup = &mut self.by_cgroup;
            account.gone.retain(|(cgroup, at_ns)| {
                let kept = now_ns.saturating_sub(*at_ns) < KEEP_NS;
                if !kept {
                    by_cgroup.remove(cgroup);
                }
                kept
            });
        }
        let expired = |account: &Account| account.gone_at_ns.is_some_and(|gone| now_ns.saturating_sub(gone) >= KEEP_NS);
        if !self.accounts.iter().any(expired) {
            return;
        }
        let mut place = Vec::with_capacity(self.entities.len());
        let mut kept = 0;
        for account in &self.accounts {
            place.push((!expired(account)).then_some(kept));
            kept += usize::from(!expired(account));
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
        self.accounts.retain(|account| !expired(account));
    }

    fn entity_of(&mut self, added: &Added, name: &impl Fn(u64) -> Option<Name>) -> usize {
        if added.cgroup == 0 {
            return UNATTRIBUTED;
        }
        if let Some(at) = self.by_cgroup.get(&added.cgroup) {
            return *at;
        }
        let Some(name) = name(added.cgroup) else {
            self.nameless += added.events();
            return UNATTRIBUTED;
        };
        self.join(added.cgroup, name)
    }

    /// Makes a cgroup one of those behind the entity of its name.
    fn join(&mut self, cgroup: u64, Name { path, gone_at_ns }: Name) -> usize {
        let at = self.open(Identity::Cgroup { path });
        self.by_cgroup.insert(cgroup, at);
        let account = &mut self.accounts[at];
        match gone_at_ns {
            None => {
                account.live.push(cgroup);
                account.gone_at_ns = None;
            }
            // Its last packets came after it went.
            Some(gone) => {
                account.gone.push((cgroup, gone));
                if account.live.is_empty() {
                    account.gone_at_ns = Some(account.gone_at_ns.map_or(gone, |at| at.max(gone)));
                }
            }
        }
        at
    }

    fn open(&mut self, identity: Identity) -> usize {
        let (entities, accounts, next_id) = (&mut self.entities, &mut self.accounts, &mut self.next_id);
        *self.by_identity.entry(identity).or_insert_with_key(|identity| {
            entities.push(Entity {
                id: EntityId(*next_id),
                identity: identity.clone(),
                books: Books::default(),
                transmit_peak: Peak::default(),
                receive_peak: Peak::default(),
            });
            accounts.push(Account::default());
            *next_id += 1;
            entities.len() - 1
        })
    }
}

impl Books {
    fn add(&mut self, added: &Added) {
        let Added { cgroup: _, traffic, waits, wait_ns, uninterruptible_ns } = added;
        for (sum, more) in self.traffic.iter_mut().zip(traffic) {
            let Traffic { transmit_bytes, transmit_packets, receive_bytes, receive_packets } = more;
            sum.transmit_bytes += transmit_bytes;
            sum.transmit_packets += transmit_packets;
            sum.receive_bytes += receive_bytes;
            sum.receive_packets += receive_packets;
        }
        for (sum, more) in self.waits.iter_mut().zip(waits) {
            *sum += u64::from(*more);
        }
        self.wait_ns += wait_ns;
        self.uninterruptible_ns += uninterruptible_ns;
    }
}

impl CpuUsage {
    fn at_least(self, before: Self) -> Self {
        let throttling = match (self.throttling, before.throttling) {
            (Some(now), Some(then)) => Some(Throttling {
                periods: now.periods.max(then.periods),
                throttled_periods: now.throttled_periods.max(then.throttled_periods),
                throttled_us: now.throttled_us.max(then.throttled_us),
            }),
            (now, then) => now.or(then),
        };
        Self { usage_us: self.usage_us.max(before.usage_us), throttling }
    }

    fn add(&mut self, now: Self, before: Self) {
        self.usage_us += now.usage_us.saturating_sub(before.usage_us);
        if let Some(now) = now.throttling {
            let before = before.throttling.unwrap_or_default();
            let sum = self.throttling.get_or_insert_default();
            sum.periods += now.periods.saturating_sub(before.periods);
            sum.throttled_periods += now.throttled_periods.saturating_sub(before.throttled_periods);
            sum.throttled_us += now.throttled_us.saturating_sub(before.throttled_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_ebpf::Scope;

    fn bytes(cgroup: u64, transmit_bytes: u64) -> Sample {
        let mut added = Added { cgroup, ..Added::default() };
        added.traffic[Scope::Internet as usize] = Traffic { transmit_bytes, transmit_packets: 1, ..Traffic::default() };
        Sample { added: vec![added] }
    }

    fn live(path: &'static str) -> impl Fn(u64) -> Option<Name> {
        move |_| Some(Name { path: path.into(), gone_at_ns: None })
    }

    fn sent(ledger: &Ledger, path: &str) -> Option<u64> {
        let wanted = Identity::Cgroup { path: path.into() };
        let entity = ledger.entities().iter().find(|entity| entity.identity == wanted)?;
        Some(entity.books.traffic.iter().map(|traffic| traffic.transmit_bytes).sum())
    }

    #[test]
    fn a_service_that_restarts_goes_on_under_its_name() {
        let mut ledger = Ledger::default();
        ledger.book(&bytes(7, 100), live("/a.service"));
        ledger.cgroup_gone(7, 5);
        ledger.book(&bytes(8, 10), live("/a.service"));
        ledger.expire(5 + KEEP_NS);
        assert_eq!(sent(&ledger, "/a.service"), Some(110));
    }

    #[test]
    fn a_vanished_cgroup_stays_two_minutes() {
        let mut ledger = Ledger::default();
        ledger.book(&bytes(7, 100), live("/a"));
        ledger.book(&bytes(8, 1), live("/b"));
        ledger.cgroup_gone(7, 5);
        ledger.expire(5 + KEEP_NS - 1);
        assert_eq!(sent(&ledger, "/a"), Some(100));
        ledger.expire(5 + KEEP_NS);
        assert_eq!(sent(&ledger, "/a"), None);
        ledger.book(&bytes(8, 1), live("/b"));
        assert_eq!(sent(&ledger, "/b"), Some(2));
    }

    #[test]
    fn a_service_that_restarts_for_ever_leaves_no_ids_behind() {
        const MINUTE: u64 = 60_000_000_000;
        let mut ledger = Ledger::default();
        for restart in 1..=10_000 {
            ledger.book(&bytes(restart, 1), live("/timer.service"));
            ledger.cgroup_gone(restart, restart * MINUTE);
            ledger.expire(restart * MINUTE);
        }
        assert_eq!(sent(&ledger, "/timer.service"), Some(10_000));
        assert!(ledger.by_cgroup.len() <= 3, "{}", ledger.by_cgroup.len());
        // A socket of one that is long gone has nobody to be charged to.
        ledger.book(&bytes(1, 1), |_| None);
        assert_eq!((sent(&ledger, "/timer.service"), ledger.nameless()), (Some(10_000), 1));
    }

    #[test]
    fn what_has_no_name_is_unattributed_and_counted() {
        let mut ledger = Ledger::default();
        ledger.book(&bytes(7, 100), |_| None);
        ledger.book(&bytes(0, 11), |_| None);
        let unattributed = &ledger.entities()[0];
        assert_eq!(unattributed.identity, Identity::Unattributed);
        assert_eq!(unattributed.books.traffic[Scope::Internet as usize].transmit_bytes, 111);
        assert_eq!(ledger.nameless(), 1);
    }

    #[test]
    fn a_window_is_measured_over_its_true_length() {
        let mut ledger = Ledger::default();
        ledger.book(&bytes(7, 100), live("/a"));
        ledger.book(&bytes(7, 50), live("/a"));
        ledger.end_window(2_000_000_000);
        assert!((ledger.entities()[1].transmit_peak.largest(ledger.window_ended_ns()) - 75.0).abs() < 1e-9);
    }

    #[test]
    fn cpu_time_never_falls_and_adds_up_over_cgroups() {
        let mut ledger = Ledger::default();
        ledger.book(&bytes(7, 1), live("/a"));
        ledger.book_cpu(7, CpuUsage { usage_us: 100, throttling: None });
        ledger.book_cpu(7, CpuUsage { usage_us: 90, throttling: None });
        ledger.book_cpu(7, CpuUsage { usage_us: 120, throttling: None });
        ledger.cgroup_gone(7, 1);
        ledger.book(&bytes(8, 1), live("/a"));
        ledger.book_cpu(8, CpuUsage { usage_us: 5, throttling: None });
        assert_eq!(ledger.entities()[1].books.cpu.unwrap().usage_us, 125);
    }
}
