//! Cgroups under a controller, wherever this machine has it: in the v2 hierarchy, or in one of its own of version 1, where a
//! cgroup of the tests gets a counterpart at the same path. All are removed when dropped.

use crate::cgroup::{self, Cgroup};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where a controller's hierarchy of version 1 is mounted, if it has one.
pub(crate) fn v1_root(controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - cgroup ")?;
        let options = after.rsplit(' ').next()?;
        options.split(',').any(|option| option == controller).then_some(())?;
        before.split(' ').nth(4).map(PathBuf::from)
    })
}

/// A cgroup under a controller.
pub(crate) struct Controlled {
    /// Dropped first: it ends what runs in both.
    counterpart: Option<Counterpart>,
    pub(crate) cgroup: Cgroup,
}

impl Controlled {
    /// Makes one in a folder, to which the controller is delegated where it is in v2.
    pub(crate) fn make(folder: &mut Cgroup, name: &str, controller: &str) -> Result<Self> {
        let v1 = v1_root(controller);
        if v1.is_none() {
            folder.delegate(controller)?;
        }
        let cgroup = folder.child(name)?;
        let counterpart = v1.map(|root| Counterpart::make(&root, &cgroup)).transpose()?;
        Ok(Self { counterpart, cgroup })
    }

    /// Whether the controller is in a hierarchy of version 1.
    pub(crate) fn is_v1(&self) -> bool {
        self.counterpart.is_some()
    }

    /// The directory of the controller's files.
    pub(crate) fn files(&self) -> &Path {
        self.counterpart.as_ref().map_or(self.cgroup.path(), |counterpart| &counterpart.path)
    }

    /// Puts a process that is in the cgroup under the controller, too.
    pub(crate) fn take(&self, pid: u32) -> Result<()> {
        self.counterpart.as_ref().map_or(Ok(()), |counterpart| cgroup::join(&counterpart.path, pid))
    }

    /// Sets a file by its name in v2 or by that in v1.
    pub(crate) fn set(&self, v2: (&str, &str), v1: (&str, &str)) -> Result<()> {
        let (name, value) = if self.is_v1() { v1 } else { v2 };
        let path = self.files().join(name);
        fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))
    }

    /// What a file says, by its name in v2 or by that in v1.
    pub(crate) fn says(&self, v2: &str, v1: &str) -> Result<String> {
        let path = self.files().join(if self.is_v1() { v1 } else { v2 });
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// A figure of such a file.
    pub(crate) fn figure(&self, v2: (&str, &str), v1: (&str, &str)) -> Result<u64> {
        let name = if self.is_v1() { v1.1 } else { v2.1 };
        figure(&self.says(v2.0, v1.0)?, name)
    }

    /// A file's only number.
    pub(crate) fn number(&self, v2: &str, v1: &str) -> Result<u64> {
        let text = self.says(v2, v1)?;
        text.trim().parse().with_context(|| format!("{} is no number", text.trim()))
    }
}

/// The number in a line `NAME NUMBER`.
pub(crate) fn figure(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.trim().parse()?)
}

/// A cgroup of version 1 at the path of one of v2.
struct Counterpart {
    path: PathBuf,
    root: PathBuf,
}

impl Counterpart {
    fn make(root: &Path, cgroup: &Cgroup) -> Result<Self> {
        let path = root.join(cgroup.label.trim_start_matches('/'));
        fs::create_dir_all(&path).with_context(|| format!("make the cgroup {}", path.display()))?;
        Ok(Self { path, root: root.to_owned() })
    }
}

impl Drop for Counterpart {
    fn drop(&mut self) {
        if let Err(error) = cgroup::remove_tree(&self.path) {
            eprintln!("observer-live: {error:#}");
        }
        // The test's folder goes with the last that is in it.
        let mut above = self.path.parent();
        while let Some(path) = above.filter(|path| *path != self.root && fs::remove_dir(path).is_ok()) {
            above = path.parent();
        }
    }
}
