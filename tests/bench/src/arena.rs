//! The cgroup that everything a benchmark starts lives in, so that one stroke ends it all: at the end of a run, on
//! SIGINT and SIGTERM, and after a run that was killed, by the next one.

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use observer::{
    cgroup::{mount, v1::V1Mounts},
    kernel::lock::NodeLock,
};
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
    /// The same path in the v1 hierarchies of the cpu and memory controllers, where they are there.
    v1: Vec<PathBuf>,
}

impl Arena {
    /// Makes the cgroup, after removing those whose benchmark is gone.
    pub(crate) fn new() -> Result<Self> {
        let mount = mount::locate(None)?;
        let V1Mounts { cpu, memory } = V1Mounts::locate(&mount);
        let root = mount.path;
        // Its programs would be part of every figure. Released at once: the agent that is measured needs it.
        drop(NodeLock::take(&root, Path::new("/proc"))?);
        let v1: Vec<PathBuf> = cpu.into_iter().chain(memory).collect();
        for hierarchy in [&root].into_iter().chain(&v1) {
            clear_leftovers(hierarchy)?;
        }
        let name = format!("{PREFIX}{}", std::process::id());
        let path = root.join(&name);
        fs::create_dir(&path).with_context(|| format!("make the cgroup {} (root is needed)", path.display()))?;
        Ok(Self { root, path, v1: v1.into_iter().map(|hierarchy| hierarchy.join(&name)).collect() })
    }

    /// Makes SIGINT and SIGTERM clean up before they end the process. Must run before any other thread starts.
    pub(crate) fn clear_on_signals(&self) -> Result<()> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        signals.thread_block().context("block signals")?;
        let (path, v1) = (self.path.clone(), self.v1.clone());
        thread::spawn(move || {
            let signal = signals.wait();
            clear(&path);
            for path in &v1 {
                clear(path);
            }
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

    /// Puts a process of a cgroup of the arena into counterparts of that cgroup in v1 too, as a kubelet does; they are removed with
    /// the arena.
    pub(crate) fn bind_in_v1(&self, cgroup: &Path, pid: u32) -> Result<()> {
        let below = cgroup.strip_prefix(&self.path).context("a cgroup of the arena")?;
        for folder in &self.v1 {
            let path = folder.join(below);
            fs::create_dir_all(&path).with_context(|| format!("make the cgroup {}", path.display()))?;
            fs::write(path.join("cgroup.procs"), pid.to_string())
                .with_context(|| format!("move {pid} to {}", path.display()))?;
        }
        Ok(())
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
        for path in &self.v1 {
            clear(path);
        }
    }
}

/// Removes the cgroups whose benchmark is gone.
fn clear_leftovers(hierarchy: &Path) -> Result<()> {
    for entry in fs::read_dir(hierarchy)?.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            clear(&entry.path());
        }
    }
    Ok(())
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
