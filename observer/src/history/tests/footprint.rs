//! What it costs: bytes of memory, of disk, and written. `OBSERVER_LONG=1 cargo test -p observer footprint -- --nocapture` prints.

use super::fixture::{Kept, START, deployment};
use crate::{
    history::{Row, Step, reading},
    ledger::WorkloadKey,
};
use std::{fs, os::unix::fs::MetadataExt as _};

fn is_long() -> bool {
    let long = std::env::var_os("OBSERVER_LONG").is_some_and(|value| value == "1");
    if !long {
        eprintln!("skipped: takes a minute; runs with OBSERVER_LONG=1");
    }
    long
}

/// Everybody does everything, and never the same: no row is smaller than it can be.
fn busy(number: usize, turn: u64) -> Row {
    let noise = |salt: u64| ((turn * 2_654_435_761 + number as u64 * 40_503 + salt * 97) % 1009) as f64 / 1009.0 + 0.5;
    reading([Some(1e6 * noise(1)), Some(1e5 * noise(2)), Some(noise(3)), Some(0.1 * noise(4)), Some(1e8 * noise(5))])
}

fn window(kept: &mut Kept, keys: &[WorkloadKey], second: u64, elapsed: u64, turn: u64) {
    let rows: Vec<_> = keys.iter().enumerate().map(|(number, key)| (key, busy(number, turn))).collect();
    super::fixture::window(&mut kept.history, second, elapsed * 1000, &rows);
}

/// Forty-one days of `count` workloads: the largest that the file ever is, and what it takes of the disk.
fn forty_one_days(count: usize, minutes_of_a_commit: u64) -> (u64, u64) {
    let directory = tempfile::tempdir().unwrap();
    let keys: Vec<_> = (0..count).map(|number| deployment(&format!("workload-of-some-length-{number}"))).collect();
    let mut kept = Kept::open(directory.path());
    kept.write();
    let minutes = 41 * 24 * 60;
    for minute in 0..minutes {
        // Two windows, so that mean and peak are not the same.
        for (from, elapsed) in [(0, 1), (1, 59)] {
            window(&mut kept, &keys, START + minute * 60 + from, elapsed, minute * 2 + from);
        }
        if minute % minutes_of_a_commit == 0 {
            kept.write();
        }
    }
    let facts = fs::metadata(directory.path().join("history.redb")).unwrap();
    assert_eq!(kept.history.facts().lost_rows, 0);
    assert!(kept.rows("workload-of-some-length-0", "load_peak", Step::Hour, START + minutes * 60).len() >= 40 * 24);
    (facts.len(), facts.blocks() * 512)
}

#[test]
fn forty_days_of_250_busy_workloads_fit_on_64_mib() {
    if is_long() {
        let (length, taken) = forty_one_days(250, 5);
        eprintln!("250 workloads: a file of {length} bytes, {taken} of the disk");
        assert!(taken <= 64 << 20, "{taken}");
    }
}

#[test]
fn forty_days_of_as_many_as_there_are_places_fit_on_192_mib() {
    if is_long() {
        let (length, taken) = forty_one_days(1024, 2);
        eprintln!("1024 workloads: a file of {length} bytes, {taken} of the disk");
        assert!(taken <= 192 << 20, "{taken}");
    }
}

/// An hour of seconds with a commit every five of them.
#[test]
fn an_hour_of_250_busy_workloads_writes_less_than_64_mib() {
    if !is_long() {
        return;
    }
    for (count, most) in [(0, 24 << 20), (250, 64 << 20)] {
        let directory = tempfile::tempdir().unwrap();
        let keys: Vec<_> = (0..count).map(|number| deployment(&format!("w{number}"))).collect();
        let mut kept = Kept::open(directory.path());
        kept.write();
        let mut before = 0;
        for second in 0..2 * 3600 {
            if second == 3600 {
                before = kept.history.facts().written_bytes;
            }
            window(&mut kept, &keys, START + second, 1, second);
            if second % 5 == 4 {
                kept.write();
            }
        }
        let written = kept.history.facts().written_bytes - before;
        eprintln!(
            "{count} workloads: {written} bytes written in an hour, {} synchronisations in two",
            kept.writer.syncs()
        );
        assert!(written <= most, "{written}");
    }
}

/// What the heap has more with a history than without.
#[test]
fn the_memory_of_250_workloads_is_less_than_a_megabyte() {
    if !is_long() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let keys: Vec<_> = (0..250).map(|number| deployment(&format!("w{number}"))).collect();
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap()
    };
    let before = resident();
    let allocated = allocation_counter::measure(|| {
        let mut kept = Kept::open(directory.path());
        kept.write();
        for second in 0..4000 {
            window(&mut kept, &keys, START + second, 1, second);
            if second % 5 == 4 {
                kept.write();
            }
        }
        eprintln!("250 workloads: {} kB resident more", resident() - before);
        drop(kept);
    });
    eprintln!("250 workloads: {} bytes of the heap at most", allocated.bytes_max);
    assert!(allocated.bytes_max < 1_000_000, "{allocated:?}");
}
