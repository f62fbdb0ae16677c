//! Who holds what lasts: turns, waits and sleeps that have not ended, each on one entity at a time.

use super::{EntityId, Lasting, Ledger, Names};
use std::collections::HashSet;

/// Less than this in a wrong window is not looked for.
const WORTH_ASKING_NS: i64 = 5_000_000;

/// What lasts of a task, and who was charged with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The thread, and since when.
    task: (u32, u64),
    holder: EntityId,
    active_ns: u64,
}

/// Turns and waits that began before the first window: what had passed of them by then is of no window.
#[derive(Debug, Default)]
pub(super) struct BeforeTheWindows {
    begun_ns: u64,
    /// Those of which that part is charged already.
    charged: HashSet<(u32, u64)>,
}

impl BeforeTheWindows {
    /// All that is held now is charged whole.
    pub(super) fn begin(&mut self, queues_ns: Option<u64>, held: &[Held]) {
        self.begun_ns = queues_ns.unwrap_or(0);
        self.charged = held.iter().map(|held| held.task).collect();
    }

    /// What is to be charged of a task without a window, once: a CPU that had not switched when the windows began tells of its tasks later.
    fn part_of(&mut self, task: (u32, u64), active_ns: u64) -> i64 {
        let part_ns = self.begun_ns.saturating_sub(task.1).min(active_ns);
        if part_ns > 0 && self.charged.insert(task) { part_ns.cast_signed() } else { 0 }
    }
}

impl Ledger {
    /// Takes note of all that lasts; a cgroup may stand there several times. One that nobody can name is nobody's.
    pub fn note_lasting(&mut self, lasting: &[Lasting], names: &impl Names, now_ns: u64) {
        for account in &mut self.accounts {
            account.active.lasting_ns = 0;
        }
        let mut held = Vec::with_capacity(lasting.len());
        for Lasting { cgroup, thread, on_queue, since_ns, active_ns } in lasting {
            self.open_cgroup(*cgroup, names, now_ns);
            let at = self.known(*cgroup);
            self.accounts[at].active.lasting_ns += active_ns;
            if *on_queue {
                self.accounts[at].active.charged_ns +=
                    self.before_the_windows.part_of((*thread, *since_ns), *active_ns);
            }
            held.push(Held { task: (*thread, *since_ns), holder: self.entities[at].id, active_ns: *active_ns });
        }
        held.sort_unstable_by_key(|held| held.task);
        self.follow_moves(&held);
        let is_worth_asking = |before: &&Held| before.active_ns.cast_signed() >= WORTH_ASKING_NS;
        let lasts = |before: &Held| held.binary_search_by_key(&before.task, |held| held.task).is_ok();
        self.ended = self.held.iter().filter(is_worth_asking).filter(|before| !lasts(before)).copied().collect();
        self.held = held;
    }

    /// What ended of a task that was moved before anybody looked again is booked whole on the cgroup it was moved to: the former has less
    /// than nothing in this window. `cgroup_of` tells where such a thread is now, if it is anywhere; what was charged is left with the former.
    pub fn follow_ended(&mut self, cgroup_of: impl Fn(u32) -> Option<u64>) {
        for Held { task: (thread, _), holder, active_ns } in std::mem::take(&mut self.ended) {
            let Some(from) = self.place_of(holder) else { continue };
            let missing_ns = -self.accounts[from].active.window_ns();
            if missing_ns >= WORTH_ASKING_NS
                && let Some(to) = cgroup_of(thread).and_then(|cgroup| self.by_cgroup.get(&cgroup).copied())
            {
                self.leave_charge(from, to, missing_ns.min(active_ns.cast_signed()));
            }
        }
    }

    /// What lasts and has another holder than before, since the task was moved to another cgroup or its cgroup was opened books, leaves
    /// with the former what was charged of it.
    fn follow_moves(&mut self, held: &[Held]) {
        let moves = self.held.iter().filter_map(|before| {
            let now = held[held.binary_search_by_key(&before.task, |held| held.task).ok()?];
            (now.holder != before.holder).then_some((before.holder, now.holder, before.active_ns))
        });
        for (from, to, active_ns) in moves.collect::<Vec<_>>() {
            if let (Some(from), Some(to)) = (self.place_of(from), self.place_of(to)) {
                self.leave_charge(from, to, active_ns.cast_signed());
            }
        }
    }

    /// One that is not there any more has become one with another, which took over what was charged, or was given up.
    fn place_of(&self, id: EntityId) -> Option<usize> {
        self.entities.iter().position(|entity| entity.id == id)
    }

    /// What was charged of something stays with the former holder, and is not asked of the new one.
    fn leave_charge(&mut self, from: usize, to: usize, active_ns: i64) {
        self.accounts[from].active.charged_ns -= active_ns;
        self.accounts[to].active.charged_ns += active_ns;
    }
}
