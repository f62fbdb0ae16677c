//! The cgroup that everything a benchmark starts lives in, so that one stroke ends it all: at the end of a run, on
//! SIGINT and SIGTERM, and after a run that was killed, by the next one.

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use observer::{cgroup::mount, kernel::lock::NodeLock};
use std::{
    fs, io,
    ops::Deref,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const PREFIX: &str = "observer-bench-";

/// A cgroup below the root of the v2 hierarchy. Dropping it kills what runs in it and removes it.
#[derive(Debug)]
pub(crate) struct Arena {
    root: PathBuf,
    path: PathBuf,
}

impl Arena {
    /// Makes the cgroup, after removing those whose benchmark is gone.
    pub(crate) fn new() -> Result<Self> {
        let root = mount::locate(None)?.path;
        // Its programs would be part of every figure. Released at once: the agent that is measured needs it.
        drop(NodeLock::take(&root, Path::new("/proc"))?);
        for entry in fs::read_dir(&root)?.flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                clear(&entry.path());
            }
        }
        let path = root.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("make the cgroup {} (root is needed)", path.display()))?;
        Ok(Self { root, path })
    }

    /// Makes SIGINT and SIGTERM clean up before they end the process. Must run before any other thread starts.
    pub(crate) fn clear_on_signals(&self) -> Result<()> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        signals.thread_block().context("block signals")?;
        let path = self.path.clone();
        thread::spawn(move || {
            let signal = signals.wait();
            clear(&path);
            let number = signal.map_or(1, |signal| 128 + signal as i32);
            std::process::exit(number);
        });
        Ok(())
    }

    /// Makes a cgroup below.
    pub(crate) fn cgroup(&self, name: &str) -> Result<Cgroup> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("make the cgroup {}", path.display()))?;
        Ok(Cgroup(path))
    }

    /// The path as observer's `cgroup` label has it.
    pub(crate) fn label(&self, path: &Path) -> Result<String> {
        Ok(format!("/{}", path.strip_prefix(&self.root).context("a cgroup of the hierarchy")?.display()))
    }
}

/// A cgroup of the arena. Dropping it kills what runs in it and removes it.
#[derive(Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Deref for Cgroup {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        clear(&self.path);
    }
}

/// Kills, waits, removes; what cannot be removed is named on stderr.
fn clear(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = remove_tree(path) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        if Instant::now() > deadline {
            eprintln!("cannot remove the cgroup {}: {error}; remove it with rmdir", path.display());
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
