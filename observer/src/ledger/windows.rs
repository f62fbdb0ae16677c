//! Windows of a second: what each brought, and the task-time in it that the load average counts.
//!
//! Time counts when it passes, not when it has ended: what is known at the end of a window of turns on a CPU, waits and sleeps
//! that still last is a level. The window is charged with what has ended in it, and with how far the level rose. So a reading
//! that comes a little late or early is made good by the next, and nothing can drift.

use super::{
    Added, Ledger, LoadAverages, Recent,
    account::Account,
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
    pub(super) lasting_ns: u64,
    /// What lasted when the last window ended, as far as it still lasts here.
    pub(super) charged_ns: i64,
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

    /// What has passed in the window so far; less than zero when the one before it was charged with too much.
    pub(super) fn window_ns(&self) -> i64 {
        self.ended_ns + self.lasting_ns.cast_signed() - self.charged_ns
    }

    /// What the window that ends is charged with.
    fn end_window(&mut self) -> u64 {
        let active_ns = self.window_ns();
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

    /// How long the newest window was.
    pub fn window_elapsed_ns(&self) -> u64 {
        self.window_elapsed_ns
    }

    /// What the last windows brought, over all entities.
    pub fn node(&self) -> &Recent {
        &self.node
    }

    /// The share of the node's load average of tasks that sleep, and that the kernel has not taken off its run queues yet.
    pub fn asleep(&self) -> LoadAverages {
        self.asleep.load
    }

    /// So many of them there were in the window that ends.
    pub fn note_asleep(&mut self, tasks: u64, elapsed_ns: u64) {
        self.asleep.add_active(tasks * elapsed_ns);
    }

    /// The first window begins, by the clock of the run queues.
    pub fn begin_windows(&mut self, queues_ns: Option<u64>) {
        self.begin_load(queues_ns);
        self.all_recent().for_each(Recent::begin);
    }

    /// Ends the first window, which has no load: many a wait that ended in it began before there was a window, and how much of it is of the
    /// window nobody can tell. In the second there are hardly any.
    pub fn end_first_window(&mut self, elapsed_ns: u64, queues_ns: Option<u64>) {
        self.begin_load(queues_ns);
        self.end_window(elapsed_ns);
        self.period_ns = 0;
    }

    /// Nothing that lasts now or has ended so far counts: it began before.
    fn begin_load(&mut self, queues_ns: Option<u64>) {
        self.before_the_windows.begin(queues_ns, &self.held);
        for Account { active, .. } in &mut self.accounts {
            active.charged_ns = active.lasting_ns.cast_signed();
            active.ended_ns = 0;
        }
    }

    /// Of every entity, every workload and the node.
    fn all_recent(&mut self) -> impl Iterator<Item = &mut Recent> {
        let entities = self.entities.iter_mut().map(|entity| &mut entity.recent);
        entities.chain(self.workloads.recent_mut()).chain([&mut self.node, &mut self.asleep])
    }

    /// Ends a window of `elapsed_ns`.
    pub fn end_window(&mut self, elapsed_ns: u64) {
        if elapsed_ns == 0 {
            return;
        }
        self.window_ended_ns += elapsed_ns;
        self.window_elapsed_ns = elapsed_ns;
        self.period_ns += elapsed_ns;
        for at in 0..self.entities.len() {
            let active_ns = self.accounts[at].active.end_window();
            if active_ns > 0 {
                self.charge(at, active_ns);
            }
        }
        let is_over = self.period_ns + PERIOD_SLACK_NS >= PERIOD_NS;
        let period = is_over.then(|| Period::of(std::mem::take(&mut self.period_ns)));
        let ended_ns = self.window_ended_ns;
        for recent in self.all_recent() {
            recent.end_window(ended_ns, elapsed_ns);
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
            // What it was charged too much is made up for there.
            let active = std::mem::take(&mut self.accounts[at].active);
            self.accounts[UNATTRIBUTED].active.absorb(active);
        }
    }
}
