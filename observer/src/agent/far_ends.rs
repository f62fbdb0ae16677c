//! Names for the far ends of flows: asked of the API server one address at a time, when somebody looks at flows, when somebody asks
//! who has an address, and now and then for a flow that carries much and has no name yet, since who is gone can be asked for no more.

use crate::kube::{NoAnswer, PeerAnswer, Peers, Question};
use futures::{StreamExt as _, stream};
use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Questions at the same time.
const AT_ONCE: usize = 4;
/// Questions that may come together.
const BURST: u32 = 32;
/// One more question each so often, in a small cluster.
const EVERY: Duration = Duration::from_secs(1);
/// Nodes for which that is; in a larger cluster each asks less, so that all together ask a hundred times a second at the most.
const NODES: usize = 100;
/// How long nobody is asked after the server could not tell.
const HOLD_OFF: Duration = Duration::from_secs(15);

/// Questions of people that may come together; one more each second.
const WHOIS_BURST: u32 = 8;

/// Who asks, and how much.
pub(super) struct FarEnds {
    peers: Peers,
    budget: Mutex<Budget>,
    /// What people may ask.
    whois: Mutex<Budget>,
}

struct Budget {
    left: u32,
    most: u32,
    refilled: Instant,
    held_off_until: Instant,
}

impl FarEnds {
    pub(super) fn new(peers: Peers) -> Self {
        Self { peers, budget: Mutex::new(Budget::of(BURST)), whois: Mutex::new(Budget::of(WHOIS_BURST)) }
    }

    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks as many of these as may be asked now, in their order; `nodes` is how many the cluster has.
    pub(super) async fn ask(
        &self,
        mut questions: Vec<Question>,
        nodes: usize,
        mut told: impl FnMut(IpAddr, Result<PeerAnswer, NoAnswer>),
    ) {
        questions.truncate(self.lock().take(questions.len(), nodes, Instant::now()));
        let mut answers = stream::iter(questions)
            .map(|question| async move { (question.address, self.peers.find(&question).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((address, answer)) = answers.next().await {
            let is_silent = answer.as_ref().is_err_and(|no_answer| no_answer.is_silent);
            told(address, answer);
            if is_silent {
                self.lock().held_off_until = Instant::now() + HOLD_OFF;
                return;
            }
        }
    }

    /// Asks for one address, for somebody who waits for it; `None` if that was done too often.
    pub(super) async fn ask_now(&self, question: &Question) -> Option<Result<PeerAnswer, NoAnswer>> {
        let taken = self.whois.lock().unwrap_or_else(PoisonError::into_inner).take(1, 1, Instant::now());
        if taken == 0 { None } else { Some(self.peers.find(question).await) }
    }
}

impl Budget {
    fn of(most: u32) -> Self {
        let now = Instant::now();
        Self { left: most, most, refilled: now, held_off_until: now }
    }

    /// Takes so many or as many as there are.
    fn take(&mut self, wanted: usize, nodes: usize, now: Instant) -> usize {
        let every = EVERY * u32::try_from(nodes.div_ceil(NODES).max(1)).unwrap_or(u32::MAX);
        let more = (now - self.refilled).as_nanos() / every.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(self.most);
            self.refilled = now;
        }
        if now < self.held_off_until {
            return 0;
        }
        let taken = self.left.min(u32::try_from(wanted).unwrap_or(u32::MAX));
        self.left -= taken;
        taken as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_answered_and_then_one_question_a_second_and_fewer_in_a_large_cluster() {
        let start = Instant::now();
        let mut budget = Budget { left: BURST, most: BURST, refilled: start, held_off_until: start };
        assert_eq!(budget.take(100, 5, start), 32);
        assert_eq!(budget.take(100, 5, start + Duration::from_millis(900)), 0);
        assert_eq!(budget.take(100, 5, start + Duration::from_secs(3)), 3);
        assert_eq!(budget.take(100, 1000, start + Duration::from_secs(12)), 0);
        assert_eq!(budget.take(100, 1000, start + Duration::from_secs(14)), 1);
        assert_eq!(budget.take(100, 1, start + Duration::from_hours(1)), 32);
        budget.held_off_until = start + Duration::from_hours(2);
        assert_eq!(budget.take(1, 1, start + Duration::from_secs(7000)), 0, "the server could not tell");
        assert_eq!(budget.take(1, 1, start + Duration::from_hours(2)), 1);
    }
}
