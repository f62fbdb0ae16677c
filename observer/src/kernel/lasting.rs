//! Turns on a CPU and waits for one that have not ended, asked of the run queues themselves.
//!
//! An iterator over the map of turns: reading it runs the program once for each CPU. It needs no privilege once the link is
//! made, and, unlike an iterator over tasks, sees those outside of the reader's pid namespace.

use super::sys;
use crate::ledger::{Lasting, Sample};
use observer_ebpf::LastingTask;
use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

/// As much as the kernel hands out at once.
const BUFFER_BYTES: usize = 32 * 1024;
/// Looks until one is not disturbed: the last one counts in any case.
const ATTEMPTS: usize = 4;
const RECORD_BYTES: usize = size_of::<LastingTask>();

/// The iterator.
pub(super) struct LastingTasks {
    link: OwnedFd,
    records: Vec<LastingTask>,
    buffer: Box<[u8]>,
}

impl LastingTasks {
    /// Links the program, which must be loaded, with the map of turns.
    pub(super) fn new(program: BorrowedFd<'_>, turns: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            link: sys::link_map_iterator(program, turns)?,
            records: Vec::new(),
            buffer: vec![0; BUFFER_BYTES].into(),
        })
    }

    /// Adds everything that lasts; returns when that was, by the run queues' clock: `None` as long as no CPU has switched.
    pub(super) fn read(&mut self, sample: &mut Sample) -> io::Result<Option<u64>> {
        for _ in 0..ATTEMPTS {
            self.pass()?;
            if is_steady(&self.records) {
                break;
            }
        }
        let now_ns = latest_clock(&self.records);
        sample.asleep = asleep(&self.records);
        let lasting = &mut sample.lasting;
        let at = lasting.len();
        lasting.extend(told(&self.records, now_ns.unwrap_or(0)));
        lasting[at..].sort_unstable_by_key(|task| (task.thread, task.since_ns));
        // If no look was steady, a task may have been seen twice.
        lasting.dedup_by_key(|task| (task.thread, task.since_ns));
        Ok(now_ns)
    }

    /// One look at every run queue.
    fn pass(&mut self) -> io::Result<()> {
        self.records.clear();
        let mut file = File::from(sys::begin_iterator(self.link.as_fd())?);
        loop {
            let bytes = file.read(&mut self.buffer)?;
            if bytes == 0 {
                return Ok(());
            }
            self.records.extend(self.buffer[..bytes].chunks_exact(RECORD_BYTES).map(record));
        }
    }
}

fn record(bytes: &[u8]) -> LastingTask {
    let word = |at: usize| bytes[at * size_of::<u64>()..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    LastingTask { cgroup: word(0), since_ns: word(1), throttled_ns: word(2), thread: word(3) }
}

/// Whether no queue changed while it was looked at.
fn is_steady(records: &[LastingTask]) -> bool {
    let states: Vec<_> = records.iter().filter(|record| record.cgroup == LastingTask::STATE).collect();
    states.chunks_exact(2).all(|pair| pair[0] == pair[1])
}

/// A run queue's clock stands still while nothing happens there: the time is that of the latest.
fn latest_clock(records: &[LastingTask]) -> Option<u64> {
    let clocks = records.iter().filter(|record| record.cgroup == LastingTask::CLOCK);
    clocks.map(|record| record.since_ns).max()
}

/// How many tasks sleep on a queue.
fn asleep(records: &[LastingTask]) -> u64 {
    records.iter().filter(|record| record.cgroup == LastingTask::ASLEEP).map(|record| record.thread).sum()
}

/// The tasks of all queues. One that is throttled goes on being so: its time ends with the clock of its queue, which stands still meanwhile.
fn told(records: &[LastingTask], now_ns: u64) -> impl Iterator<Item = Lasting> {
    let mut queue_ns = 0;
    records.iter().filter_map(move |task| {
        match task.cgroup {
            LastingTask::CLOCK => queue_ns = task.since_ns,
            LastingTask::STATE | LastingTask::ASLEEP => {}
            cgroup => {
                let is_throttled = task.thread >> LastingTask::THROTTLED_BIT != 0;
                let until_ns = if is_throttled { queue_ns } else { now_ns };
                return Some(Lasting {
                    cgroup,
                    thread: task.thread as u32,
                    on_queue: true,
                    since_ns: task.since_ns,
                    active_ns: until_ns.saturating_sub(task.since_ns + task.throttled_ns),
                });
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records<const N: usize>(records: [(u64, u64, u64); N]) -> [LastingTask; N] {
        records.map(|(cgroup, since_ns, thread)| LastingTask { cgroup, since_ns, throttled_ns: 0, thread })
    }

    #[test]
    fn what_lasts_lasts_until_the_latest_clock() {
        let (clock, state) = (LastingTask::CLOCK, LastingTask::STATE);
        let records =
            records([(clock, 900, 0), (7, 400, 1), (clock, 1000, 0), (state, 3, 2), (8, 999, 2), (9, 2000, 3)]);
        let lasting =
            |cgroup, thread, since_ns, active_ns| Lasting { cgroup, thread, on_queue: true, since_ns, active_ns };
        let told: Vec<_> = told(&records, latest_clock(&records).unwrap()).collect();
        assert_eq!(told, [lasting(7, 1, 400, 600), lasting(8, 2, 999, 1), lasting(9, 3, 2000, 0)]);
    }

    #[test]
    fn what_is_throttled_is_not_active() {
        let task = LastingTask { cgroup: 7, since_ns: 100, throttled_ns: 600, thread: 1 };
        assert_eq!(told(&[task], 1000).next().map(|task| (task.since_ns, task.active_ns)), Some((100, 300)));
        // While it is, nothing happens on its queue: the clock there stands still.
        let clock = LastingTask { cgroup: LastingTask::CLOCK, since_ns: 750, ..LastingTask::default() };
        let task = LastingTask { thread: 1 | 1 << LastingTask::THROTTLED_BIT, ..task };
        let told: Vec<_> = told(&[clock, task], 1000).map(|task| (task.thread, task.active_ns)).collect();
        assert_eq!(told, [(1, 50)]);
    }

    #[test]
    fn a_look_is_steady_if_no_cpu_switched_meanwhile_and_every_task_was_seen_once() {
        let state = LastingTask::STATE;
        let look = |begun, seen| {
            let first = [(state, 5, 1), (7, 1, 1), (state, 5, 1)];
            [records(first), records([(state, 9, 2), (8, 1, 2), (state, begun, seen)])].concat()
        };
        assert!(is_steady(&look(9, 2)));
        assert!(!is_steady(&look(10, 2)), "a switch");
        assert!(!is_steady(&look(9, 1)) && !is_steady(&look(9, 3)), "a task that was moved within its queue");
    }

    #[test]
    fn tasks_that_sleep_on_a_queue_are_counted_and_are_nobodys() {
        let records = records([(LastingTask::ASLEEP, 0, 2), (7, 400, 1), (LastingTask::ASLEEP, 0, 3)]);
        assert_eq!((asleep(&records), told(&records, 500).count()), (5, 1));
    }

    #[test]
    fn before_any_switch_there_is_no_clock() {
        assert_eq!(latest_clock(&[]), None);
    }

    #[test]
    fn a_record_is_four_words() {
        let bytes: Vec<u8> = [7u64, 9, 2, 3].into_iter().flat_map(u64::to_ne_bytes).collect();
        assert_eq!(record(&bytes), LastingTask { cgroup: 7, since_ns: 9, throttled_ns: 2, thread: 3 });
    }
}
