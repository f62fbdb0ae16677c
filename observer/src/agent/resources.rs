//! What the controllers' files tell of the entities, beside CPU time: memory, kills, quotas above them, pressure.

use super::{
    directory::Directory, homes::Homes, memory::Memory, oom_kills::OomKills, pressure::PressureReader, quotas::Quotas,
};
use crate::{cgroup::Tree, ledger::Ledger};
use std::path::Path;

/// The kernel keeps a page for each open file, charged to the agent: these are 4 MiB, for the memory of 500 cgroups.
const MOST_KEPT_OPEN: usize = 1024;

/// Between two looks at the node's count of kills, which takes the kernel 50 us to add up.
const KILLS_EVERY_NS: u64 = 5_000_000_000;

/// Everything that reads them, and when.
#[derive(Debug)]
pub(super) struct Resources {
    homes: Homes,
    memory: Memory,
    oom_kills: OomKills,
    kills_looked_for_ns: u64,
    quotas: Quotas,
    pressure: Option<PressureReader>,
}

impl Resources {
    /// Keeps a third of `spare_descriptors` open at most, and no more than [`MOST_KEPT_OPEN`] for memory and for quotas.
    pub(super) fn new(
        tree: &Tree,
        proc_path: &Path,
        spare_descriptors: usize,
        with_pressure: bool,
        ledger: &mut Ledger,
        now_ns: u64,
    ) -> Self {
        let share = spare_descriptors / 9;
        Self {
            homes: Homes::default(),
            memory: Memory::new(share.min(MOST_KEPT_OPEN)),
            oom_kills: OomKills::new(tree, proc_path, ledger, now_ns),
            kills_looked_for_ns: now_ns,
            quotas: Quotas::new(share.min(MOST_KEPT_OPEN)),
            pressure: with_pressure.then(|| PressureReader::new(proc_path, share)).flatten(),
        }
    }

    /// What is read with each sample.
    pub(super) fn sample(&mut self, names: Directory<'_>, proc_path: &Path, ledger: &mut Ledger, now_ns: u64) {
        let moves = self.homes.follow(names, ledger, now_ns);
        if now_ns.saturating_sub(self.kills_looked_for_ns) >= KILLS_EVERY_NS {
            self.look_for_kills(names, proc_path, ledger, now_ns);
        }
        let some_read = self.memory.read(names, &moves, ledger, now_ns);
        self.quotas.look(names, &moves, ledger, now_ns);
        if some_read || moves.some_went {
            ledger.sum_memory();
        }
    }

    fn look_for_kills(&mut self, names: Directory<'_>, proc_path: &Path, ledger: &mut Ledger, now_ns: u64) {
        self.kills_looked_for_ns = now_ns;
        self.oom_kills.read(names, proc_path, ledger, now_ns);
    }

    /// What only a scrape needs.
    pub(super) fn scrape(&mut self, names: Directory<'_>, proc_path: &Path, ledger: &mut Ledger, now_ns: u64) {
        self.look_for_kills(names, proc_path, ledger, now_ns);
        self.quotas.read(names, ledger, now_ns);
        if let Some(pressure) = &mut self.pressure {
            pressure.read(names, &self.homes, ledger, now_ns);
        }
        ledger.sum_memory();
    }

    /// Whether a cgroup has an entity for its quota alone.
    pub(super) fn has_quota_alone(&self, cgroup: u64) -> bool {
        self.quotas.has(cgroup)
    }
}
