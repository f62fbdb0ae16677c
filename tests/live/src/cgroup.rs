//! Cgroups of the tests' own, all in one folder below the v2 root, removed when dropped.

use crate::machine::wait_until;
use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const FOLDER: &str = "observer-live-";

/// Where the v2 tree is mounted.
pub(crate) fn v2_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            after.starts_with("cgroup2 ").then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or_default()))
        })
        .context("no cgroup2 in /proc/self/mountinfo")
}

/// Whether the v2 tree has a controller.
pub(crate) fn has_controller(name: &str) -> bool {
    let controllers = v2_root().and_then(|root| Ok(fs::read_to_string(root.join("cgroup.controllers"))?));
    controllers.is_ok_and(|list| list.split_whitespace().any(|controller| controller == name))
}

/// A cgroup; removed with everything below it when dropped, after what still runs in it was killed.
pub(crate) struct Cgroup {
    path: PathBuf,
    /// The path below the v2 root: the value of the `cgroup` label, where that is text and not too long.
    pub(crate) label: String,
    /// Taken back from the root once the cgroup is gone.
    lent: Vec<Lent>,
}

/// A controller that the root gives to its children for as long as a test needs it.
struct Lent {
    control: PathBuf,
    controller: String,
}

impl Cgroup {
    /// A folder for the cgroups of one test, of a name of its own: an agent remembers who had a name before.
    pub(crate) fn for_test() -> Result<Self> {
        static TESTS: AtomicU32 = AtomicU32::new(1);
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        Self::make(&v2_root()?, "", format!("{FOLDER}{}-{number}", std::process::id()).as_ref())
    }

    /// A cgroup in this one.
    pub(crate) fn child(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        Self::make(&self.path, &self.label, name.as_ref())
    }

    fn make(parent: &Path, parent_label: &str, name: &OsStr) -> Result<Self> {
        let path = parent.join(name);
        let name = name.to_string_lossy();
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("make the cgroup {}", path.display()))
            }
            _ => Ok(Self { path, label: format!("{parent_label}/{name}"), lent: Vec::new() }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The processes in it.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Gives the children of a folder for a test a controller; the root's children keep it no longer than the folder is
    /// there, unless they had it before.
    pub(crate) fn delegate(&mut self, controller: &str) -> Result<()> {
        let control = v2_root()?.join("cgroup.subtree_control");
        if !fs::read_to_string(&control)?.split_whitespace().any(|there| there == controller) {
            switch(&control, "+", controller)?;
            self.lent.push(Lent { control, controller: controller.to_owned() });
        }
        switch(&self.path.join("cgroup.subtree_control"), "+", controller)
    }

    /// Removes it while the test goes on.
    pub(crate) fn remove(self) -> Result<()> {
        remove_tree(&self.path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            eprintln!("observer-live: {error:#}");
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Err(error) = switch(&self.control, "-", &self.controller) {
            eprintln!("observer-live: {error:#}");
        }
    }
}

fn switch(control: &Path, sign: &str, controller: &str) -> Result<()> {
    fs::write(control, format!("{sign}{controller}"))
        .with_context(|| format!("write {sign}{controller} to {}", control.display()))
}

/// Moves a process (0: the caller) into a cgroup.
pub(crate) fn join(path: &Path, pid: u32) -> Result<()> {
    fs::write(path.join("cgroup.procs"), pid.to_string()).with_context(|| format!("move {pid} to {}", path.display()))
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    let gone = wait_until(Duration::from_secs(5), || {
        if fs::remove_dir(path).is_ok() || !path.exists() {
            return Ok(true);
        }
        // Only what a test of ours put there: nobody else knows the folder.
        for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Ok(pid) = pid.parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        Ok(false)
    })?;
    ensure!(gone, "the cgroup {} could not be removed", path.display());
    Ok(())
}

/// Removes the folders of runs that were killed.
pub(crate) fn remove_leftovers() {
    let v1 = ["cpu", "memory"].into_iter().filter_map(crate::controllers::v1_root);
    let roots = v2_root().into_iter().chain(v1);
    for entry in roots.filter_map(|root| fs::read_dir(root).ok()).flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
            && let Err(error) = remove_tree(&entry.path())
        {
            eprintln!("observer-live: {error:#}");
        }
    }
}
