//! Memory, pressure and kills: what the controllers' files say of cgroups, booked to entities.

use super::{Identity, Ledger, books::UNATTRIBUTED};
use std::collections::HashMap;

#[cfg(test)]
mod tests;

/// What is used of memory now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// What is charged, less page cache that was not used lately.
    pub working_set_bytes: u64,
    /// The limit; `None` for none.
    pub limit_bytes: Option<u64>,
}

/// Pressure stall information by resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// `cpu.pressure`.
    pub cpu: Stall,
    /// `memory.pressure`.
    pub memory: Stall,
    /// `io.pressure`.
    pub io: Stall,
}

/// Microseconds of stall since the cgroup was made; `None` for what the kernel does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// In which at least one task was stalled.
    pub some_us: Option<u64>,
    /// In which all were that had something to do.
    pub full_us: Option<u64>,
}

impl Pressure {
    /// Whether the kernel counted anything at all.
    pub fn is_there(&self) -> bool {
        *self != Self::default()
    }

    /// Adds what came between two readings of one cgroup.
    pub(super) fn add(&mut self, now: &Self, before: &Self) {
        let Self { cpu, memory, io } = self;
        for (sum, now, before) in
            [(cpu, now.cpu, before.cpu), (memory, now.memory, before.memory), (io, now.io, before.io)]
        {
            add(&mut sum.some_us, now.some_us, before.some_us);
            add(&mut sum.full_us, now.full_us, before.full_us);
        }
    }
}

fn add(sum: &mut Option<u64>, now: Option<u64>, before: Option<u64>) {
    if let Some(now) = now {
        *sum.get_or_insert_default() += now.saturating_sub(before.unwrap_or_default());
    }
}

impl Ledger {
    /// Books what a cgroup uses of memory now, less what cgroups below it use that are of other entities.
    pub fn book_working_set(&mut self, cgroup: u64, bytes: u64) {
        let Some((at, memory)) = self.memory_of(cgroup) else { return };
        memory.working_set_bytes = bytes;
        // From now on a kill would be seen: so that the first one is a rise.
        if self.counted(at).oom_kills.is_none() {
            self.add_to_books(at, |books| _ = books.oom_kills.get_or_insert_default());
        }
    }

    /// Books a cgroup's own limit of memory. Its working set has to be booked before.
    pub fn book_memory_limit(&mut self, cgroup: u64, bytes: Option<u64>) {
        let Some(at) = self.by_cgroup.get(&cgroup) else { return };
        if let Some((_, memory)) = self.accounts[*at].memory.iter_mut().find(|(id, _)| *id == cgroup) {
            memory.limit_bytes = bytes;
        }
    }

    /// A cgroup's place for its use of memory, if it is there.
    fn memory_of(&mut self, cgroup: u64) -> Option<(usize, &mut MemoryUse)> {
        let at = *self.by_cgroup.get(&cgroup)?;
        let account = &mut self.accounts[at];
        if !account.live.iter().any(|member| member.cgroup == cgroup) {
            return None;
        }
        let known = account.memory.iter().position(|(id, _)| *id == cgroup);
        let place = known.unwrap_or_else(|| {
            account.memory.push((cgroup, MemoryUse::default()));
            account.memory.len() - 1
        });
        Some((at, &mut account.memory[place].1))
    }

    /// Books a reading of a cgroup's pressure files.
    pub fn book_pressure(&mut self, cgroup: u64, pressure: Pressure) {
        let Some(at) = self.by_cgroup.get(&cgroup).copied() else { return };
        let account = &mut self.accounts[at];
        let before = if let Some((_, last)) = account.pressure.iter_mut().find(|(id, _)| *id == cgroup) {
            std::mem::replace(last, pressure)
        } else {
            account.pressure.push((cgroup, pressure));
            Pressure::default()
        };
        self.add_to_books(at, |books| books.pressure.get_or_insert_default().add(&pressure, &before));
    }

    /// Books processes of a cgroup that the kernel killed for want of memory; those that nobody knows the cgroup of, with
    /// cgroup 0, on `unattributed`.
    pub fn book_oom_kills(&mut self, cgroup: u64, kills: u64) {
        let at = if cgroup == 0 { UNATTRIBUTED } else { self.by_cgroup.get(&cgroup).copied().unwrap_or(UNATTRIBUTED) };
        self.add_to_books(at, |books| *books.oom_kills.get_or_insert_default() += kills);
    }

    /// Forms the sums of memory: of each entity's cgroups that are there, of what is folded into `other`, of each workload.
    pub fn sum_memory(&mut self) {
        let (mut folded, mut of_workloads) = (HashMap::new(), HashMap::new());
        for (entity, account) in self.entities.iter_mut().zip(&self.accounts) {
            let all = account.memory.iter().map(|(_, memory)| *memory);
            entity.memory = all.reduce(|sum, one| MemoryUse {
                working_set_bytes: sum.working_set_bytes + one.working_set_bytes,
                limit_bytes: sum.limit_bytes.zip(one.limit_bytes).map(|(sum, one)| sum + one),
            });
            let Some(MemoryUse { working_set_bytes, .. }) = entity.memory else { continue };
            if !entity.shown {
                *folded.entry(entity.identity.namespace().cloned()).or_insert(0) += working_set_bytes;
            }
            if let Some(id) = account.workload {
                *of_workloads.entry(id).or_insert(0) += working_set_bytes;
            }
        }
        for entity in &mut self.entities {
            if let Identity::Other { namespace } = &entity.identity {
                let sum = folded.get(namespace);
                entity.memory = sum.map(|sum| MemoryUse { working_set_bytes: *sum, limit_bytes: None });
            }
        }
        for workload in self.workloads.list_mut() {
            workload.working_set_bytes = of_workloads.get(&workload.id).copied();
        }
    }
}
