//! Where the cgroup v2 hierarchy is mounted: read from mountinfo, since distributions and containers differ.
//!
//! A pure host has it at `/sys/fs/cgroup`, a hybrid one (v1 controllers, v2 for the processes) usually at
//! `/sys/fs/cgroup/unified`, and a container may have its own part at the usual place and the host's tree at another.

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// This process's own mounts; the paths in it are the ones this process can open, whatever `--proc-path` says.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";
/// The inode, and so the cgroup id, of the hierarchy's root on every kernel.
pub(super) const ROOT_INODE: u64 = 1;

/// A mount of the v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount point.
    pub path: PathBuf,
    /// The directory of the hierarchy that is mounted there, as this process's cgroup namespace sees it: `/` usually,
    /// `/../..` when the mount shows more than the namespace. Empty when the path was given and not looked up.
    pub root: PathBuf,
    /// Whether v1 hierarchies are mounted too: their controllers are missing from the v2 tree.
    pub hybrid: bool,
    /// Whether the mount shows the whole hierarchy. Otherwise only the cgroups below it can be seen and counted.
    pub true_root: bool,
}

/// Why there is no v2 hierarchy to work with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The host runs v1 hierarchies only.
    #[error(
        "only cgroup v1 is mounted, and it cannot be counted by; boot with systemd.unified_cgroup_hierarchy=1 (mounting the v2 hierarchy by hand is of no use: every process would be in its root)"
    )]
    V1Only,
    /// No cgroup hierarchy at all, as in a chroot.
    #[error(
        "no cgroup hierarchy is mounted here; mount it with: mount -t cgroup2 none /sys/fs/cgroup, or in a container pass the host's /sys/fs/cgroup in"
    )]
    Unmounted,
    /// The path that was given is something else.
    #[error("{path} is not in a cgroup v2 hierarchy; give --cgroup-path the mount point of one, or leave it out", path = path.display())]
    NotV2 {
        /// The path.
        path: PathBuf,
    },
    /// The path that was given is a directory of a hierarchy that is mounted above it. The programs see the whole node, whose
    /// other cgroups would have no names; and a lock on that directory is none for the node.
    #[error("{path} is a directory in a cgroup v2 hierarchy and not its mount point; give --cgroup-path {mount}, or leave it out", path = path.display(), mount = mount.display())]
    Inside {
        /// The path.
        path: PathBuf,
        /// Where the hierarchy is mounted.
        mount: PathBuf,
    },
    /// Mountinfo could not be read.
    #[error("cannot read {MOUNTINFO}: {reason}; mount /proc, or say where the hierarchy is with --cgroup-path")]
    Unreadable {
        /// The system's words.
        reason: String,
    },
}

/// What is really found at a path: another mount may cover it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The root of the whole v2 hierarchy.
    TrueRoot,
    /// Another directory of the v2 hierarchy.
    Below,
    /// Not v2, or not there.
    Elsewhere,
}

/// Finds the hierarchy: at `given` (`--cgroup-path`), or else by this process's mounts.
///
/// # Errors
/// [`MountError`].
pub fn locate(given: Option<&Path>) -> Result<Mount, MountError> {
    let mountinfo = std::fs::read(MOUNTINFO);
    let Some(path) = given else {
        let mountinfo = mountinfo.map_err(|error| MountError::Unreadable { reason: error.to_string() })?;
        return find_v2(&mountinfo, standing);
    };
    let true_root = match standing(path) {
        Standing::TrueRoot => true,
        Standing::Below => false,
        Standing::Elsewhere => return Err(MountError::NotV2 { path: path.to_owned() }),
    };
    let entries = mountinfo.map(|text| entries(&text)).unwrap_or_default();
    if !true_root {
        refuse_inside(path, &entries)?;
    }
    let hybrid = entries.iter().any(|entry| !entry.v2);
    let root = entries.into_iter().rev().find(|entry| entry.v2 && entry.path == path);
    Ok(Mount { path: path.to_owned(), root: root.map(|entry| entry.root).unwrap_or_default(), hybrid, true_root })
}

/// Refuses a directory below a mount point of the hierarchy.
fn refuse_inside(path: &Path, entries: &[Entry]) -> Result<(), MountError> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let v2 = entries.iter().filter(|entry| entry.v2 && real.starts_with(&entry.path));
    // The innermost: others may be mounted below it.
    match v2.max_by_key(|entry| entry.path.components().count()) {
        Some(entry) if entry.path != real => {
            Err(MountError::Inside { path: path.to_owned(), mount: entry.path.clone() })
        }
        _ => Ok(()),
    }
}

/// Finds the best v2 mount in the text of a mountinfo file: the first that shows the whole hierarchy, else the first that
/// is visible. `standing` tells what is found at a mount point.
///
/// # Errors
/// [`MountError::V1Only`] or [`MountError::Unmounted`].
pub fn find_v2(mountinfo: &[u8], standing: impl Fn(&Path) -> Standing) -> Result<Mount, MountError> {
    let entries = entries(mountinfo);
    let hybrid = entries.iter().any(|entry| !entry.v2);
    let mut below = None;
    for entry in entries.into_iter().filter(|entry| entry.v2) {
        let found = |true_root| Mount { path: entry.path.clone(), root: entry.root.clone(), hybrid, true_root };
        match standing(&entry.path) {
            Standing::TrueRoot => return Ok(found(true)),
            Standing::Below => below = below.or_else(|| Some(found(false))),
            Standing::Elsewhere => {}
        }
    }
    below.ok_or(if hybrid { MountError::V1Only } else { MountError::Unmounted })
}

/// What is found at a path of this machine.
pub fn standing(path: &Path) -> Standing {
    let v2 = statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
    match std::fs::metadata(path) {
        Ok(found) if v2 && found.ino() == ROOT_INODE => Standing::TrueRoot,
        Ok(_) if v2 => Standing::Below,
        _ => Standing::Elsewhere,
    }
}

/// A line of mountinfo about a cgroup hierarchy.
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) root: PathBuf,
    pub(super) v2: bool,
    /// The options of the file system: a v1 hierarchy's controllers are among them.
    pub(super) options: Vec<u8>,
}

/// `36 35 98:0 ROOT MOUNT-POINT options [optional fields] - TYPE source options`, see proc(5).
pub(super) fn entries(mountinfo: &[u8]) -> Vec<Entry> {
    let entry = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, path) = (fields.nth(3)?, fields.next()?);
        fields.find(|field| field == b"-")?;
        let v2 = match fields.next()? {
            b"cgroup2" => true,
            b"cgroup" => false,
            _ => return None,
        };
        let options = fields.nth(1).unwrap_or_default().to_vec();
        Some(Entry { path: unescaped(path), root: unescaped(root), v2, options })
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(entry).collect()
}

/// Undoes the kernel's octal escapes of blanks and backslashes: `\040` is a space.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        let octal = digits.map(|digits| digits.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0')));
        if let Some(byte) = octal.and_then(|value| u8::try_from(value).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}
