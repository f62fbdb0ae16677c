//! What an entity has that no reader of the books needs: the cgroups behind it, and what is still to be known of it.

use super::{Active, Books, CpuUsage, InPod, MemoryUse, Pressure, WorkloadId};
use std::sync::Arc;

/// How long the series of a vanished cgroup stay.
pub(super) const KEEP_NS: u64 = 120_000_000_000;

/// Beside an entity, at the same place in its list.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The cgroups behind it that are there: several when a service restarts under its name, or a container's own.
    pub(super) live: Vec<Member>,
    /// Those that went, and when: what comes late is still theirs for two minutes.
    pub(super) gone: Vec<(Member, u64)>,
    /// When the last of them went.
    pub(super) gone_at_ns: Option<u64>,
    /// Its time in the load average.
    pub(super) active: Active,
    /// The last reading of each cgroup's `cpu.stat`.
    pub(super) cpu: Vec<(u64, CpuUsage)>,
    /// The last reading of each cgroup's pressure files.
    pub(super) pressure: Vec<(u64, Pressure)>,
    /// What each cgroup used of memory when it was read last.
    pub(super) memory: Vec<(u64, MemoryUse)>,
    /// The workload that everything booked here is booked on, too.
    pub(super) workload: Option<WorkloadId>,
    /// What is to be asked for again when its pod has changed, since not every name is known.
    pub(super) awaits: Option<InPod>,
    /// What of it was booked on its namespace's `other`, and is in no series of its own.
    pub(super) on_other: Option<Box<Books>>,
}

/// A cgroup behind an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) cgroup: u64,
    /// The UID of its pod.
    pub(super) pod: Option<Arc<str>>,
}

impl Account {
    /// Whether its last cgroup has been gone for two minutes.
    pub(super) fn has_expired(&self, now_ns: u64) -> bool {
        self.gone_at_ns.is_some_and(|gone| now_ns.saturating_sub(gone) >= KEEP_NS)
    }

    /// A cgroup is one of its own from now on.
    pub(super) fn join(&mut self, member: Member, gone_at_ns: Option<u64>) {
        match gone_at_ns {
            None => {
                self.live.push(member);
                self.gone_at_ns = None;
            }
            // Its last packets came after it went.
            Some(gone) => {
                self.gone.push((member, gone));
                if self.live.is_empty() {
                    self.gone_at_ns = Some(self.gone_at_ns.map_or(gone, |at| at.max(gone)));
                }
            }
        }
    }

    /// A cgroup has gone; returns it if it was there.
    pub(super) fn part(&mut self, cgroup: u64, at_ns: u64) -> Option<Member> {
        self.cpu.retain(|(id, _)| *id != cgroup);
        self.pressure.retain(|(id, _)| *id != cgroup);
        self.memory.retain(|(id, _)| *id != cgroup);
        let at = self.live.iter().position(|member| member.cgroup == cgroup)?;
        let member = self.live.swap_remove(at);
        self.gone.push((member.clone(), at_ns));
        if self.live.is_empty() {
            self.gone_at_ns.get_or_insert(at_ns);
        }
        Some(member)
    }

    /// Takes everything over that another had. What that waits for is known now.
    pub(super) fn absorb(&mut self, other: Self) {
        let Self { live, gone, gone_at_ns, active, cpu, pressure, memory, workload: _, awaits: _, on_other } = other;
        if let Some(books) = on_other {
            self.on_other.get_or_insert_default().merge(&books);
        }
        self.live.extend(live);
        self.gone.extend(gone);
        self.cpu.extend(cpu);
        self.active.absorb(active);
        self.pressure.extend(pressure);
        self.memory.extend(memory);
        self.gone_at_ns = if self.live.is_empty() { self.gone_at_ns.max(gone_at_ns) } else { None };
    }
}
