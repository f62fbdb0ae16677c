//! Whose turn it is: what is read of every cgroup now and then, spread evenly over time instead of all at once.

use std::collections::HashMap;

/// How many different moments of a round there are: few, because files that are read one after the other take half the time of
/// files that are read now and then.
const PHASES: u64 = 4;

/// After a part of a round, a cgroup has its second turn: at the first its runtime may not be done with it.
const SETTLED: u64 = 16;

/// Cgroups, each with the time of its next turn.
#[derive(Debug)]
pub(super) struct Turns {
    every_ns: u64,
    next: HashMap<u64, Next>,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    at_ns: u64,
    is_first: bool,
}

impl Turns {
    /// Each has its turn once in `every_ns`.
    pub(super) fn every(every_ns: u64) -> Self {
        Self { every_ns, next: HashMap::new() }
    }

    /// A cgroup whose first turn is now.
    pub(super) fn add(&mut self, cgroup: u64, now_ns: u64) {
        self.next.entry(cgroup).or_insert(Next { at_ns: now_ns, is_first: true });
    }

    /// Whose turn it is. Those that came together part with their third.
    pub(super) fn due(&mut self, now_ns: u64) -> Vec<u64> {
        let mut due = Vec::new();
        for (cgroup, next) in &mut self.next {
            if next.at_ns > now_ns {
                continue;
            }
            due.push(*cgroup);
            let at_ns = if next.is_first {
                now_ns + self.every_ns / SETTLED
            } else {
                phase_after(*cgroup, self.every_ns, now_ns)
            };
            *next = Next { at_ns, is_first: false };
        }
        due
    }

    /// Forgets those that are not wanted any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.next.retain(|cgroup, _| wanted(*cgroup));
    }
}

/// A cgroup's turn comes at the same phase from round to round; its number alone would not do, since they come in steps.
fn phase_after(cgroup: u64, every_ns: u64, now_ns: u64) -> u64 {
    let phase = every_ns / PHASES * ((cgroup.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % PHASES);
    (now_ns.saturating_sub(phase) / every_ns + 1) * every_ns + phase
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn each_has_its_turn_at_once_and_soon_again_then_once_a_round_and_never_all_together() {
        let mut turns = Turns::every(15 * SECOND);
        for cgroup in 1000..1250 {
            turns.add(16 * cgroup, 100 * SECOND);
        }
        for at_ns in [100 * SECOND, 101 * SECOND] {
            assert_eq!(turns.due(at_ns).len(), 250);
        }
        let mut last: HashMap<u64, u64> = HashMap::new();
        for second in 102..200 {
            let due = turns.due(second * SECOND);
            assert!(due.len() <= 100, "{} at once", due.len());
            for cgroup in due {
                if let Some(before) = last.insert(cgroup, second) {
                    assert!((14..=16).contains(&(second - before)), "after {} s", second - before);
                }
            }
        }
        assert_eq!(last.len(), 250);
    }

    #[test]
    fn one_that_is_known_keeps_its_turn_and_one_that_is_not_wanted_has_none() {
        let mut turns = Turns::every(15 * SECOND);
        turns.add(7, 0);
        assert_eq!(turns.due(0), [7]);
        turns.add(7, 1);
        assert_eq!(turns.due(1), [0; 0]);
        turns.retain(|cgroup| cgroup != 7);
        assert_eq!(turns.due(100 * SECOND), [0; 0]);
    }
}
