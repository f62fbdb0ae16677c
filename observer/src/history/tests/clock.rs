//! Clocks that jump.

use super::fixture::{Kept, START, deployment, sends};
use crate::history::Step;

const DAY: u64 = 86400;

/// Writes `count` seconds from `from` on.
fn run(kept: &mut Kept, from: u64, count: u64, bytes: f64) {
    let web = deployment("web");
    for second in from..from + count {
        kept.second(second, &[(&web, sends(bytes))]);
        if second % 5 == 0 {
            kept.write();
        }
    }
    kept.write();
}

#[test]
fn seconds_that_come_twice_are_one_row_each() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Kept::open(directory.path());
    run(&mut kept, START, 120, 100.0);
    // Back by a minute and a half, with three times the traffic.
    run(&mut kept, START + 30, 120, 300.0);
    let seconds = kept.answer(&super::fixture::workload("web"), "egress_mean", Step::Second, START + 200);
    let times: Vec<u64> = seconds.rows.iter().map(|row| row.time_unix_seconds).collect();
    assert_eq!(times, (START..START + 150).collect::<Vec<_>>());
    let twice = seconds.rows[60];
    assert!((twice.value - 200.0).abs() < 0.01 && (twice.covered_seconds - 2.0).abs() < 1e-9, "{twice:?}");
    let minutes = kept.rows("web", "egress_peak", Step::Minute, START + 200);
    assert_eq!(minutes.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [START, START + 60, START + 120]);
    assert!((minutes[0].1 - 300.0).abs() < 0.01, "the larger of both passes: {minutes:?}");
}

#[test]
fn a_clock_that_was_in_the_future_takes_nothing_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Kept::open(directory.path());
    run(&mut kept, START, 200, 100.0);
    // Fourteen years ahead for more than the seconds that are kept, and back again.
    let future = START + 14 * 365 * DAY;
    run(&mut kept, future, 700, 1.0);
    run(&mut kept, START + 900, 300, 100.0);
    let now = START + 1200;
    let seconds = kept.rows("web", "egress_mean", Step::Second, now);
    assert_eq!(seconds.len(), 300, "the newest that came are kept, whatever their time");
    let minutes = kept.rows("web", "egress_mean", Step::Minute, now);
    let times: Vec<u64> = minutes.iter().map(|(time, _)| (time - START) / 60).collect();
    assert_eq!(times, [0, 1, 2, 3, 15, 16, 17, 18, 19]);
    assert!(minutes.iter().all(|(_, value)| (value - 100.0).abs() < 0.01), "{minutes:?}");
    // The hour was closed by the jump and goes on after it: one row.
    let hours = kept.rows("web", "egress_mean", Step::Hour, now);
    assert_eq!(hours.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [START]);
    drop(kept);
    let mut again = Kept::open(directory.path());
    again.write();
    run(&mut again, START + 1200, 5, 100.0);
    assert_eq!(again.rows("web", "egress_mean", Step::Minute, now - 1).len(), 9, "the same after a restart");
}

#[test]
fn a_clock_that_begins_in_1970_takes_nothing_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Kept::open(directory.path());
    run(&mut kept, START, 3 * 3600, 100.0);
    drop(kept);
    let mut again = Kept::open(directory.path());
    again.write();
    run(&mut again, 10, 700, 1.0);
    run(&mut again, START + 4 * 3600, 60, 100.0);
    let hours = again.rows("web", "egress_mean", Step::Hour, START + 5 * 3600);
    let times: Vec<u64> = hours.iter().map(|(time, _)| (time - START) / 3600).collect();
    assert_eq!(times, [0, 1, 2, 4]);
}
