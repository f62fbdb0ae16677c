//! Processes that the kernel killed for want of memory, booked to the cgroups that they were in.
//!
//! The node's own count is looked at now and then; only when it rises are the cgroups' files read, all of them. v2 counts a
//! kill in every cgroup above too, where it stays when the container has gone; what no file shows is unattributed.

use super::directory::Directory;
use crate::{
    cgroup::{MemoryFiles, Tree},
    ledger::Ledger,
    procfs::OomKillReader,
};
use std::{collections::HashMap, path::Path};

#[cfg(test)]
mod tests;

/// Books kills since the agent started.
#[derive(Debug)]
pub(super) struct OomKills {
    files: MemoryFiles,
    node: OomKillReader,
    /// The node's count, where it can be read.
    of_node: Option<u64>,
    /// The count of each cgroup that has one.
    of: HashMap<u64, u64>,
}

impl OomKills {
    /// Notes the counts as they are: they begin at zero.
    pub(super) fn new(tree: &Tree, proc_path: &Path, ledger: &mut Ledger, now_ns: u64) -> Self {
        let mut node = OomKillReader::default();
        let of_node = node.read(proc_path).ok();
        let mut kills = Self { files: MemoryFiles::new(0), node, of_node, of: HashMap::new() };
        kills.of = kills.counts(tree, now_ns);
        if of_node.is_some() {
            // There from the start, so that the first one is a rise.
            ledger.book_oom_kills(0, 0);
        }
        kills
    }

    /// Books what came since the last look.
    pub(super) fn read(&mut self, names: Directory<'_>, proc_path: &Path, ledger: &mut Ledger, now_ns: u64) {
        let Ok(of_node) = self.node.read(proc_path) else { return };
        let came = of_node.saturating_sub(self.of_node.replace(of_node).unwrap_or(of_node));
        if came == 0 {
            return;
        }
        let counts = self.counts(names.tree, now_ns);
        let before = std::mem::take(&mut self.of);
        let rise = |cgroup: &u64| {
            let now = counts.get(cgroup).copied().unwrap_or_default();
            now.saturating_sub(before.get(cgroup).copied().unwrap_or_default())
        };
        let is_hierarchical = names.tree.v1().memory.is_none();
        let mut booked = 0;
        for cgroup in counts.keys() {
            let below = if is_hierarchical { names.tree.children(*cgroup).iter().map(rise).sum() } else { 0 };
            let own = rise(cgroup).saturating_sub(below);
            if own > 0 {
                ledger.open_cgroup(*cgroup, &names, now_ns);
                ledger.book_oom_kills(*cgroup, own);
                booked += own;
            }
        }
        if came > booked {
            ledger.book_oom_kills(0, came - booked);
        }
        self.of = counts;
    }

    fn counts(&mut self, tree: &Tree, now_ns: u64) -> HashMap<u64, u64> {
        self.files.retain(|cgroup| tree.is_live(cgroup));
        tree.live().filter_map(|(cgroup, _)| Some((cgroup, self.files.oom_kills(tree, cgroup, now_ns)?))).collect()
    }
}
