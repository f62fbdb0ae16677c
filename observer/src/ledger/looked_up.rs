//! What entities call the addresses that they talk to: the names that they looked up, by the answers that they got.

use super::{EntityId, Flow, Ledger, tenancies::words_of};
use observer_ebpf::flows::AddressWords;
use std::{collections::HashMap, net::IpAddr, sync::Arc};

/// Addresses that names are kept of, each for whoever looked it up.
const MOST: usize = 8192;
/// Those of one entity.
const MOST_OF_ONE: usize = 1024;
/// Of one that has too many, the part that makes room: those that were looked up the longest ago.
const PART: usize = 4;
/// Names that are kept of an address, the last.
const NAMES: usize = 4;
/// How much later than its first packet an answer may be read.
const DELAY_SECONDS: u64 = 2;
/// Names that are counted of each entity.
const COUNTED: usize = 64;

/// How often a name was answered, of those that an entity asks for the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedName {
    /// The name, in lower case, without the last dot.
    pub name: Arc<str>,
    /// Answers that were read, whatever they said. One that came when as many as are counted were there already has those of the one that
    /// it took the place of, too: it is at most so many.
    pub answers: u64,
}

/// A name that an entity looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedUpName {
    /// The name, in lower case, without the last dot.
    pub name: Arc<str>,
    /// When it was first answered with the address since another name was.
    pub since_unix_seconds: u64,
    /// When it was last.
    pub as_of_unix_seconds: u64,
}

/// What entities looked up.
#[derive(Debug, Default)]
pub(super) struct LookedUp {
    of: HashMap<EntityId, OfOne>,
    /// Addresses, of all together.
    addresses: usize,
    left_out: u64,
}

#[derive(Debug, Default)]
struct OfOne {
    /// Of each address, the last name last.
    names: HashMap<AddressWords, Vec<LookedUpName>>,
    asked: Vec<AskedName>,
}

impl OfOne {
    /// Counts an answer. Of more names than are counted the rarest makes room, and leaves its count: so a name that is asked for often
    /// cannot be missed, whatever else is asked for once.
    fn count(&mut self, name: &Arc<str>, answers: u64) {
        if let Some(known) = self.asked.iter_mut().find(|known| known.name == *name) {
            known.answers += answers;
        } else if self.asked.len() < COUNTED {
            self.asked.push(AskedName { name: Arc::clone(name), answers });
        } else if let Some(rarest) = self.asked.iter_mut().min_by_key(|known| known.answers) {
            *rarest = AskedName { name: Arc::clone(name), answers: rarest.answers + answers };
        }
    }

    fn note(&mut self, address: AddressWords, name: &Arc<str>, now: u64) {
        let names = self.names.entry(address).or_default();
        match names.last_mut() {
            Some(last) if last.name == *name => last.as_of_unix_seconds = now,
            _ => {
                if names.len() >= NAMES {
                    names.remove(0);
                }
                names.push(LookedUpName { name: Arc::clone(name), since_unix_seconds: now, as_of_unix_seconds: now });
            }
        }
    }

    /// Forgets the addresses that were looked up the longest ago; how many.
    fn make_room(&mut self) -> usize {
        let looked_up = |names: &[LookedUpName]| names.last().map_or(0, |last| last.as_of_unix_seconds);
        let mut times: Vec<_> = self.names.values().map(|names| looked_up(names)).collect();
        if times.is_empty() {
            return 0;
        }
        let part = (times.len() / PART).max(1);
        let (_, newest, _) = times.select_nth_unstable(part - 1);
        let (newest, mut left) = (*newest, part);
        self.names.retain(|_, names| {
            let goes = left > 0 && looked_up(names) <= newest;
            left -= usize::from(goes);
            !goes
        });
        part - left
    }
}

/// The last of these that had been looked up by then.
fn by_then(names: &[LookedUpName], unix_seconds: u64) -> Option<&LookedUpName> {
    names.iter().rfind(|found| found.since_unix_seconds <= unix_seconds.saturating_add(DELAY_SECONDS))
}

impl LookedUp {
    fn note(&mut self, entity: EntityId, address: AddressWords, name: &Arc<str>, now: u64) {
        let one = self.of.entry(entity).or_default();
        let is_new = !one.names.contains_key(&address);
        if is_new && one.names.len() >= MOST_OF_ONE {
            self.forgotten(entity);
        } else if is_new && self.addresses >= MOST {
            let largest = self.of.iter().max_by_key(|(_, one)| one.names.len()).map(|(entity, _)| *entity);
            if let Some(largest) = largest {
                self.forgotten(largest);
            }
        }
        self.addresses += usize::from(is_new);
        self.of.entry(entity).or_default().note(address, name, now);
    }

    fn forgotten(&mut self, entity: EntityId) {
        let gone = self.of.get_mut(&entity).map_or(0, OfOne::make_room);
        self.addresses -= gone;
        self.left_out += gone as u64;
    }

    /// One entity has become another: what the other looked up is newer.
    pub(super) fn rename(&mut self, from: EntityId, to: EntityId) {
        let Some(moved) = self.of.remove(&from) else { return };
        let one = self.of.entry(to).or_default();
        for (address, names) in moved.names {
            one.names.entry(address).or_insert(names);
        }
        moved.asked.iter().for_each(|known| one.count(&known.name, known.answers));
        self.recount();
    }

    /// Forgets the names of entities that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(EntityId) -> bool) {
        self.of.retain(|entity, _| is_there(*entity));
        self.recount();
    }

    fn recount(&mut self) {
        self.addresses = self.of.values().map(|one| one.names.len()).sum();
    }
}

impl Ledger {
    /// A cgroup was told by a DNS server that a name has these addresses, if any.
    pub fn looked_up(&mut self, cgroup: u64, name: &str, addresses: &[IpAddr], now_unix_seconds: u64) {
        let Some(entity) = self.by_cgroup.get(&cgroup).map(|at| self.entities[*at].id) else { return };
        let name: Arc<str> = name.into();
        self.looked_up.of.entry(entity).or_default().count(&name, 1);
        for address in addresses {
            self.looked_up.note(entity, words_of(*address), &name, now_unix_seconds);
        }
    }

    /// The name that a flow's entity had looked up last for its far end, of a flow that last carried something then.
    pub fn looked_up_name(&self, flow: &Flow, unix_seconds: u64) -> Option<&LookedUpName> {
        by_then(self.looked_up.of.get(&flow.entity)?.names.get(&flow.remote)?, unix_seconds)
    }

    /// The names that an entity was answered the most often, the most often first.
    pub fn names_asked(&self, entity: EntityId) -> Vec<&AskedName> {
        let mut names: Vec<_> = self.looked_up.of.get(&entity).into_iter().flat_map(|one| &one.asked).collect();
        names.sort_by(|one, other| other.answers.cmp(&one.answers).then_with(|| one.name.cmp(&other.name)));
        names
    }

    /// Who had looked an address up by then, by which name.
    pub fn names_looked_up(
        &self,
        address: IpAddr,
        unix_seconds: u64,
    ) -> impl Iterator<Item = (EntityId, &LookedUpName)> {
        let address = words_of(address);
        let all = self.looked_up.of.iter();
        all.filter_map(move |(entity, one)| Some((*entity, by_then(one.names.get(&address)?, unix_seconds)?)))
    }

    /// Addresses whose names were forgotten, since there were too many.
    pub fn names_left_out(&self) -> u64 {
        self.looked_up.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(names: &mut LookedUp, entity: u64, address: u64, name: &str, now: u64) {
        names.note(EntityId(entity), [0, address], &name.into(), now);
    }

    fn name(names: &LookedUp, entity: u64, address: u64, then: u64) -> Option<&str> {
        Some(&*by_then(names.of.get(&EntityId(entity))?.names.get(&[0, address])?, then)?.name)
    }

    #[test]
    fn an_address_goes_by_the_name_of_its_time_for_whoever_looked_it_up() {
        let mut names = LookedUp::default();
        note(&mut names, 1, 7, "a.example", 100);
        note(&mut names, 1, 7, "a.example", 150);
        note(&mut names, 1, 7, "b.example", 200);
        note(&mut names, 2, 7, "c.example", 300);
        let told = [50, 98, 197, 198, 900].map(|then| name(&names, 1, 7, then));
        let (a, b) = (Some("a.example"), Some("b.example"));
        assert_eq!(told, [None, a, a, b, b]);
        assert_eq!(name(&names, 2, 7, 900), Some("c.example"));
        for (at, which) in ["d", "e", "f"].into_iter().enumerate() {
            note(&mut names, 1, 7, which, 1000 + 10 * at as u64);
        }
        assert_eq!((name(&names, 1, 7, 150), name(&names, 1, 7, 200), names.addresses), (None, b, 2));
    }

    #[test]
    fn who_gets_a_name_keeps_what_it_looked_up_and_who_is_gone_has_nothing() {
        let mut names = LookedUp::default();
        note(&mut names, 1, 7, "old.example", 1);
        note(&mut names, 1, 8, "more.example", 1);
        note(&mut names, 3, 7, "new.example", 2);
        names.rename(EntityId(1), EntityId(3));
        assert_eq!((name(&names, 3, 7, 9), name(&names, 3, 8, 9)), (Some("new.example"), Some("more.example")));
        assert_eq!(names.addresses, 2);
        names.retain(|_| false);
        assert_eq!((names.addresses, names.of.len()), (0, 0));
    }

    #[test]
    fn one_that_looks_up_without_end_loses_its_own_names_and_nobody_elses() {
        let mut names = LookedUp::default();
        note(&mut names, 2, 7, "quiet.example", 1);
        for address in 0..10 * MOST as u64 {
            note(&mut names, 1, address, "loud.example", 1000 + address);
        }
        assert_eq!(name(&names, 2, 7, 9), Some("quiet.example"));
        let kept = names.of[&EntityId(1)].names.len();
        assert!(kept <= MOST_OF_ONE && kept > MOST_OF_ONE / 2, "{kept}");
        assert_eq!((names.addresses, names.left_out), (kept + 1, (10 * MOST - kept) as u64));
        assert!(name(&names, 1, 10 * MOST as u64 - 1, u64::MAX).is_some());
        // Many together.
        for address in 0..2 * MOST as u64 {
            note(&mut names, 3 + address % 16, address, "many.example", 100_000 + address);
        }
        assert!(names.addresses <= MOST, "{}", names.addresses);
        assert_eq!(name(&names, 2, 7, 9), Some("quiet.example"));
    }

    #[test]
    fn a_name_that_is_asked_for_often_is_counted_whatever_else_is_asked_for() {
        let mut one = OfOne::default();
        for number in 0..10_000 {
            one.count(&"loop.example".into(), 1);
            one.count(&format!("{number}.example").into(), 1);
        }
        let mut ledger = Ledger::default();
        ledger.looked_up.of.insert(EntityId(7), one);
        ledger.looked_up.rename(EntityId(7), EntityId(8));
        let names = ledger.names_asked(EntityId(8));
        assert_eq!((names.len(), &*names[0].name, names[0].answers), (COUNTED, "loop.example", 10_000));
        // None of the others can be more than all of them share.
        assert!(names[1].answers <= 20_000 / COUNTED as u64, "{:?}", names[1]);
        assert!(ledger.names_asked(EntityId(7)).is_empty());
    }
}
