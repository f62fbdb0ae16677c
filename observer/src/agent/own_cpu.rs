//! The CPU time of a cgroup's own tasks: `cpu.stat` counts everything below a cgroup too, and an entity is charged for
//! itself alone.
//!
//! A child that vanishes takes its time out of reach but leaves it in its parent's: what was read of it last stays
//! subtracted. What it used after that reading falls to the parent; docs/metrics.md says so.

use crate::{
    cgroup::{CpuStats, Tree},
    ledger::{CpuUsage, Ledger},
};
use std::collections::HashMap;

/// Reads the time of every entity's cgroups.
#[derive(Debug, Default)]
pub(super) struct OwnCpu {
    stats: CpuStats,
    /// Children of cgroups that run something themselves: their parent and the time last read.
    children: HashMap<u64, Child>,
    /// The time of vanished children, by parent.
    departed_us: HashMap<u64, u64>,
    reading: u64,
}

#[derive(Debug)]
struct Child {
    parent: u64,
    usage_us: u64,
    reading: u64,
}

impl OwnCpu {
    /// Books the time of every cgroup that has an entity.
    pub(super) fn read(&mut self, tree: &Tree, ledger: &mut Ledger) {
        self.reading += 1;
        let cgroups: Vec<u64> = ledger.live_cgroups().collect();
        let mut usages = Vec::with_capacity(cgroups.len());
        for cgroup in &cgroups {
            if let Some(found) = tree.get(*cgroup)
                && let Ok(usage) = self.stats.read(&tree.directory(found))
            {
                usages.push((*cgroup, usage));
            }
        }
        for (cgroup, usage) in usages {
            let below_us = self.below(cgroup, tree) + self.departed_us.get(&cgroup).copied().unwrap_or(0);
            ledger.book_cpu(cgroup, CpuUsage { usage_us: usage.usage_us.saturating_sub(below_us), ..usage });
        }
        self.part_with_vanished();
        self.departed_us.retain(|parent, _| tree.get(*parent).is_some());
    }

    /// The time of a cgroup's children.
    fn below(&mut self, parent: u64, tree: &Tree) -> u64 {
        let mut sum = 0;
        for child in tree.children(parent) {
            let Some(cgroup) = tree.get(*child) else { continue };
            let Ok(usage) = self.stats.read(&tree.directory(cgroup)) else { continue };
            self.children.insert(*child, Child { parent, usage_us: usage.usage_us, reading: self.reading });
            sum += usage.usage_us;
        }
        sum
    }

    fn part_with_vanished(&mut self) {
        let (departed, reading) = (&mut self.departed_us, self.reading);
        self.children.retain(|_, child| {
            let there = child.reading == reading;
            if !there {
                *departed.entry(child.parent).or_default() += child.usage_us;
            }
            there
        });
    }
}
