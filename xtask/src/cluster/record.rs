//! The record of the cluster that is up on this machine: what was there before, written before it is changed, so that all of
//! it can be put back whatever happens in between.
//!
//! It is in /run, and not under target/: a machine has one cluster, whichever checkout it is of. Holding its lock is the right
//! to bring a cluster up or down.

use super::{mode::Mode, process::Process};
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Where it is.
const DIRECTORY: &str = "/run/observer-cluster";

/// What a cluster is and what it changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its directory under target/ of the checkout that it is of.
    pub(super) directory: PathBuf,
    /// How its node sees the machine's cgroups.
    pub(super) mode: Mode,
    /// The boot of the machine that it belongs to: not everywhere is /run empty after the next one.
    pub(super) boot: String,
    /// When it was brought up, in seconds since 1970.
    pub(super) started: u64,
    /// What runs, in which version.
    pub(super) versions: BTreeMap<String, String>,
    /// The machine's settings that a kubelet changes, as they were.
    pub(super) sysctls: BTreeMap<String, String>,
    /// The controllers that the v2 hierarchy's root gave to its children.
    pub(super) subtree_control: Vec<String>,
    /// Directories that were made to mount over, in the order made.
    pub(super) made: Vec<PathBuf>,
}

/// The right to change what the record says; given back when dropped or when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _directory: Flock<File>,
}

impl Lock {
    /// Takes it, and makes the record's directory if there is none.
    ///
    /// # Errors
    /// When another process has it, or this one is not root.
    pub(super) fn take() -> Result<Self> {
        loop {
            match fs::create_dir(DIRECTORY) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error).context(format!("make {DIRECTORY}"));
                }
                _ => {}
            }
            let Ok(directory) = File::open(DIRECTORY) else { continue };
            let Ok(lock) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else {
                bail!("another `cargo xtask cluster` is at work on this machine; try again when it is done");
            };
            // Whoever had it may have removed the directory in the meantime.
            let same = |path: std::io::Result<fs::Metadata>| Some((path.as_ref().ok()?.dev(), path.ok()?.ino()));
            if same(fs::metadata(DIRECTORY)) == same(lock.metadata()) {
                return Ok(Self { _directory: lock });
            }
        }
    }
}

impl Record {
    /// The record, if there is one. What cannot be read counts as none: it is written in one step, before anything is
    /// changed.
    pub(super) fn read() -> Option<Self> {
        serde_json::from_slice(&fs::read(path("record.json")).ok()?).ok()
    }

    /// Writes it, for the owner of the lock.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, _lock: &Lock) -> Result<()> {
        let draft = path("record.draft");
        let text = serde_json::to_vec_pretty(self).context("put the record into words")?;
        fs::write(&draft, text).with_context(|| format!("write {}", draft.display()))?;
        fs::rename(&draft, path("record.json")).context("write the record")
    }

    /// Removes it, and keeps the right to write another.
    ///
    /// # Errors
    /// When a file of it cannot be removed.
    pub(super) fn clear(_lock: &Lock) -> Result<()> {
        for entry in fs::read_dir(DIRECTORY).with_context(|| format!("read {DIRECTORY}"))? {
            let path = entry.with_context(|| format!("read {DIRECTORY}"))?.path();
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes it for good.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn remove(lock: Lock) -> Result<()> {
        fs::remove_dir_all(DIRECTORY).with_context(|| format!("remove {DIRECTORY}"))?;
        drop(lock);
        Ok(())
    }
}

/// The machine's boot.
pub(super) fn this_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// True when there is a record, or what is left of one.
pub(super) fn is_there() -> bool {
    Path::new(DIRECTORY).exists()
}

/// A file of the record.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Adds a process that was started.
///
/// # Errors
/// When it cannot be written.
pub(super) fn add_process(process: &Process) -> Result<()> {
    append("processes", &process.to_string())
}

/// The processes that were started, each under its name: the last one, if it was started more than once.
pub(super) fn processes() -> BTreeMap<String, Process> {
    let text = fs::read_to_string(path("processes")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).map(|process: Process| (process.name.clone(), process)).collect()
}

/// How far a start has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something is done.
    Done(String),
    /// All is.
    Ready,
    /// It will not be.
    Failed(String),
}

/// Says how far the start has come.
///
/// # Errors
/// When it cannot be written.
pub(super) fn add_step(step: &Step) -> Result<()> {
    let line = match step {
        Step::Done(what) => format!("done {what}"),
        Step::Ready => "ready".to_owned(),
        Step::Failed(why) => format!("failed {}", why.replace('\n', "\r")),
    };
    append("steps", &line)
}

/// The steps so far.
pub(super) fn steps() -> Vec<Step> {
    let text = fs::read_to_string(path("steps")).unwrap_or_default();
    // A line without its end is still being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(parse_step).collect()
}

fn parse_step(line: &str) -> Option<Step> {
    if line == "ready" {
        return Some(Step::Ready);
    }
    let (kind, text) = line.split_once(' ')?;
    match kind {
        "done" => Some(Step::Done(text.to_owned())),
        "failed" => Some(Step::Failed(text.replace('\r', "\n"))),
        _ => None,
    }
}

fn append(name: &str, line: &str) -> Result<()> {
    let path = path(name);
    let mut file =
        File::options().create(true).append(true).open(&path).with_context(|| format!("open {}", path.display()))?;
    // In one write: a reader sees all of it or none.
    file.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_as_it_was_written() {
        assert_eq!(parse_step("ready"), Some(Step::Ready));
        assert_eq!(parse_step("done API server ready"), Some(Step::Done("API server ready".into())));
        assert_eq!(parse_step("failed a\rb"), Some(Step::Failed("a\nb".into())));
        assert_eq!(parse_step("what"), None);
    }
}
