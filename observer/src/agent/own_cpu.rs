//! The CPU time of a cgroup's own tasks: `cpu.stat` counts everything below a cgroup too, and an entity is charged for
//! itself alone.
//!
//! A child that vanishes takes its time out of reach but leaves it in its parent's: what was read of it last stays
//! subtracted. What it used after that reading falls to the parent; docs/metrics.md says so.

use super::{directory::Directory, homes::open_populated};
use crate::{
    cgroup::{CpuStats, Tree},
    ledger::{CpuUsage, Ledger},
};
use std::collections::HashMap;

#[cfg(test)]
mod tests;

/// Reads the time of every entity's cgroups.
#[derive(Debug)]
pub(super) struct OwnCpu {
    stats: CpuStats,
    /// What was found at the last reading of each cgroup.
    read: HashMap<u64, Reading>,
    /// Children of cgroups that run something themselves: their parent and the time last read.
    children: HashMap<u64, Child>,
    /// The time of vanished children, by parent.
    departed_us: HashMap<u64, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    usage: CpuUsage,
    /// The waits of its entity then.
    waits: u64,
    /// Since when it was found so.
    since_ns: u64,
    /// Whether it had used nothing for long enough to say so.
    idle: bool,
}

/// The kernel adds to the time of a task that keeps its CPU at its ticks, which are a second apart at the most (`nohz_full`): one that was
/// found with the same time twice within that may run all the same.
const TICKS_NS: u64 = 2_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Child {
    parent: u64,
    usage_us: u64,
}

impl OwnCpu {
    /// Keeps at most `max_open` files open.
    pub(super) fn new(max_open: usize) -> Self {
        Self {
            stats: CpuStats::new(max_open),
            read: HashMap::new(),
            children: HashMap::new(),
            departed_us: HashMap::new(),
        }
    }

    /// Books the time of every cgroup that has an entity, but for those that are there for their quota alone.
    ///
    /// While waits are counted, a cgroup that used nothing over some ticks, and none of whose tasks got a CPU since,
    /// has used nothing since: its file need not be read. (One that spins without ever leaving its CPU was not idle at the
    /// last reading.) Where they are not counted, a cgroup may have run without anybody having booked anything on it:
    /// then every cgroup with processes has an entity, and every file is read.
    pub(super) fn read(
        &mut self,
        names: Directory<'_>,
        ledger: &mut Ledger,
        waits_are_counted: bool,
        has_quota_alone: impl Fn(u64) -> bool,
        now_ns: u64,
    ) {
        let tree = names.tree;
        if !waits_are_counted {
            open_populated(names, ledger, now_ns);
        }
        // First: what has gone is not among the children any more.
        self.part_with_vanished(tree);
        let cgroups: Vec<(u64, u64)> = ledger.live_cgroups().collect();
        for (cgroup, waits) in cgroups {
            let last = self.read.get(&cgroup).copied();
            let childless = tree.children(cgroup).is_empty();
            if waits_are_counted && childless && last.is_some_and(|last| last.idle && last.waits == waits) {
                continue;
            }
            if waits == 0 && has_quota_alone(cgroup) {
                continue;
            }
            let Ok(usage) = self.stats.read(tree, cgroup, now_ns) else { continue };
            let is_as_it_was = |last: &Reading| last.usage == usage && last.waits == waits;
            let since_ns = last.filter(is_as_it_was).map_or(now_ns, |last| last.since_ns);
            let idle = now_ns.saturating_sub(since_ns) >= TICKS_NS;
            self.read.insert(cgroup, Reading { usage, waits, since_ns, idle });
            let below_us = self.below(cgroup, tree, now_ns) + self.departed_us.get(&cgroup).copied().unwrap_or(0);
            ledger.book_cpu(cgroup, CpuUsage { usage_us: usage.usage_us.saturating_sub(below_us), ..usage });
        }
        self.read.retain(|cgroup, _| tree.is_live(*cgroup));
        self.stats.retain(|cgroup| tree.is_live(cgroup));
    }

    /// The time of a cgroup's children. One that cannot be read now has at least what it had.
    fn below(&mut self, parent: u64, tree: &Tree, now_ns: u64) -> u64 {
        let mut sum = 0;
        for child in tree.children(parent) {
            if let Ok(CpuUsage { usage_us, .. }) = self.stats.read(tree, *child, now_ns) {
                self.children.insert(*child, Child { parent, usage_us });
            }
            sum += self.children.get(child).map_or(0, |child| child.usage_us);
        }
        sum
    }

    /// Only the tree says who is gone: a file may be unreadable for a moment.
    fn part_with_vanished(&mut self, tree: &Tree) {
        let departed = &mut self.departed_us;
        self.children.retain(|id, child| {
            let there = tree.is_live(*id);
            if !there {
                *departed.entry(child.parent).or_default() += child.usage_us;
            }
            there
        });
        departed.retain(|parent, _| tree.is_live(*parent));
    }
}
