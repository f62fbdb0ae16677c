//! kill -9 in the middle of writes: a child of the test, a real file, again and again.

use super::fixture::{Kept, START, deployment, sends, window};
use crate::history::{History, StateDir, Step};
use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const DIRECTORY: &str = "OBSERVER_TEST_KILL_DIRECTORY";
const FROM: &str = "OBSERVER_TEST_KILL_FROM";

/// What a second's value is: no other has it.
fn value(second: u64) -> f64 {
    (second - START + 1) as f64
}

/// The child: writes as fast as it can, and says how far it has come. Does nothing in an ordinary run of the tests.
#[test]
fn child_that_writes_until_it_is_killed() {
    let (Some(directory), Ok(from)) = (env::var_os(DIRECTORY), env::var(FROM)) else { return };
    let mut kept = Kept::open(Path::new(&directory));
    kept.write();
    let web = deployment("web");
    let mut out = std::io::stdout();
    for second in from.parse::<u64>().unwrap().. {
        kept.second(second, &[(&web, sends(value(second)))]);
        if (second + 1) % 5 == 0 {
            kept.write();
            assert_eq!(kept.history.facts().down_because, None);
            // Behind the write: this second is kept, whatever comes.
            writeln!(out, "\nwritten {second}").unwrap();
            out.flush().unwrap();
        }
    }
}

/// Lets a child write for a while and kills it. Returns the last second that it said was written.
fn kill_a_writer(directory: &Path, from: u64, after: Duration) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "history::tests::kill::child_that_writes_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        let written = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("written ")?.parse().ok());
        written.last().unwrap_or(0_u64)
    });
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[test]
fn what_was_written_is_there_after_every_kill() {
    let directory = tempfile::tempdir().unwrap();
    let (mut from, mut last, mut kills) = (START, 0, 0);
    for round in 0..12 {
        let written = kill_a_writer(directory.path(), from, Duration::from_millis(150 + 37 * round));
        if written == 0 {
            // Killed before its first commit; a busy machine.
            continue;
        }
        kills += 1;
        last = written;
        let mut kept = Kept::open(directory.path());
        kept.write();
        assert_eq!(kept.history.facts().files_moved_aside, 0, "round {round}");
        // One window more, which takes the store over; it is written by nobody.
        window(&mut kept.history, last + 100, 1000, &[(&deployment("web"), sends(value(last + 100)))]);
        let rows = kept.rows("web", "egress_mean", Step::Second, last + 50);
        let newest = rows.iter().map(|(time, _)| *time).max().unwrap();
        assert!(newest >= last, "round {round}: {newest} is the newest, but {last} was written");
        for (time, found) in rows {
            assert!((found / value(time) - 1.0).abs() < 1e-4, "round {round}: {found} at {time}");
        }
        let minutes = kept.rows("web", "egress_peak", Step::Minute, last + 50);
        for (time, found) in minutes.iter().filter(|(time, _)| time + 60 <= last) {
            // The last second of a minute that was never interrupted is its peak.
            assert!(*found <= value(time + 59) * 1.0001 && *found >= value(*time), "round {round}: {found} at {time}");
        }
        // A batch is sealed every five windows; the child reports those.
        from = last + 201;
    }
    assert!(kills >= 6, "{kills} kills in the middle of writes");
    let (history, _writer) = History::on_disk(StateDir::open(directory.path(), None).unwrap());
    drop(history);
    assert!(last > START + 1000, "{} seconds in all", last - START);
}
