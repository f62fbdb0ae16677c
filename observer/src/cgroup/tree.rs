//! Every cgroup by its id, and the ones that went a short while ago.
//!
//! Made and removed cgroups come as events; a walk of the directories finds those that were there before, and heals what
//! events were lost. A cgroup's id is the inode of its directory and is never used again.

use super::v1::V1Mounts;
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(test)]
mod tests;

/// How long a removed cgroup's name is kept: its books may still come, and its series stay as long.
const KEEP_NS: u64 = 120_000_000_000;
/// What is nested deeper is not walked: each level costs a descriptor while it is.
const MAX_DEPTH: usize = 64;

/// A cgroup that is, or was a short while ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path below the v2 root as the label shows it: `/` for the root, bytes that are no UTF-8 as `\xff`.
    pub path: Arc<str>,
    /// When it was found to be gone, by the caller's clock.
    pub gone_at_ns: Option<u64>,
    /// Its path's bytes; the same memory as `path` where they are UTF-8.
    raw: Arc<[u8]>,
    /// The walk that saw it last.
    walk: u64,
}

/// What a walk could not look into.
#[derive(Debug, Default)]
pub struct Walked {
    /// Directories that could not be read: the cgroups below are known by events alone.
    pub unreadable: usize,
    /// The first of them, with the reason.
    pub example: Option<(PathBuf, io::Error)>,
}

/// The cgroups of the v2 hierarchy below a mount.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    v1: V1Mounts,
    cgroups: HashMap<u64, Cgroup>,
    /// The living cgroups by their paths' bytes.
    by_path: HashMap<Arc<[u8]>, u64>,
    /// The living children of each cgroup that has some.
    children: HashMap<u64, Vec<u64>>,
    walks: u64,
}

impl Tree {
    /// The tree below `root`, a directory of a mounted v2 hierarchy. Empty until [`Tree::walk`].
    pub fn new(root: PathBuf) -> Self {
        let (cgroups, by_path, children) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { root, v1: V1Mounts::default(), cgroups, by_path, children, walks: 0 }
    }

    /// The same tree beside v1 hierarchies, in which its cgroups may have counterparts.
    #[must_use]
    pub fn beside(self, v1: V1Mounts) -> Self {
        Self { v1, ..self }
    }

    /// The v1 hierarchies that it is beside.
    pub fn v1(&self) -> &V1Mounts {
        &self.v1
    }

    /// A cgroup by its id.
    pub fn get(&self, id: u64) -> Option<&Cgroup> {
        self.cgroups.get(&id)
    }

    /// Whether a cgroup is known and not gone.
    pub fn is_live(&self, id: u64) -> bool {
        self.get(id).is_some_and(|cgroup| cgroup.gone_at_ns.is_none())
    }

    /// Every cgroup that is there.
    pub fn live(&self) -> impl Iterator<Item = (u64, &Cgroup)> {
        self.cgroups.iter().filter(|(_, cgroup)| cgroup.gone_at_ns.is_none()).map(|(id, cgroup)| (*id, cgroup))
    }

    /// Every cgroup that is there or was a short while ago.
    pub fn known(&self) -> impl Iterator<Item = (u64, &Cgroup)> {
        self.cgroups.iter().map(|(id, cgroup)| (*id, cgroup))
    }

    /// The living cgroups right below one.
    pub fn children(&self, id: u64) -> &[u64] {
        self.children.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The living cgroup right above one.
    pub fn parent(&self, id: u64) -> Option<u64> {
        self.by_path.get(parent(&self.get(id)?.raw)?).copied()
    }

    /// The living cgroup at a path.
    pub fn at(&self, path: impl AsRef<[u8]>) -> Option<u64> {
        self.by_path.get(path.as_ref()).copied()
    }

    /// The cgroups found gone at or after a time.
    pub fn gone_since(&self, since_ns: u64) -> impl Iterator<Item = u64> {
        let gone = move |cgroup: &Cgroup| cgroup.gone_at_ns.is_some_and(|gone| gone >= since_ns);
        self.cgroups.iter().filter(move |(_, cgroup)| gone(cgroup)).map(|(id, _)| *id)
    }

    /// Its directory.
    pub fn directory(&self, cgroup: &Cgroup) -> PathBuf {
        Self::below(&self.root, cgroup)
    }

    /// The directory that has a cgroup's path below the root of another hierarchy.
    pub fn below(root: &Path, cgroup: &Cgroup) -> PathBuf {
        root.join(OsStr::from_bytes(cgroup.raw.strip_prefix(b"/").unwrap_or(&cgroup.raw)))
    }

    /// A cgroup was made, or found. What was known of its id before is replaced.
    pub fn made(&mut self, id: u64, path: &[u8]) {
        self.unlink(id);
        let cgroup = Cgroup::new(path, self.walks);
        self.by_path.insert(Arc::clone(&cgroup.raw), id);
        if let Some(parent) = parent(path).and_then(|parent| self.by_path.get(parent)) {
            self.children.entry(*parent).or_default().push(id);
        }
        self.cgroups.insert(id, cgroup);
    }

    /// A cgroup was removed.
    pub fn removed(&mut self, id: u64, now_ns: u64) {
        self.unlink(id);
        if let Some(cgroup) = self.cgroups.get_mut(&id) {
            cgroup.gone_at_ns.get_or_insert(now_ns);
        }
    }

    /// Takes a cgroup out of what is known of the living.
    fn unlink(&mut self, id: u64) {
        let Some(cgroup) = self.cgroups.get(&id) else { return };
        if let Some(parent) = parent(&cgroup.raw).and_then(|parent| self.by_path.get(parent))
            && let Some(children) = self.children.get_mut(parent)
        {
            children.retain(|child| *child != id);
            if children.is_empty() {
                self.children.remove(&parent.clone());
            }
        }
        // Another may have its path by now.
        if self.by_path.get(&cgroup.raw) == Some(&id) {
            self.by_path.remove(&cgroup.raw);
        }
    }

    /// The id of the cgroup with this path, asked of the file system.
    pub fn id_of(&self, path: &[u8]) -> io::Result<u64> {
        let below = path.strip_prefix(b"/").unwrap_or(path);
        fs::metadata(self.root.join(OsStr::from_bytes(below))).map(|directory| directory.ino())
    }

    /// Finds every cgroup there is; whoever was there at the walk before and is not now, is gone.
    ///
    /// # Errors
    /// When the root itself cannot be read; then nothing is changed.
    pub fn walk(&mut self, now_ns: u64) -> io::Result<Walked> {
        let id = fs::metadata(&self.root)?.ino();
        let entries = fs::read_dir(&self.root)?;
        self.walks += 1;
        self.saw(id, b"/");
        let mut walked = Walked::default();
        self.walk_entries(entries, &mut Vec::new(), 0, &mut walked);
        let unseen: Vec<u64> = self.live().filter(|(_, cgroup)| cgroup.walk < self.walks).map(|(id, _)| id).collect();
        for id in unseen {
            if self.get(id).is_some_and(|cgroup| self.has_gone(id, cgroup)) {
                self.removed(id, now_ns);
            }
        }
        Ok(walked)
    }

    /// Whether a cgroup that a walk did not see is not there: an event may have told of it while the walk was elsewhere,
    /// and what lies below an unreadable directory is there until an event says otherwise.
    fn has_gone(&self, id: u64, cgroup: &Cgroup) -> bool {
        match fs::metadata(self.directory(cgroup)) {
            Ok(directory) => directory.ino() != id,
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// Forgets the names of cgroups that have been gone for two minutes.
    pub fn forget(&mut self, now_ns: u64) {
        self.cgroups.retain(|_, cgroup| cgroup.gone_at_ns.is_none_or(|gone| now_ns.saturating_sub(gone) < KEEP_NS));
    }

    fn saw(&mut self, id: u64, path: &[u8]) {
        match self.cgroups.get_mut(&id) {
            Some(cgroup) if cgroup.gone_at_ns.is_none() && &*cgroup.raw == path => cgroup.walk = self.walks,
            _ => self.made(id, path),
        }
    }

    fn walk_below(&mut self, directory: &Path, path: &mut Vec<u8>, depth: usize, walked: &mut Walked) {
        match fs::read_dir(directory) {
            Ok(entries) => self.walk_entries(entries, path, depth, walked),
            // It went while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                walked.unreadable += 1;
                walked.example.get_or_insert_with(|| (directory.to_owned(), error));
            }
        }
    }

    fn walk_entries(&mut self, entries: fs::ReadDir, path: &mut Vec<u8>, depth: usize, walked: &mut Walked) {
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
                self.walk_below(&entry.path(), path, depth + 1, walked);
            }
            path.truncate(parent);
        }
    }
}

impl Cgroup {
    fn new(path: &[u8], walk: u64) -> Self {
        match std::str::from_utf8(path) {
            Ok(plain) if !reads_as_escaped(plain) => {
                let path: Arc<str> = plain.into();
                Self { raw: Arc::clone(&path).into(), path, gone_at_ns: None, walk }
            }
            _ => Self { path: escape(path).into(), gone_at_ns: None, raw: path.into(), walk },
        }
    }
}

/// The path of the cgroup above; none above the root.
fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    match (slash, path.len()) {
        (0, 1) => None,
        (0, _) => Some(b"/"),
        _ => Some(&path[..slash]),
    }
}

/// `~` and sixteen hexadecimal digits.
const MARK_BYTES: usize = 17;

/// Bytes that are no UTF-8 as `\xff`, and behind the whole path its hash, since a name can spell the same in plain
/// characters.
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

/// Whether a plain name looks like an escaped one; then it is given a hash too, and so never equals one.
fn reads_as_escaped(path: &str) -> bool {
    let mark = path.len().checked_sub(MARK_BYTES).map(|start| &path.as_bytes()[start..]);
    mark.is_some_and(|mark| mark[0] == b'~' && mark[1..].iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')))
}
