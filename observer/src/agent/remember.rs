//! From the books' newest window to the history: rates in the history's units, and the wall clock, which the books do not have.

use super::clock::unix_ms;
use crate::{
    history::{History, Row, Window, reading},
    kernel::{Kernel, program},
    ledger::{self, Ledger},
};

/// Which programs run. What none of them counts is not known, which is not zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    transmit: bool,
    receive: bool,
    tasks: bool,
}

impl Counted {
    /// What the programs that run count. Of what ended in the first window nobody knows how much of it was before.
    pub(super) fn by(kernel: &Kernel, is_first: bool) -> Self {
        Self {
            transmit: kernel.is_up(program::EGRESS),
            receive: kernel.is_up(program::INGRESS),
            tasks: kernel.is_up(program::SWITCH) && !is_first,
        }
    }
}

/// Hands the window that has just ended to the history.
pub(super) fn remember(history: &mut History, ledger: &Ledger, counted: Counted, elapsed_ns: u64) {
    let seconds = elapsed_ns as f64 / 1e9;
    let node = row(&ledger.node().window, node_working_set(ledger), seconds, counted);
    let window = Window { ended_unix_ms: unix_ms(), elapsed_ms: elapsed_ns / 1_000_000, node };
    let workloads = ledger.workloads().iter().filter_map(|workload| {
        // Pods that ended before anybody knew whose they were are the node's alone.
        let names = workload.names.as_ref()?;
        Some((names, row(&workload.recent.window, workload.working_set_bytes, seconds, counted)))
    });
    history.record(window, workloads);
}

/// What all entities use, once any of it has been read. Those that have no series of their own are in that of the others.
fn node_working_set(ledger: &Ledger) -> Option<u64> {
    let shown = ledger.entities().iter().filter(|entity| entity.shown);
    shown.filter_map(|entity| Some(entity.memory?.working_set_bytes)).reduce(|sum, one| sum + one)
}

/// What a window brought. The working set is not of the window but of its end; `None` where nobody has read it.
fn row(window: &ledger::Window, working_set_bytes: Option<u64>, seconds: f64, counted: Counted) -> Row {
    let ledger::Window { transmit_bytes, receive_bytes, wait_ns, active_ns } = window;
    let a_second = |sum: u64, is_counted: bool| is_counted.then_some(sum as f64 / seconds);
    let tasks = |sum_ns: u64| a_second(sum_ns, counted.tasks).map(|ns| ns / 1e9);
    reading([
        a_second(*transmit_bytes, counted.transmit),
        a_second(*receive_bytes, counted.receive),
        tasks(*active_ns),
        tasks(*wait_ns),
        working_set_bytes.map(|bytes| bytes as f64),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Metric;

    const WINDOW: ledger::Window =
        ledger::Window { transmit_bytes: 3000, receive_bytes: 500, wait_ns: 250_000_000, active_ns: 4_000_000_000 };

    fn values(counted: Counted, working_set: Option<u64>) -> [Option<f32>; 5] {
        row(&WINDOW, working_set, 2.0, counted).map(|cell| cell.map(|cell| cell.mean))
    }

    #[test]
    fn a_window_of_two_seconds_gives_rates_a_second_and_tasks() {
        let all = Counted { transmit: true, receive: true, tasks: true };
        assert_eq!(values(all, Some(7)), [Some(1500.0), Some(250.0), Some(2.0), Some(0.125), Some(7.0)]);
    }

    #[test]
    fn what_no_program_counts_is_not_known() {
        let none = Counted { transmit: false, receive: true, tasks: false };
        let values = values(none, None);
        for metric in [Metric::Egress, Metric::Load, Metric::Wait, Metric::Memory] {
            assert_eq!(values[metric as usize], None, "{metric:?}");
        }
        assert_eq!(values[Metric::Ingress as usize], Some(250.0));
    }
}
