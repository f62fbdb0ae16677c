//! Where the v1 hierarchies of the cpu and memory controllers are mounted, on nodes that have those controllers there.
//!
//! A controller is in one hierarchy only. The kubelet and the runtimes give a container the same path below each, so what v2
//! lacks is read from the same path of the controller's own hierarchy, or not at all.

use super::mount::{MOUNTINFO, Mount, ROOT_INODE, entries};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, statfs};
use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

#[cfg(test)]
mod tests;

/// Directories of v1 hierarchies that show what the v2 mount shows: below both, a cgroup has the same path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V1Mounts {
    /// The cpu controller's.
    pub cpu: Option<PathBuf>,
    /// The memory controller's.
    pub memory: Option<PathBuf>,
}

impl V1Mounts {
    /// Finds them among this process's mounts; none where mountinfo cannot be read.
    pub fn locate(v2: &Mount) -> Self {
        std::fs::read(MOUNTINFO).map(|mountinfo| Self::find(&mountinfo, v2, is_root)).unwrap_or_default()
    }

    /// Finds them in the text of a mountinfo file. `is_root` tells whether the root of a v1 hierarchy is found at a path:
    /// mountinfo shows a container of its own cgroup namespace another root than the hierarchy's.
    pub fn find(mountinfo: &[u8], v2: &Mount, is_root: impl Fn(&Path) -> bool) -> Self {
        let entries = entries(mountinfo);
        let of = |controller: &[u8]| {
            let mut mounts = entries.iter().filter(|entry| !entry.v2 && has(&entry.options, controller));
            let same_part = |root: &Path| !v2.root.as_os_str().is_empty() && root == v2.root;
            let found = mounts.find(|entry| if v2.true_root { is_root(&entry.path) } else { same_part(&entry.root) });
            found.map(|entry| entry.path.clone())
        };
        Self { cpu: of(b"cpu"), memory: of(b"memory") }
    }
}

/// `rw,cpu,cpuacct` has `cpu` and `cpuacct`.
fn has(options: &[u8], controller: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|option| option == controller)
}

/// Whether the root of a v1 hierarchy is at a path of this machine.
pub fn is_root(path: &Path) -> bool {
    let v1 = statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP_SUPER_MAGIC);
    v1 && std::fs::metadata(path).is_ok_and(|found| found.ino() == ROOT_INODE)
}
