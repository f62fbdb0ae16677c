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
#[derive(Debug)]
pub(super) struct OwnCpu {
    stats: CpuStats,
    /// What was found at the last reading of each cgroup.
    read: HashMap<u64, Reading>,
    /// Children of cgroups that run something themselves: their parent and the time last read.
    children: HashMap<u64, Child>,
    /// The time of vanished children, by parent.
    departed_us: HashMap<u64, u64>,
    readings: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    usage: CpuUsage,
    /// The waits of its entity then.
    waits: u64,
    /// Whether it had used nothing since the reading before.
    idle: bool,
}

#[derive(Debug)]
struct Child {
    parent: u64,
    usage_us: u64,
    readings: u64,
}

impl OwnCpu {
    /// Keeps at most `max_open` files open.
    pub(super) fn new(max_open: usize) -> Self {
        Self {
            stats: CpuStats::new(max_open),
            read: HashMap::new(),
            children: HashMap::new(),
            departed_us: HashMap::new(),
            readings: 0,
        }
    }

    /// Books the time of every cgroup that has an entity.
    ///
    /// A cgroup that used nothing between two readings, and none of whose tasks got a CPU since, has used nothing
    /// since: its file need not be read. (One that spins without ever leaving its CPU was not idle at the last reading.)
    pub(super) fn read(&mut self, tree: &Tree, ledger: &mut Ledger) {
        self.readings += 1;
        let cgroups: Vec<(u64, u64)> = ledger.live_cgroups().collect();
        for (cgroup, waits) in cgroups {
            let last = self.read.get(&cgroup).copied();
            let children = tree.children(cgroup);
            if children.is_empty() && last.is_some_and(|last| last.idle && last.waits == waits) {
                continue;
            }
            let Some(usage) = self.usage(cgroup, tree) else { continue };
            let idle = last.is_some_and(|last| last.usage == usage);
            self.read.insert(cgroup, Reading { usage, waits, idle });
            let below_us = self.below(cgroup, tree) + self.departed_us.get(&cgroup).copied().unwrap_or(0);
            ledger.book_cpu(cgroup, CpuUsage { usage_us: usage.usage_us.saturating_sub(below_us), ..usage });
        }
        self.part_with_vanished();
        let there = |cgroup: u64| tree.get(cgroup).is_some_and(|cgroup| cgroup.gone_at_ns.is_none());
        self.departed_us.retain(|parent, _| there(*parent));
        self.read.retain(|cgroup, _| there(*cgroup));
        self.stats.retain(there);
    }

    fn usage(&mut self, cgroup: u64, tree: &Tree) -> Option<CpuUsage> {
        let found = tree.get(cgroup)?;
        self.stats.read(cgroup, || tree.directory(found)).ok()
    }

    /// The time of a cgroup's children.
    fn below(&mut self, parent: u64, tree: &Tree) -> u64 {
        let mut sum = 0;
        for child in tree.children(parent) {
            let Some(CpuUsage { usage_us, .. }) = self.usage(*child, tree) else { continue };
            self.children.insert(*child, Child { parent, usage_us, readings: self.readings });
            sum += usage_us;
        }
        sum
    }

    fn part_with_vanished(&mut self) {
        let (departed, readings) = (&mut self.departed_us, self.readings);
        self.children.retain(|_, child| {
            let there = child.readings == readings;
            if !there {
                *departed.entry(child.parent).or_default() += child.usage_us;
            }
            there
        });
    }
}
