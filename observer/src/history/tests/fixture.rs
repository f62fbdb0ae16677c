//! A history with a writer that works when it is told to.

use crate::{
    history::{
        Gather, History, HistoryAnswer, HistoryQuery, Row, Selection, StateDir, StateError, Step, Subject, Window,
        Writer, reading,
    },
    ledger::{WorkloadKey, WorkloadNames},
};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// A round hour in 2026.
pub(super) const START: u64 = 1_780_000_000 - 1_780_000_000 % 3600;

pub(super) fn key(namespace: &str, name: &str, kind: &str) -> WorkloadKey {
    WorkloadKey {
        namespace: namespace.into(),
        workload: Arc::new(WorkloadNames { name: name.into(), kind: kind.into() }),
    }
}

pub(super) fn deployment(name: &str) -> WorkloadKey {
    key("shop", name, "deployment")
}

/// Somebody who sends.
pub(super) fn sends(bytes: f64) -> Row {
    reading([Some(bytes), Some(0.0), Some(0.0), Some(0.0), None])
}

/// A history over a directory, and the thread that is none.
pub(super) struct Kept {
    pub(super) history: History,
    pub(super) writer: Writer,
}

impl Kept {
    pub(super) fn open(directory: &Path) -> Self {
        let (history, writer) = History::on_disk(open_again(directory));
        Self { history, writer }
    }

    /// A window of a second that begins at `second`.
    pub(super) fn second(&mut self, second: u64, workloads: &[(&WorkloadKey, Row)]) {
        window(&mut self.history, second, 1000, workloads);
    }

    /// Everything is on the disk when this returns.
    pub(super) fn write(&mut self) {
        // Opened at first, if it is not; what is found is taken over with the next window.
        self.writer.turn();
    }

    pub(super) fn answer(&self, subject: &Subject, metric: &str, step: Step, now: u64) -> HistoryAnswer {
        gather(&self.history, subject, metric, step, now).answer().unwrap()
    }

    /// Times and values.
    pub(super) fn rows(&self, name: &str, metric: &str, step: Step, now: u64) -> Vec<(u64, f64)> {
        let answer = self.answer(&workload(name), metric, step, now);
        answer.rows.iter().map(|row| (row.time_unix_seconds, row.value)).collect()
    }
}

/// Opens a directory that has been let go of: another test's child has the file, and so its lock, until it executes something.
pub(super) fn open_again(directory: &Path) -> StateDir {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match StateDir::open(directory, None) {
            Err(StateError::InUse { .. }) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            outcome => return outcome.unwrap(),
        }
    }
}

/// A window that begins at a second; the node has the sum.
pub(super) fn window(history: &mut History, second: u64, elapsed_ms: u64, workloads: &[(&WorkloadKey, Row)]) {
    let sum = |place: usize| workloads.iter().filter_map(|(_, row)| Some(f64::from(row[place]?.mean))).sum::<f64>();
    let node = reading([Some(sum(0)), Some(sum(1)), Some(sum(2)), Some(sum(3)), None]);
    let ended_unix_ms = second * 1000 + elapsed_ms;
    history.record(Window { ended_unix_ms, elapsed_ms, node }, workloads.iter().copied());
}

pub(super) fn workload(name: &str) -> Subject {
    Subject::Workload { namespace: "shop".into(), name: name.into(), kind: None }
}

pub(super) fn gather(history: &History, subject: &Subject, metric: &str, step: Step, now: u64) -> Gather {
    let selection: Selection = metric.parse().unwrap();
    let query = HistoryQuery { subject: subject.clone(), selection, since_seconds: 41 * 86400, step: Some(step) };
    history.gather(&query, "node-7", now).unwrap()
}
