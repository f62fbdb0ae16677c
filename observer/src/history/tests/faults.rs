//! Files and disks that are not as they should be.

use super::fixture::{Kept, START, deployment, sends, workload};
use crate::history::{History, StateDir, StateError, Step, Writer};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Owns nothing.
const NOBODY: (u32, u32) = (65534, 65534);

fn aside(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut aside: Vec<_> = entries.filter(|path| path.to_string_lossy().contains("aside")).collect();
    aside.sort();
    aside
}

fn some_rows(kept: &mut Kept, from: u64, count: u64) {
    let web = deployment("web");
    for second in from..from + count {
        kept.second(second, &[(&web, sends(5.0))]);
        kept.write();
    }
}

#[test]
fn a_foreign_file_is_moved_aside_whole_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("history.redb");
    for text in ["SQLite format 3", "x"] {
        fs::write(&file, text).unwrap();
        let mut kept = Kept::open(directory.path());
        kept.write();
        some_rows(&mut kept, START, 10);
        let facts = kept.history.facts();
        assert_eq!((facts.files_moved_aside, facts.down_because), (1, None));
        assert_eq!(fs::read_to_string(aside(directory.path()).pop().unwrap()).unwrap(), text);
        assert!(!kept.rows("web", "egress_mean", Step::Second, START + 60).is_empty());
    }
    assert_eq!(aside(directory.path()).len(), 2);
}

/// Overwrites part of a good file in every place in turn: it is read, or it is moved aside, and nothing panics.
#[test]
fn a_damaged_file_is_read_or_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("history.redb");
    let mut kept = Kept::open(directory.path());
    kept.write();
    some_rows(&mut kept, START, 150);
    drop(kept);
    let good = fs::read(&file).unwrap();
    let (mut aside_count, mut read) = (0, 0);
    for (at, length) in
        (0..good.len()).step_by(good.len() / 150).map(|at| (at, 64)).chain([(9, 1), (64, 8), (128, 200)])
    {
        let mut bad = good.clone();
        for byte in bad.iter_mut().skip(at).take(length) {
            *byte = byte.wrapping_mul(31).wrapping_add(7);
        }
        fs::write(&file, &bad).unwrap();
        let mut kept = Kept::open(directory.path());
        kept.write();
        some_rows(&mut kept, START + 200, 6);
        let facts = kept.history.facts();
        assert_eq!(facts.down_because, None, "at {at}");
        assert!(!kept.rows("web", "egress_mean", Step::Second, START + 300).is_empty(), "at {at}");
        if facts.files_moved_aside > 0 {
            aside_count += 1;
        } else {
            read += 1;
        }
    }
    // Of those that were still known as ours the last is kept; what was not might be anybody's.
    let names: Vec<_> = aside(directory.path()).iter().map(|path| path.extension().unwrap().to_owned()).collect();
    assert_eq!(names, ["aside-1", "aside-damaged"]);
    assert!(aside_count > 5 && read > 5, "{aside_count} moved aside, {read} read");
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    let mut kept = Kept::open(directory.path());
    kept.write();
    assert_eq!(kept.history.facts().files_moved_aside, 1, "cut in half");
}

#[test]
fn a_directory_that_cannot_be_written_says_what_to_do() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("a mode does not stop root: the live tests have a read-only mount");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let error = StateDir::open(directory.path(), None).unwrap_err().to_string();
    assert!(error.contains("chown") && error.contains("history.redb"), "{error}");
}

/// What an open file that has no name any more takes in is gone with the agent.
#[test]
fn a_file_that_is_removed_is_begun_anew_and_a_directory_is_waited_for() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("state");
    let mut kept = Kept::open(&directory);
    kept.write();
    some_rows(&mut kept, START, 10);
    fs::remove_file(directory.join("history.redb")).unwrap();
    some_rows(&mut kept, START + 10, 10);
    assert_eq!(kept.history.facts().down_because, None);
    drop(kept);
    let mut kept = Kept::open(&directory);
    kept.write();
    some_rows(&mut kept, START + 25, 2);
    assert!(kept.rows("web", "egress_mean", Step::Second, START + 30).len() >= 10, "under their name, too");
    // Another agent's history, put in its place: it is told, and not written to.
    let file = directory.join("history.redb");
    fs::copy(&file, outer.path().join("other")).unwrap();
    fs::rename(outer.path().join("other"), &file).unwrap();
    let other = fs::read(&file).unwrap();
    some_rows(&mut kept, START + 28, 1);
    let reason = kept.history.facts().down_because.unwrap_or_default();
    assert!(reason.contains("start the agent again"), "{reason}");
    assert!(fs::read(&file).unwrap() == other, "it was written to");
    fs::remove_dir_all(&directory).unwrap();
    some_rows(&mut kept, START + 30, 1);
    let reason = kept.history.facts().down_because.unwrap_or_default();
    assert!(reason.contains("history.redb") && reason.contains("No such file"), "{reason}");
    fs::create_dir(&directory).unwrap();
    some_rows(&mut kept, START + 31, 10);
    assert_eq!(kept.history.facts().down_because, None);
    assert!(directory.join("history.redb").exists());
}

#[test]
fn what_is_no_directory_or_no_file_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("a/b");
    let error = StateDir::open(&missing, None).unwrap_err().to_string();
    assert!(error.contains("make the directory above it"), "{error}");
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = StateDir::open(&file, None).unwrap_err().to_string();
    assert!(error.contains("give --state-dir a directory"), "{error}");
    let link = directory.path().join("history.redb");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(matches!(StateDir::open(directory.path(), None), Err(StateError::Io { .. })), "a link is not followed");
    fs::remove_file(&link).unwrap();
    nix::unistd::mkfifo(&link, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = StateDir::open(directory.path(), None).unwrap_err().to_string();
    assert!(error.contains("no regular file"), "{error}");
}

#[test]
fn a_directory_with_files_of_others_is_not_given_away() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let made = outer.path().join("state");
    drop(StateDir::open(&made, Some(NOBODY)).unwrap());
    assert_eq!(fs::metadata(&made).unwrap().uid(), NOBODY.0, "a directory that was made");
    assert_eq!(fs::metadata(made.join("history.redb")).unwrap().uid(), NOBODY.0, "its file");
    let full = outer.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("precious"), "").unwrap();
    let error = StateDir::open(&full, Some(NOBODY)).unwrap_err();
    assert!(matches!(error, StateError::NotGiven { .. }), "{error}");
    assert_eq!(fs::metadata(&full).unwrap().uid(), 0);
}

#[test]
fn while_the_disk_is_stuck_rows_wait_and_the_oldest_are_lost_and_counted() {
    // No writer: that is what a disk that hangs looks like.
    let directory = tempfile::tempdir().unwrap();
    let (mut history, writer): (History, Writer) = History::on_disk(StateDir::open(directory.path(), None).unwrap());
    let all: Vec<_> = (0..250).map(|number| deployment(&format!("w{number}"))).collect();
    let rows: Vec<_> = all.iter().map(|key| (key, sends(5.0))).collect();
    for second in 0..1000 {
        super::fixture::window(&mut history, START + second, 1000, &rows);
    }
    let facts = history.facts();
    assert!(facts.lost_rows > 0 && facts.waiting_bytes <= 512 * 1024, "{facts:?}");
    // It comes back: what is left is written, and the minutes are whole.
    let mut kept = Kept { history, writer };
    kept.write();
    for second in 1000..1010 {
        kept.second(START + second, &rows);
        kept.write();
    }
    assert_eq!(kept.history.facts().down_because, None);
    assert!(kept.answer(&workload("w7"), "egress_mean", Step::Second, START + 2000).rows.len() > 50);
}
