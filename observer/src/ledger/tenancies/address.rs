//! One address: who had it, one after the other, and what was carried of which nobody has told yet whose it is.

use super::super::{Holder, holder::covers};

/// Who had an address one after the other, of whom is known.
pub(super) const MOST_OF_ONE: usize = 8;
/// Seconds in which something was carried that are told apart until it is known whose they are.
pub(super) const MOST_SLICES: usize = 8;

/// A time in which one had an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenancy {
    /// No other has it; 0 is none's.
    pub(super) number: u32,
    /// Who.
    pub holder: Holder,
    /// Since when, as far as it is known.
    pub since_unix_seconds: Option<u64>,
    /// When it was over, at the latest.
    pub until_unix_seconds: Option<u64>,
    /// When this was last known to be so.
    pub as_of_unix_seconds: u64,
    /// Whether its end was told of when it came, and not found out later.
    pub(super) is_end_told: bool,
}

impl Tenancy {
    /// Whether it can have been this one's then.
    pub fn covers(&self, unix_seconds: u64) -> bool {
        covers(self.since_unix_seconds, self.until_unix_seconds, unix_seconds)
    }

    pub(super) fn is_current(&self) -> bool {
        self.until_unix_seconds.is_none()
    }

    /// It is over: when the next one began, but not before it was last known to be so.
    pub(super) fn end(&mut self, next_since: Option<u64>, now: u64) {
        let until = next_since.unwrap_or(now).clamp(self.as_of_unix_seconds.min(now), now);
        self.until_unix_seconds.get_or_insert(until);
    }
}

/// What was carried since a moment, of which nobody has told yet whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub(super) number: u32,
    pub(super) began_unix_seconds: u64,
}

/// What is known of an address.
#[derive(Debug, Default)]
pub(super) struct Address {
    /// Who had it, one after the other; the last one may have it now.
    pub(super) tenancies: Vec<Tenancy>,
    pub(super) slices: Vec<Slice>,
    /// Whether who has it is told of at once. Else it may have become another's since it was asked for.
    pub(super) is_followed: bool,
    /// When it was last asked for.
    pub(super) asked_unix_seconds: Option<u64>,
}

impl Address {
    pub(super) fn current(&self) -> Option<&Tenancy> {
        self.tenancies.last().filter(|last| last.is_current())
    }

    /// What was carried before a moment goes to one tenancy, the rest to another, if there is one.
    pub(super) fn settle(&mut self, before: Option<(u64, u32)>, rest: Option<u32>, told: &mut impl FnMut(u32, u32)) {
        self.slices.retain(|slice| {
            let earlier = before.filter(|(until, _)| slice.began_unix_seconds <= *until).map(|(_, number)| number);
            let Some(to) = earlier.or(rest) else { return true };
            told(slice.number, to);
            false
        });
    }

    pub(super) fn shorten(&mut self) {
        if self.tenancies.len() > MOST_OF_ONE {
            self.tenancies.remove(0);
        }
    }

    /// Whether something is kept apart under a number until it is known whose it is.
    pub(super) fn is_open(&self, number: u32) -> bool {
        self.slices.iter().any(|slice| slice.number == number)
    }

    /// The number that something is shown under: what is kept apart is together with whose it will be if nothing has changed.
    pub(super) fn shown(&self, number: u32) -> u32 {
        if !self.is_open(number) {
            return number;
        }
        let current = self.current().map(|current| current.number);
        current.or(self.slices.last().map(|slice| slice.number)).unwrap_or(number)
    }

    /// A tenancy by the number that something is booked or shown under.
    pub(super) fn get(&self, number: u32) -> Option<&Tenancy> {
        let by_number = self.tenancies.iter().find(|tenancy| tenancy.number == number);
        by_number.or_else(|| self.current().filter(|_| self.is_open(number)))
    }

    /// The tenancy that something is booked under that was carried after `from`; none while nobody has told yet whose it is.
    pub(super) fn known_at(&self, from: u64) -> Option<u32> {
        let last = self.tenancies.last()?;
        let is_current = last.is_current() && last.since_unix_seconds.is_some_and(|since| since <= from);
        let is_its = |tenancy: &&Tenancy| !tenancy.is_current() && tenancy.covers(from);
        if !is_current && let Some(tenancy) = self.tenancies.iter().rev().find(is_its) {
            return Some(tenancy.number);
        }
        (self.is_followed && last.is_current()).then_some(last.number)
    }

    /// What was carried after `from` is kept apart under a number. Of too many the first two become one, which began when the first
    /// did: what moves from the second is told.
    pub(super) fn slice(&mut self, from: u64, new_number: impl FnOnce() -> u32) -> (u32, Option<(u32, u32)>) {
        let place = match self.slices.binary_search_by_key(&from, |slice| slice.began_unix_seconds) {
            Ok(at) => return (self.slices[at].number, None),
            Err(place) => place,
        };
        let number = new_number();
        self.slices.insert(place, Slice { number, began_unix_seconds: from });
        if self.slices.len() <= MOST_SLICES {
            return (number, None);
        }
        let second = self.slices.remove(1);
        (number, Some((second.number, self.slices[0].number)))
    }
}
