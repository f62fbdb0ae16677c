//! Every cgroup by its id, and the ones that went a short while ago.
//!
//! Made and removed cgroups come as events; a walk of the directories finds those that were there before, and heals what
//! events were lost. A cgroup's id is the inode of its directory and is never used again.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How long a removed cgroup's name is kept: its books may still come, and its series stay as long.
const KEEP_NS: u64 = 120_000_000_000;
/// Deeper trees than the kernel's own default limit are not walked.
const MAX_DEPTH: usize = 256;

/// A cgroup that is, or was a short while ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path below the v2 root as the label shows it: `/` for the root, bytes that are no UTF-8 as `\xff`.
    pub path: Arc<str>,
    /// When it was found to be gone, by the caller's clock.
    pub gone_at_ns: Option<u64>,
    /// The true name where `path` is not it.
    raw: Option<Box<[u8]>>,
    /// The walk that saw it last.
    walk: u64,
}

/// The cgroups of the v2 hierarchy below a mount.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    cgroups: HashMap<u64, Cgroup>,
    /// The living children of each cgroup that has some, by its path.
    children: HashMap<Arc<str>, Vec<u64>>,
    walks: u64,
}

impl Tree {
    /// The tree below `root`, a directory of a mounted v2 hierarchy. Empty until [`Tree::walk`].
    pub fn new(root: PathBuf) -> Self {
        Self { root, cgroups: HashMap::new(), children: HashMap::new(), walks: 0 }
    }

    /// A cgroup by its id.
    pub fn get(&self, id: u64) -> Option<&Cgroup> {
        self.cgroups.get(&id)
    }

    /// Every cgroup that is there.
    pub fn live(&self) -> impl Iterator<Item = (u64, &Cgroup)> {
        self.cgroups.iter().filter(|(_, cgroup)| cgroup.gone_at_ns.is_none()).map(|(id, cgroup)| (*id, cgroup))
    }

    /// The living cgroups right below one.
    pub fn children(&self, id: u64) -> &[u64] {
        self.get(id).and_then(|cgroup| self.children.get(&cgroup.path)).map_or(&[], Vec::as_slice)
    }

    /// The cgroups found gone at or after a time.
    pub fn gone_since(&self, since_ns: u64) -> impl Iterator<Item = u64> {
        let gone = move |cgroup: &Cgroup| cgroup.gone_at_ns.is_some_and(|gone| gone >= since_ns);
        self.cgroups.iter().filter(move |(_, cgroup)| gone(cgroup)).map(|(id, _)| *id)
    }

    /// Its directory.
    pub fn directory(&self, cgroup: &Cgroup) -> PathBuf {
        let name = cgroup.raw.as_deref().unwrap_or(cgroup.path.as_bytes());
        self.root.join(OsStr::from_bytes(name.strip_prefix(b"/").unwrap_or(name)))
    }

    /// A cgroup was made.
    pub fn made(&mut self, id: u64, path: &[u8]) {
        let cgroup = Cgroup::new(path, self.walks);
        if let Some(parent) = parent(&cgroup.path)
            && !self.cgroups.contains_key(&id)
        {
            self.children.entry(parent.into()).or_default().push(id);
        }
        self.cgroups.insert(id, cgroup);
    }

    /// A cgroup was removed.
    pub fn removed(&mut self, id: u64, now_ns: u64) {
        let Some(cgroup) = self.cgroups.get_mut(&id) else { return };
        cgroup.gone_at_ns.get_or_insert(now_ns);
        let Some(parent) = parent(&cgroup.path) else { return };
        if let Some(children) = self.children.get_mut(parent) {
            children.retain(|child| *child != id);
            if children.is_empty() {
                self.children.remove(parent);
            }
        }
    }

    /// The id of the cgroup with this path, asked of the file system.
    pub fn id_of(&self, path: &[u8]) -> io::Result<u64> {
        let below = path.strip_prefix(b"/").unwrap_or(path);
        fs::metadata(self.root.join(OsStr::from_bytes(below))).map(|directory| directory.ino())
    }

    /// Finds every cgroup there is; whoever was there at the walk before and is not now, is gone.
    pub fn walk(&mut self, now_ns: u64) -> io::Result<()> {
        self.walks += 1;
        let id = fs::metadata(&self.root)?.ino();
        self.saw(id, b"/");
        self.walk_below(&self.root.clone(), &mut Vec::new(), 0)?;
        let unseen: Vec<u64> = self.live().filter(|(_, cgroup)| cgroup.walk < self.walks).map(|(id, _)| id).collect();
        for id in unseen {
            // An event may have told of it while we walked elsewhere: only its directory knows.
            let there = self.get(id).is_some_and(|cgroup| {
                fs::metadata(self.directory(cgroup)).is_ok_and(|directory| directory.ino() == id)
            });
            if !there {
                self.removed(id, now_ns);
            }
        }
        Ok(())
    }

    /// Forgets the names of cgroups that have been gone for two minutes.
    pub fn forget(&mut self, now_ns: u64) {
        self.cgroups.retain(|_, cgroup| cgroup.gone_at_ns.is_none_or(|gone| now_ns.saturating_sub(gone) < KEEP_NS));
    }

    fn saw(&mut self, id: u64, path: &[u8]) {
        match self.cgroups.get_mut(&id) {
            Some(cgroup) => cgroup.walk = self.walks,
            None => self.made(id, path),
        }
    }

    fn walk_below(&mut self, directory: &Path, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            // It went while we looked.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let Ok(entry) = entry else { continue };
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let parent = path.len();
            path.push(b'/');
            path.extend_from_slice(entry.file_name().as_bytes());
            self.saw(metadata.ino(), path);
            if depth < MAX_DEPTH {
                self.walk_below(&entry.path(), path, depth + 1)?;
            }
            path.truncate(parent);
        }
        Ok(())
    }
}

impl Cgroup {
    fn new(path: &[u8], walk: u64) -> Self {
        let (path, raw) = match std::str::from_utf8(path) {
            Ok(path) => (Arc::from(path), None),
            Err(_) => (Arc::from(escape(path)), Some(Box::from(path))),
        };
        Self { path, gone_at_ns: None, raw, walk }
    }
}

/// The path of the cgroup above; none above the root.
fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// Bytes that are no UTF-8 as `\xff`. A name can spell the same in plain characters, so the whole path's hash follows.
fn escape(path: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(path.len() + 32);
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    // FNV-1a: stable from one run to the next, so the series stays the same.
    let hash = path
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let _ = write!(text, "~{hash:016x}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path().to_owned());
        (root, tree)
    }

    #[test]
    fn a_walk_finds_every_directory_by_its_inode() {
        let (root, mut tree) = tree();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        tree.walk(1).unwrap();
        let id = fs::metadata(root.path().join("a/b")).unwrap().ino();
        assert_eq!(&*tree.get(id).unwrap().path, "/a/b");
        assert_eq!(tree.directory(tree.get(id).unwrap()), root.path().join("a/b"));
        assert_eq!(tree.live().count(), 3);
    }

    #[test]
    fn a_removed_cgroup_keeps_its_name_for_two_minutes() {
        let (_root, mut tree) = tree();
        tree.made(7, b"/gone");
        tree.removed(7, 10);
        tree.forget(10 + KEEP_NS - 1);
        assert_eq!(tree.get(7).unwrap().gone_at_ns, Some(10));
        tree.forget(10 + KEEP_NS);
        assert_eq!(tree.get(7), None);
    }

    #[test]
    fn a_walk_heals_lost_events_both_ways() {
        let (root, mut tree) = tree();
        fs::create_dir(root.path().join("lost")).unwrap();
        tree.walk(1).unwrap();
        // Made before the other goes: this file system, unlike the cgroups', uses an inode again.
        fs::create_dir(root.path().join("made")).unwrap();
        fs::remove_dir(root.path().join("lost")).unwrap();
        tree.made(u64::MAX, b"/never/there");
        tree.walk(2).unwrap();
        assert_eq!(tree.get(u64::MAX).unwrap().gone_at_ns, Some(2));
        assert!(tree.live().any(|(_, cgroup)| &*cgroup.path == "/made"));
        assert!(!tree.live().any(|(_, cgroup)| &*cgroup.path == "/lost"));
    }

    #[test]
    fn children_are_the_living_cgroups_right_below() {
        let (_root, mut tree) = tree();
        for (id, path) in [(1, "/"), (2, "/a"), (3, "/a/b"), (4, "/a/c"), (5, "/d")] {
            tree.made(id, path.as_bytes());
        }
        assert_eq!(tree.children(1), [2, 5]);
        tree.removed(3, 1);
        assert_eq!(tree.children(2), [4]);
        tree.removed(4, 1);
        assert_eq!(tree.children(2), [0; 0]);
    }

    #[test]
    fn two_names_never_read_alike() {
        let bytes = Cgroup::new(b"/a\xff", 0);
        let other = Cgroup::new(b"/a\\xff", 0);
        assert_ne!(bytes.path, other.path);
        assert!(bytes.path.starts_with("/a\\xff~"), "{}", bytes.path);
    }
}
