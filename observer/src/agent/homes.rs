//! Where the controllers' figures of an entity are read: a container's in its own cgroup, whatever it made below that; of
//! anything else in the cgroup itself.

use super::directory::Directory;
use crate::{
    cgroup::{Cgroup, PodRef, Tree},
    ledger::Ledger,
};
use std::{collections::HashMap, io::Read as _};

/// The homes of the cgroups that have an entity.
#[derive(Debug, Default)]
pub(super) struct Homes {
    of: HashMap<u64, Home>,
    has_looked: bool,
    /// Those of the ledger's entities that were followed.
    changes: u64,
}

/// What became of homes since they were followed before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// New ones, each once.
    pub(super) came: Vec<Home>,
    /// Whether there are cgroups that have gone.
    pub(super) some_went: bool,
}

/// The cgroup that an entity's figures are read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Home {
    pub(super) cgroup: u64,
    /// Whether everything below belongs to the same entity.
    pub(super) is_container: bool,
}

impl Homes {
    /// Follows the entities that came and went.
    ///
    /// An entity begins with a task that runs. Those that only sleep since the agent started use memory too, so whatever has
    /// processes at the first look begins then.
    pub(super) fn follow(&mut self, names: Directory<'_>, ledger: &mut Ledger, now_ns: u64) -> Moves {
        let mut moves = Moves::default();
        if !std::mem::replace(&mut self.has_looked, true) {
            open_populated(names, ledger, now_ns);
        }
        if ledger.changes() == self.changes {
            return moves;
        }
        let strangers: Vec<u64> =
            ledger.live_cgroups().map(|(cgroup, _)| cgroup).filter(|cgroup| !self.of.contains_key(cgroup)).collect();
        for cgroup in strangers {
            let Some(home) = home_of(names, cgroup) else { continue };
            if home.cgroup != cgroup {
                ledger.open_cgroup(home.cgroup, &names, now_ns);
                self.of.insert(cgroup, home);
            }
            if self.of.insert(home.cgroup, home).is_none() {
                moves.came.push(home);
            }
        }
        let before = self.of.len();
        self.of.retain(|cgroup, _| names.tree.is_live(*cgroup));
        moves.some_went = self.of.len() < before;
        self.changes = ledger.changes();
        moves
    }

    /// The homes of cgroups that are their own: each once.
    pub(super) fn own(&self) -> impl Iterator<Item = Home> {
        self.of.iter().filter(|(cgroup, home)| **cgroup == home.cgroup).map(|(_, home)| *home)
    }
}

/// Opens the books of every cgroup that has processes.
pub(super) fn open_populated(names: Directory<'_>, ledger: &mut Ledger, now_ns: u64) {
    for (id, _) in names.tree.live().filter(|(_, cgroup)| has_processes(names.tree, cgroup)) {
        ledger.open_cgroup(id, &names, now_ns);
    }
}

fn has_processes(tree: &Tree, cgroup: &Cgroup) -> bool {
    let mut first = [0];
    let file = std::fs::File::open(tree.directory(cgroup).join("cgroup.procs"));
    file.and_then(|mut file| file.read(&mut first)).is_ok_and(|count| count > 0)
}

fn home_of(names: Directory<'_>, cgroup: u64) -> Option<Home> {
    let own = Home { cgroup, is_container: false };
    // Where pods are not known, entities are cgroups.
    let Some(_) = names.pods else { return Some(own) };
    let Some(path) = PodRef::container_path(&names.tree.get(cgroup)?.path) else { return Some(own) };
    Some(names.tree.at(path).map_or(own, |container| Home { cgroup: container, is_container: true }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::PodStore;

    fn homes(pods: Option<&PodStore>) -> Vec<(u64, bool)> {
        let mut tree = Tree::new("/nonexistent".into());
        let container = format!("/kubepods/pod0a1b2c3d-0000-1111-2222-333344445555/{}", "a".repeat(64));
        for (id, path) in [(1, "/a.service"), (2, &*container), (3, &*format!("{container}/init.scope"))] {
            tree.made(id, path.as_bytes());
        }
        let names = Directory { tree: &tree, pods };
        let mut ledger = Ledger::default();
        for cgroup in [1, 3] {
            ledger.open_cgroup(cgroup, &names, 1);
        }
        let mut homes = Homes::default();
        let moves = homes.follow(names, &mut ledger, 1);
        assert!(moves.came.len() == 2 && !moves.some_went, "{moves:?}");
        assert_eq!(homes.follow(names, &mut ledger, 2), Moves::default());
        let mut own: Vec<_> = homes.own().map(|home| (home.cgroup, home.is_container)).collect();
        own.sort_unstable();
        own
    }

    #[test]
    fn a_containers_figures_are_those_of_its_own_cgroup_whatever_runs_below() {
        assert_eq!(homes(Some(&PodStore::default())), [(1, false), (2, true)]);
    }

    #[test]
    fn without_an_api_server_every_cgroup_is_read_for_itself() {
        assert_eq!(homes(None), [(1, false), (3, false)]);
    }
}
