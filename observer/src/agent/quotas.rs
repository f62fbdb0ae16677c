//! Quotas above entities: one on a pod's cgroup, or on a slice, stops what is below and shows in no file below.
//!
//! Such a cgroup has an entity of its own, for its throttling alone. What one quota did is in the file of its own cgroup and
//! in no other, so nothing is booked twice; where both the pod's and the container's were used up at once, both say so.

use super::{directory::Directory, homes::Moves, turns::Turns};
use crate::{
    cgroup::CpuStats,
    ledger::{CpuUsage, Ledger},
};
use std::collections::{HashMap, HashSet};

#[cfg(test)]
mod tests;

/// How often the cgroups above are looked at for a quota.
const LOOK_NS: u64 = 300_000_000_000;

/// The cgroups above entities that have a quota.
#[derive(Debug)]
pub(super) struct Quotas {
    /// Read rarely, so not kept open.
    looked: CpuStats,
    /// Read at each scrape.
    kept: CpuStats,
    turns: Turns,
    /// When a cgroup above was last looked at.
    looked_ns: HashMap<u64, u64>,
    /// Those that had a quota, and nothing else to have an entity for.
    found: HashSet<u64>,
}

impl Quotas {
    /// Keeps at most `max_open` files open.
    pub(super) fn new(max_open: usize) -> Self {
        Self {
            looked: CpuStats::new(0),
            kept: CpuStats::new(max_open),
            turns: Turns::every(LOOK_NS),
            looked_ns: HashMap::new(),
            found: HashSet::new(),
        }
    }

    /// Whether a cgroup has an entity for its quota alone.
    pub(super) fn has(&self, cgroup: u64) -> bool {
        self.found.contains(&cgroup)
    }

    /// Looks for quotas above those entities whose turn it is.
    pub(super) fn look(&mut self, names: Directory<'_>, moves: &Moves, ledger: &mut Ledger, now_ns: u64) {
        for home in &moves.came {
            self.turns.add(home.cgroup, now_ns);
        }
        if moves.some_went {
            let is_live = |cgroup| names.tree.is_live(cgroup);
            self.turns.retain(is_live);
            self.kept.retain(is_live);
            self.looked.retain(is_live);
            self.looked_ns.retain(|cgroup, _| is_live(*cgroup));
            self.found.retain(|cgroup| is_live(*cgroup));
        }
        for cgroup in self.turns.due(now_ns) {
            self.look_above(names, ledger, cgroup, now_ns);
        }
    }

    fn look_above(&mut self, names: Directory<'_>, ledger: &mut Ledger, mut cgroup: u64, now_ns: u64) {
        while let Some(above) = names.tree.parent(cgroup) {
            let before = self.looked_ns.get(&above);
            if before.is_some_and(|before| now_ns.saturating_sub(*before) < LOOK_NS / 32) {
                // And so was everything above it.
                return;
            }
            self.looked_ns.insert(above, now_ns);
            if !ledger.has_books(above)
                && self.looked.throttling(names.tree, above, now_ns).is_some_and(|throttling| throttling.periods > 0)
            {
                ledger.open_cgroup(above, &names, now_ns);
                self.found.insert(above);
            }
            cgroup = above;
        }
    }

    /// Books what the quotas did.
    pub(super) fn read(&mut self, names: Directory<'_>, ledger: &mut Ledger, now_ns: u64) {
        for cgroup in &self.found {
            if let Some(throttling) = self.kept.throttling(names.tree, *cgroup, now_ns) {
                ledger.book_cpu(*cgroup, CpuUsage { usage_us: 0, throttling: Some(throttling) });
            }
        }
    }
}
