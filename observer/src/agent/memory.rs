//! What entities use of memory. `memory.stat` is dear to read, so working sets are read in turns, a few at each sample.

use super::{
    directory::Directory,
    homes::{Home, Moves},
    turns::Turns,
};
use crate::{cgroup::MemoryFiles, ledger::Ledger};
use std::collections::HashSet;

#[cfg(test)]
mod tests;

/// How old a working set may be: half a minute, as a scrape may be.
const WORKING_SET_NS: u64 = 30_000_000_000;
/// How old a limit may be; hardly any ever changes.
const LIMIT_NS: u64 = 300_000_000_000;

/// Reads the memory of every entity.
#[derive(Debug)]
pub(super) struct Memory {
    files: MemoryFiles,
    working_sets: Turns,
    limits: Turns,
    /// The homes that are containers.
    containers: HashSet<u64>,
}

impl Memory {
    /// Keeps at most `max_open` files open.
    pub(super) fn new(max_open: usize) -> Self {
        Self {
            files: MemoryFiles::new(max_open),
            working_sets: Turns::every(WORKING_SET_NS),
            limits: Turns::every(LIMIT_NS),
            containers: HashSet::new(),
        }
    }

    /// Books the memory of those whose turn it is. True when there was any.
    pub(super) fn read(&mut self, names: Directory<'_>, moves: &Moves, ledger: &mut Ledger, now_ns: u64) -> bool {
        for Home { cgroup, is_container } in &moves.came {
            self.working_sets.add(*cgroup, now_ns);
            self.limits.add(*cgroup, now_ns);
            if *is_container {
                self.containers.insert(*cgroup);
            }
        }
        if moves.some_went {
            let is_live = |cgroup| names.tree.is_live(cgroup);
            self.working_sets.retain(is_live);
            self.limits.retain(is_live);
            self.files.retain(is_live);
            self.containers.retain(|cgroup| is_live(*cgroup));
        }
        let due = self.working_sets.due(now_ns);
        for cgroup in &due {
            if let Some(bytes) = self.working_set(names, *cgroup, now_ns) {
                ledger.book_working_set(*cgroup, bytes);
            }
        }
        for cgroup in self.limits.due(now_ns) {
            ledger.book_memory_limit(cgroup, self.files.limit(names.tree, cgroup, now_ns));
        }
        !due.is_empty()
    }

    /// The files count everything below. What is below a container is the container's; what is below another cgroup has, or
    /// would have, an entity of its own.
    fn working_set(&mut self, names: Directory<'_>, cgroup: u64, now_ns: u64) -> Option<u64> {
        let tree = names.tree;
        // v2 has no figures of its root. v1's would be those of the node less those of v2's cgroups, but there are others.
        tree.parent(cgroup)?;
        let mut bytes = self.files.usage(tree, cgroup, now_ns)?.working_set_bytes();
        if !self.containers.contains(&cgroup) {
            for child in tree.children(cgroup) {
                let below = self.files.usage(tree, *child, now_ns);
                bytes = bytes.saturating_sub(below.map_or(0, crate::cgroup::Usage::working_set_bytes));
            }
        }
        Some(bytes)
    }
}
