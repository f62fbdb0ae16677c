//! The budget of series: beyond it the smallest entities of a namespace share one, `other`.
//!
//! What an entity had counted moves to `other` with it, and what it counts from then on goes there too, so that every sum
//! stays whole and no counter falls. One that grows gets series of its own again, which begin at zero: what it counted
//! meanwhile stays on `other`.

use super::{Books, Entity, Identity, Ledger};

/// A folded entity comes back when it is this many times larger than the smallest that has series.
const GROWN: u64 = 4;

impl Ledger {
    /// Brings the entities' series within `budget`. `series` says how many an entity has.
    pub fn keep_within(&mut self, budget: usize, series: impl Fn(&Entity) -> usize) {
        let mut sum: usize = self.entities.iter().filter(|entity| entity.shown).map(&series).sum();
        while sum > budget {
            let Some(at) = self.smallest_shown() else { return };
            sum -= series(&self.entities[at]);
            let others = self.entities.len();
            self.fold(at);
            // The first of a namespace opens its `other`.
            sum += self.entities[others..].iter().map(&series).sum::<usize>();
        }
        let Some(largest) = self.largest_folded() else { return };
        // What it will have is what it would have if nothing of it were on `other`.
        let whole = Entity { shown: true, books: self.counted(largest), ..self.entities[largest].clone() };
        if sum + series(&whole) <= budget - budget / 10 {
            self.unfold(largest);
        } else if let Some(smallest) = self.smallest_shown().filter(|at| self.has_outgrown(largest, *at)) {
            self.fold(smallest);
            self.unfold(largest);
        }
    }

    fn has_outgrown(&self, folded: usize, shown: usize) -> bool {
        let (bytes, wait_ns, cpu_us) = self.size(shown);
        self.size(folded) > (bytes * GROWN, wait_ns * GROWN, cpu_us * GROWN)
    }

    /// Where what a folded entity counts is booked.
    pub(super) fn other_of(&mut self, at: usize) -> usize {
        let namespace = self.entities[at].identity.namespace().cloned();
        self.open(Identity::Other { namespace })
    }

    /// Books on `other` what belongs to a folded entity.
    pub(super) fn book_on_other(&mut self, at: usize, books: &Books) {
        self.accounts[at].on_other.get_or_insert_default().merge(books);
        let other = self.other_of(at);
        self.entities[other].books.merge(books);
    }

    /// An `other` that nothing is folded into goes like a cgroup that is gone.
    pub(super) fn retire_others(&mut self, now_ns: u64) {
        for at in 0..self.entities.len() {
            let Identity::Other { namespace } = &self.entities[at].identity else { continue };
            let in_use =
                self.entities.iter().any(|entity| !entity.shown && entity.identity.namespace() == namespace.as_ref());
            let account = &mut self.accounts[at];
            account.gone_at_ns = if in_use { None } else { account.gone_at_ns.or(Some(now_ns)) };
        }
    }

    fn fold(&mut self, at: usize) {
        let books = std::mem::take(&mut self.entities[at].books);
        self.entities[at].shown = false;
        self.book_on_other(at, &books);
        self.hide_load(at);
    }

    /// A folded entity's share of the load is on `other`.
    pub(super) fn hide_load(&mut self, at: usize) {
        let mut recent = std::mem::take(&mut self.entities[at].recent);
        let other = self.other_of(at);
        self.entities[other].recent.take_load(&mut recent);
    }

    fn unfold(&mut self, at: usize) {
        self.entities[at].shown = true;
    }

    fn smallest_shown(&self) -> Option<usize> {
        let may_fold = |at: &usize| {
            let Entity { shown, identity, .. } = &self.entities[*at];
            *shown && !matches!(identity, Identity::Unattributed | Identity::Other { .. })
        };
        (0..self.entities.len()).filter(may_fold).min_by_key(|at| self.size(*at))
    }

    fn largest_folded(&self) -> Option<usize> {
        (0..self.entities.len()).filter(|at| !self.entities[*at].shown).max_by_key(|at| self.size(*at))
    }

    /// Everything it has counted, wherever that is: so that one which comes back is not the smallest again.
    fn size(&self, at: usize) -> (u64, u64, u64) {
        let (bytes, wait_ns, cpu_us) = self.entities[at].books.size();
        let on_other = self.accounts[at].on_other.as_deref().map_or((0, 0, 0), Books::size);
        (bytes + on_other.0, wait_ns + on_other.1, cpu_us + on_other.2)
    }
}
