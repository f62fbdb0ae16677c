//! What entities call the addresses that they talk to: the names that they looked up, by the answers that they got.

use super::{EntityId, Flow, Ledger, tenancies::words_of};
use indexmap::IndexMap;
use observer_ebpf::flows::AddressWords;
use std::{net::IpAddr, sync::Arc};

/// Addresses that names are kept of, each for whoever looked it up.
const MOST: usize = 8192;
/// The part that makes room when there is none: those that were looked up the longest ago.
const PART: usize = 4;

/// A name that an entity looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedUpName {
    /// The name, in lower case, without the last dot.
    pub name: Arc<str>,
    /// When it was last answered with the address.
    pub as_of_unix_seconds: u64,
}

/// The last name of each address, by who looked it up.
#[derive(Debug, Default)]
pub(super) struct LookedUp {
    names: IndexMap<(EntityId, AddressWords), LookedUpName>,
    left_out: u64,
}

impl LookedUp {
    fn note(&mut self, entity: EntityId, address: AddressWords, found: LookedUpName) {
        if self.names.len() >= MOST && !self.names.contains_key(&(entity, address)) {
            self.make_room();
        }
        self.names.insert((entity, address), found);
    }

    fn make_room(&mut self) {
        let mut times: Vec<_> = self.names.values().map(|found| found.as_of_unix_seconds).collect();
        let part = times.len() / PART;
        let (_, newest, _) = times.select_nth_unstable(part);
        let (newest, mut left) = (*newest, part);
        self.names.retain(|_, found| {
            let goes = left > 0 && found.as_of_unix_seconds <= newest;
            left -= usize::from(goes);
            !goes
        });
        self.left_out += part as u64;
    }

    /// One entity has become another.
    pub(super) fn rename(&mut self, from: EntityId, to: EntityId) {
        let moved: Vec<_> = self.names.extract_if(.., |(entity, _), _| *entity == from).collect();
        for ((_, address), found) in moved {
            self.names.insert((to, address), found);
        }
    }

    /// Forgets the names of entities that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(EntityId) -> bool) {
        self.names.retain(|(entity, _), _| is_there(*entity));
    }
}

impl Ledger {
    /// A cgroup was told by a DNS server that a name has these addresses.
    pub fn looked_up(&mut self, cgroup: u64, name: &str, addresses: &[IpAddr], now_unix_seconds: u64) {
        let Some(entity) = self.by_cgroup.get(&cgroup).map(|at| self.entities[*at].id) else { return };
        let found = LookedUpName { name: name.into(), as_of_unix_seconds: now_unix_seconds };
        for address in addresses {
            self.looked_up.note(entity, words_of(*address), found.clone());
        }
    }

    /// The name that a flow's entity looked up for its far end.
    pub fn looked_up_name(&self, flow: &Flow) -> Option<&LookedUpName> {
        self.looked_up.names.get(&(flow.entity, flow.remote))
    }

    /// Who looked an address up, by which name.
    pub fn names_looked_up(&self, address: IpAddr) -> impl Iterator<Item = (EntityId, &LookedUpName)> {
        let wanted = words_of(address);
        let names = self.looked_up.names.iter();
        names.filter(move |((_, address), _)| *address == wanted).map(|((entity, _), found)| (*entity, found))
    }

    /// Names that were forgotten, since there were too many.
    pub fn names_left_out(&self) -> u64 {
        self.looked_up.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, as_of_unix_seconds: u64) -> LookedUpName {
        LookedUpName { name: name.into(), as_of_unix_seconds }
    }

    #[test]
    fn the_last_name_of_an_address_is_whose_it_is_that_looked_it_up() {
        let mut names = LookedUp::default();
        names.note(EntityId(1), [0, 7], found("a.example", 1));
        names.note(EntityId(1), [0, 7], found("b.example", 2));
        names.note(EntityId(2), [0, 7], found("c.example", 3));
        assert_eq!(names.names[&(EntityId(1), [0, 7])], found("b.example", 2));
        names.rename(EntityId(1), EntityId(3));
        assert_eq!(names.names[&(EntityId(3), [0, 7])], found("b.example", 2));
        names.retain(|entity| entity == EntityId(2));
        assert_eq!(names.names.len(), 1);
    }

    #[test]
    fn where_there_is_no_room_those_go_that_were_looked_up_the_longest_ago() {
        let mut names = LookedUp::default();
        for address in 0..MOST as u64 {
            names.note(EntityId(1), [0, address], found("a.example", 1000 + address));
        }
        names.note(EntityId(1), [0, 0], found("again.example", 9_000_000));
        assert_eq!((names.names.len(), names.left_out), (MOST, 0));
        names.note(EntityId(1), [1, 0], found("new.example", 9_000_001));
        assert_eq!((names.names.len(), names.left_out), (MOST - MOST / PART + 1, (MOST / PART) as u64));
        for (address, there) in [([0, 0], true), ([0, 1], false), ([0, MOST as u64 - 1], true), ([1, 0], true)] {
            assert_eq!(names.names.contains_key(&(EntityId(1), address)), there, "{address:?}");
        }
    }
}
