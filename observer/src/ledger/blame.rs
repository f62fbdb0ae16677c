//! Who made whom wait, pair by pair; of waits whose kind the programs could not tell, also by kind.

use super::{By, Caused, Culprit, EntityId, Ledger, Names};
use std::collections::HashMap;

/// Who had the CPU, as the pairs tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// An entity.
    Entity(EntityId),
    /// Nobody: the CPU was idle and had yet to wake up.
    Idle,
    /// Nobody: the victim's CPU quota was used up.
    Throttled,
}

/// Pairs that are kept.
const MAX_PAIRS: usize = 8192;

/// Nanoseconds by victim and cause, since the agent started.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    sums: HashMap<(EntityId, Cause), u64>,
    left_out: u64,
}

impl Pairs {
    fn add(&mut self, victim: EntityId, cause: Cause, ns: u64) {
        let full = self.sums.len() >= MAX_PAIRS;
        match self.sums.get_mut(&(victim, cause)) {
            Some(sum) => *sum += ns,
            None if full => self.left_out += 1,
            None => drop(self.sums.insert((victim, cause), ns)),
        }
    }

    /// One entity has become another.
    pub(super) fn rename(&mut self, from: EntityId, to: EntityId) {
        let moved = |id| if id == from { to } else { id };
        let concerned = |(victim, cause): &(EntityId, Cause)| *victim == from || *cause == Cause::Entity(from);
        let pairs: Vec<_> = self.sums.extract_if(|pair, _| concerned(pair)).collect();
        for ((victim, cause), ns) in pairs {
            let cause = if let Cause::Entity(id) = cause { Cause::Entity(moved(id)) } else { cause };
            self.add(moved(victim), cause, ns);
        }
    }

    /// Forgets the pairs of entities that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(EntityId) -> bool) {
        let there = |cause: &Cause| if let Cause::Entity(id) = cause { is_there(*id) } else { true };
        self.sums.retain(|(victim, cause), _| is_there(*victim) && there(cause));
    }
}

impl Ledger {
    /// Who waited for whom, and how many nanoseconds, since the agent started; of entities that are there.
    pub fn wait_pairs(&self) -> impl Iterator<Item = (EntityId, Cause, u64)> {
        self.pairs.sums.iter().map(|((victim, cause), ns)| (*victim, *cause, *ns))
    }

    /// Waits of pairs for which there was no room.
    pub fn pairs_left_out(&self) -> u64 {
        self.pairs.left_out
    }

    pub(super) fn book_caused(&mut self, caused: &[Caused], names: &impl Names) {
        for Caused { victim, culprit, ns, is_open } in caused {
            let at = self.known(*victim);
            let (by, cause) = match *culprit {
                Culprit::Idle => (By::Host, Cause::Idle),
                Culprit::Throttled => (By::Throttled, Cause::Throttled),
                Culprit::Cgroup(cgroup) => {
                    let by = if *victim == cgroup { By::SameContainer } else { kind(names, *victim, cgroup) };
                    (by, Cause::Entity(self.entities[self.known(cgroup)].id))
                }
            };
            self.pairs.add(self.entities[at].id, cause, *ns);
            if *is_open {
                self.add_to_books(at, |books| books.caused_ns[by as usize] += ns);
            }
        }
    }
}

/// A culprit that nobody knows any more is the host's.
fn kind(names: &impl Names, victim: u64, culprit: u64) -> By {
    let culprit = names.membership(culprit);
    culprit.map_or(By::Host, |culprit| By::of(names.membership(victim).unwrap_or_default(), culprit))
}
