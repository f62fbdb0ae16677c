//! Windows of a second: what each brought, and the task-time in it that the load average counts.
//!
//! Time counts when it passes, not when it has ended: what is known at the end of a window of turns on a CPU, waits and sleeps
//! that still last is a level. The window is charged with what has ended in it, and with how far the level rose. So a reading
//! that comes a little late or early is made good by the next, and nothing can drift.

use super::{
    Added, Lasting, Ledger, Recent,
    books::UNATTRIBUTED,
    recent::{PERIOD_NS, PERIOD_SLACK_NS, Period},
};

/// An entity's time in the load average.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "a unit is part of a name")]
pub(super) struct Active {
    /// What has ended since the last window did; less than zero when that one was charged with too much.
    ended_ns: i64,
    /// What lasts, by the newest reading.
    lasting_ns: u64,
    /// What lasted when the last window ended, as far as it still lasts here.
    charged_ns: i64,
}

impl Active {
    /// Something has ended.
    pub(super) fn ended(&mut self, added: &Added) {
        self.ended_ns += added.active_ns();
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.ended_ns += other.ended_ns;
        self.lasting_ns += other.lasting_ns;
        self.charged_ns += other.charged_ns;
    }

    /// What the window that ends is charged with.
    fn end_window(&mut self) -> u64 {
        let active_ns = self.ended_ns + self.lasting_ns.cast_signed() - self.charged_ns;
        self.charged_ns = self.lasting_ns.cast_signed();
        self.ended_ns = active_ns.min(0);
        active_ns.max(0).cast_unsigned()
    }
}

impl Ledger {
    /// When the newest window ended, by the time that has passed in windows.
    pub fn window_ended_ns(&self) -> u64 {
        self.window_ended_ns
    }

    /// What the last windows brought, over all entities.
    pub fn node(&self) -> &Recent {
        &self.node
    }

    /// Takes note of all that lasts; a cgroup may stand there several times. Where what ends goes, there goes what lasts: a cgroup
    /// that has no books for want of a slot is nobody's.
    pub fn note_lasting(&mut self, lasting: &[Lasting]) {
        self.follow_moves(lasting);
        for account in &mut self.accounts {
            account.active.lasting_ns = 0;
        }
        for Lasting { cgroup, active_ns, .. } in lasting {
            let at = self.known(*cgroup);
            self.accounts[at].active.lasting_ns += active_ns;
        }
    }

    /// A task that was moved to another cgroup in the midst of what lasts leaves what was charged of it with the former.
    fn follow_moves(&mut self, lasting: &[Lasting]) {
        let mut sorted = lasting.to_vec();
        sorted.sort_unstable_by_key(|task| (task.thread, task.since_ns));
        let before = std::mem::replace(&mut self.lasting, sorted);
        let moves = before.iter().filter_map(|before| {
            let key = |task: &Lasting| (task.thread, task.since_ns);
            let at = self.lasting.binary_search_by_key(&key(before), key).ok()?;
            let now = self.lasting[at].cgroup;
            (now != before.cgroup).then_some((before.cgroup, now, before.active_ns))
        });
        for (from, to, active_ns) in moves {
            let (from, to) = (self.known(from), self.known(to));
            self.accounts[from].active.charged_ns -= active_ns.cast_signed();
            self.accounts[to].active.charged_ns += active_ns.cast_signed();
        }
    }

    /// Nothing of what lasts now counts: it began before anybody looked.
    pub fn begin_windows(&mut self) {
        for account in &mut self.accounts {
            account.active.charged_ns = account.active.lasting_ns.cast_signed();
        }
    }

    /// Ends a window of `elapsed_ns`.
    pub fn end_window(&mut self, elapsed_ns: u64) {
        if elapsed_ns == 0 {
            return;
        }
        self.window_ended_ns += elapsed_ns;
        self.period_ns += elapsed_ns;
        for at in 0..self.entities.len() {
            let active_ns = self.accounts[at].active.end_window();
            if active_ns > 0 {
                self.charge(at, active_ns);
            }
        }
        let is_over = self.period_ns + PERIOD_SLACK_NS >= PERIOD_NS;
        let period = is_over.then(|| Period::of(std::mem::take(&mut self.period_ns)));
        let entities = self.entities.iter_mut().map(|entity| &mut entity.recent);
        for recent in entities.chain(self.workloads.recent_mut()).chain([&mut self.node]) {
            recent.end_window(self.window_ended_ns, elapsed_ns);
            if let Some(period) = &period {
                recent.end_period(period);
            }
        }
    }

    fn charge(&mut self, at: usize, active_ns: u64) {
        let holder = if self.entities[at].shown { at } else { self.other_of(at) };
        self.entities[holder].recent.add_active(active_ns);
        self.node.add_active(active_ns);
        if let Some(workload) = self.accounts[at].workload.and_then(|id| self.workloads.get_mut(id)) {
            workload.recent.add_active(active_ns);
        }
    }

    /// What the node's load average still holds of entities that leave fades on the books of nobody.
    pub(super) fn bequeath_load(&mut self, leaves: &[bool]) {
        for at in (0..self.entities.len()).filter(|at| leaves[*at]) {
            let mut recent = std::mem::take(&mut self.entities[at].recent);
            self.entities[UNATTRIBUTED].recent.take_load(&mut recent);
        }
    }
}
