//! A reading: what the kernel and the tree tell, booked.

use super::{Moment, Parts, Station};
use crate::{
    agent::{
        clock::{unix_ms, unix_seconds},
        directory::membership_of,
        dns,
    },
    cgroup::{Cgroup, Tree, Walked},
    kernel::{Lifetime, Owners, Presence, TaskState, monotonic_ns, program, thread_ns},
    ledger::Interval,
    procfs::{self, TaskVantage},
};
use observer_ebpf::{Drop, EVENT_PATH_BYTES, causes::Membership};
use std::{collections::HashMap, io, os::unix::ffi::OsStrExt as _};

const NS_IN_MILLISECOND: u64 = 1_000_000;
/// Walks that heal lost events, when nothing asks for one sooner.
const WALK_EVERY_NS: u64 = 300_000_000_000;
/// Walks when no events come at all.
const WALK_WITHOUT_EVENTS_NS: u64 = 2_000_000_000;
/// How long others may have the CPU while what has ended and what lasts is read: less than most turns.
const HURRY_NS: u64 = 1_000_000;
/// How often it is done again when somebody else had the CPU meanwhile.
const RETRIES: usize = 2;

impl Station {
    /// Follows the cgroups that came and went.
    pub(in crate::agent) fn drain_events(&mut self) {
        let now_ns = monotonic_ns();
        let (tree, ledger, walk) = (&mut self.parts.tree, &mut self.ledger, &mut self.walk_wanted);
        let true_root = self.parts.true_root;
        self.parts.events.drain(|event| match event {
            Lifetime::Made { cgroup, path } if true_root && path.len() < EVENT_PATH_BYTES - 1 => {
                tree.made(cgroup, path);
            }
            // Its path is cut, or not the one it has below our root: the next reading looks.
            Lifetime::Made { .. } => *walk = true,
            Lifetime::Removed { cgroup } => {
                tree.removed(cgroup, now_ns);
                ledger.cgroup_gone(cgroup, now_ns);
            }
        });
    }

    /// Books everything up to now. What was read is booked whatever else fails: it cannot be read again.
    pub(in crate::agent) fn read(&mut self) -> io::Result<()> {
        self.read_all(false).0
    }

    /// Books everything up to now and, if a window ends, takes note of what lasts; returns when that was.
    pub(super) fn read_all(&mut self, window_ends: bool) -> (io::Result<()>, Moment) {
        self.drain_events();
        let (mut now_ns, mut busy) = (monotonic_ns(), Busy::begin());
        self.sample.clear();
        let age_ms = now_ns.saturating_sub(self.parts.kernel.closed_flows_from_ns()) / NS_IN_MILLISECOND;
        let at_ms = unix_ms();
        self.sample.flows_interval = Some(Interval { from: at_ms.saturating_sub(age_ms) / 1000, until: at_ms / 1000 });
        // Before the slots: what it carried has been added to those, which have its entity.
        let flows = if window_ends { self.parts.kernel.fetch_what_rests(now_ns, &mut self.sample) } else { Ok(()) };
        let mut unknown = Vec::new();
        let mut slots = self.read_slots(now_ns, &mut unknown);
        let mut lasting = Ok(None);
        if window_ends {
            lasting = self.parts.kernel.read_lasting(&mut self.sample).map(Some);
            // What ends in between is in neither, and only the next window has it: once more if that was long.
            for _ in 0..RETRIES {
                if busy.lost_ns() < HURRY_NS || slots.is_err() || lasting.is_err() {
                    break;
                }
                (now_ns, busy) = (monotonic_ns(), Busy::begin());
                slots = self.read_slots(now_ns, &mut unknown);
                self.sample.lasting.clear();
                lasting = self.parts.kernel.read_lasting(&mut self.sample).map(Some);
            }
        }
        let sleeps = self.read_sleeps(now_ns);
        let refused = self.give_refused_to_nobody();
        let pairs = self.parts.kernel.fetch_wait_pairs(!window_ends, &mut self.sample);
        // A cgroup is told of before its first packet: who is unknown still was made since the events were drained, or
        // its event was lost.
        self.drain_events();
        unknown.retain(|cgroup| self.parts.tree.get(*cgroup).is_none());
        let walk = self.name(unknown, now_ns);
        let names = self.parts.directory();
        self.ledger.book(&self.sample, &names, now_ns);
        if window_ends {
            let (kernel, ledger, now) = (&mut self.parts.kernel, &mut self.ledger, unix_seconds());
            kernel.drain_dns_answers(|cgroup, message| {
                if let Some((name, addresses)) = dns::read(message) {
                    ledger.looked_up(cgroup, &name, &addresses, now);
                }
            });
        }
        let names = self.parts.directory();
        // What lasts and cannot be read is what it was.
        if let Ok(Some(_)) = lasting {
            self.ledger.note_lasting(&self.sample.lasting, &names, now_ns);
            let Parts { tree, true_root, proc_path, tasks, .. } = &self.parts;
            let numbers_and_paths_are_ours = *true_root && matches!(tasks, TaskVantage::States);
            self.ledger.follow_ended(|thread| {
                let path = numbers_and_paths_are_ours.then(|| procfs::task_cgroup(proc_path, thread))??;
                tree.at(path.as_os_str().as_bytes())
            });
        }
        let moment = Moment { agent_ns: now_ns, queues_ns: lasting.as_ref().ok().copied().flatten().flatten() };
        let outcome = slots.and(flows).and(sleeps).and(refused).and(pairs).and(walk).and(lasting.map(drop));
        self.samples += u64::from(outcome.is_ok());
        (outcome, moment)
    }

    /// While no slot is free, what ends of a cgroup without one is nobody's, and so is what lasts of it.
    fn give_refused_to_nobody(&mut self) -> io::Result<()> {
        let books = &mut self.parts.kernel.books;
        let (in_use, slots) = books.usage();
        if in_use < slots || self.sample.lasting.is_empty() {
            return Ok(());
        }
        let owners = books.owners()?;
        for task in self.sample.lasting.iter_mut().filter(|task| !owners.contains(&task.cgroup)) {
            task.cgroup = 0;
        }
        Ok(())
    }

    /// Reads the slots; adds the owners that the tree does not know to `unknown`.
    fn read_slots(&mut self, now_ns: u64, unknown: &mut Vec<u64>) -> io::Result<()> {
        let Parts { tree, true_root, kernel, .. } = &mut self.parts;
        let mut owners = SlotOwners { tree, true_root: *true_root, nameless: &self.nameless, unknown };
        kernel.books.read(now_ns, &mut owners, &mut self.sample)
    }

    fn read_sleeps(&mut self, now_ns: u64) -> io::Result<()> {
        let Parts { proc_path, tasks, kernel, .. } = &mut self.parts;
        let state = |thread| match tasks {
            TaskVantage::States => match procfs::task_state(proc_path, thread) {
                Ok(Some('D')) => TaskState::Uninterruptible,
                Ok(Some(_)) => TaskState::Other,
                Ok(None) => TaskState::Gone,
                Err(_) => TaskState::Unknown,
            },
            TaskVantage::Existence if !procfs::thread_exists(thread) => TaskState::Gone,
            TaskVantage::Existence | TaskVantage::Nothing => TaskState::Unknown,
        };
        self.open_sleeps = kernel.sleeps.read(now_ns, state, &mut self.sample)?;
        Ok(())
    }

    /// Walks the tree if there is reason to, `unknown` cgroups for one; remembers those of them that have no name.
    fn name(&mut self, unknown: Vec<u64>, now_ns: u64) -> io::Result<()> {
        // Below a mount that shows a part of the tree, strangers are the rule.
        let walked = if (self.parts.true_root && !unknown.is_empty()) || self.walk_is_due(now_ns) {
            self.walk(now_ns)
        } else {
            Ok(())
        };
        for cgroup in unknown {
            if self.parts.tree.get(cgroup).is_none() {
                self.nameless.insert(cgroup, now_ns);
            }
        }
        walked
    }

    fn walk_is_due(&mut self, now_ns: u64) -> bool {
        let kernel = &mut self.parts.kernel;
        let losses = kernel.books.drops().map_or(0, |drops| drops[Drop::EventRingFull as usize]);
        let lost = losses != self.healed_losses;
        let events = kernel.is_up(program::MKDIR) && kernel.is_up(program::RMDIR);
        let every = if events { WALK_EVERY_NS } else { WALK_WITHOUT_EVENTS_NS };
        lost || self.walk_wanted || now_ns - self.walked_ns >= every
    }

    /// Looks at every directory. Events that are lost from now on want another walk.
    fn walk(&mut self, now_ns: u64) -> io::Result<()> {
        let losses = self.parts.kernel.books.drops()?[Drop::EventRingFull as usize];
        let (tree, ledger) = (&mut self.parts.tree, &mut self.ledger);
        let Walked { unreadable, example } = tree.walk(now_ns)?;
        (self.walked_ns, self.walk_wanted, self.healed_losses) = (now_ns, false, losses);
        if unreadable != std::mem::replace(&mut self.unreadable, unreadable)
            && let Some((path, error)) = example
        {
            tracing::warn!(directories = unreadable, path = %path.display(), %error, "cgroups below directories that cannot be read are known by events alone, and have no CPU time; chmod o+rx shows them");
        }
        for cgroup in tree.gone_since(now_ns) {
            ledger.cgroup_gone(cgroup, now_ns);
        }
        Ok(())
    }
}

/// What somebody else took of the time that this thread was busy.
struct Busy {
    since: [u64; 2],
}

impl Busy {
    fn begin() -> Self {
        Self { since: [monotonic_ns(), thread_ns()] }
    }

    fn lost_ns(&self) -> u64 {
        (monotonic_ns() - self.since[0]).saturating_sub(thread_ns() - self.since[1])
    }
}

/// The owners of slots, as the tree knows them.
struct SlotOwners<'a> {
    tree: &'a Tree,
    true_root: bool,
    nameless: &'a HashMap<u64, u64>,
    unknown: &'a mut Vec<u64>,
}

impl Owners for SlotOwners<'_> {
    fn presence(&mut self, cgroup: u64) -> Presence {
        match self.tree.get(cgroup) {
            Some(Cgroup { gone_at_ns: Some(_), .. }) => Presence::Gone,
            Some(_) => Presence::Live,
            // Outside the part of the tree that is shown it may well be there.
            None if self.nameless.contains_key(&cgroup) => {
                if self.true_root {
                    Presence::Gone
                } else {
                    Presence::Live
                }
            }
            None => {
                self.unknown.push(cgroup);
                Presence::Live
            }
        }
    }

    fn membership(&mut self, cgroup: u64) -> Option<Membership> {
        match self.tree.get(cgroup) {
            Some(found) => Some(membership_of(&found.path)),
            // Nobody will ever say whose it is.
            None if self.nameless.contains_key(&cgroup) => Some(Membership { pod: 0, container: cgroup }),
            None => None,
        }
    }
}
