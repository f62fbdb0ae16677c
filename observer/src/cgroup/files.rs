//! The files that cgroups have figures in: which hierarchy each is in, and a reader that keeps them open.

use super::{Cgroup, Tree};
use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};

/// More than any of the files holds: `memory.stat`, the longest, has some 2 kB.
const BUFFER_BYTES: usize = 8192;
/// How long a file that was not there is not looked for again, at first: a container may have cgroups in v2 a moment before it has
/// those in v1. Twice as long each time, up to the longest.
const ABSENT_NS: u64 = 1_000_000_000;
const LONGEST_ABSENT_NS: u64 = 64 * ABSENT_NS;

/// A file of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatFile {
    /// `cpu.stat` of v2: at every level, with and without the controller.
    CpuStat,
    /// `cpu.stat` of the cpu controller's v1 hierarchy.
    CpuStatV1,
    /// What is charged to the cgroup.
    MemoryUsage,
    /// What that is made of.
    MemoryStat,
    /// The limit.
    MemoryLimit,
    /// How often the kernel ended one of its processes for want of memory, among others.
    OomKills,
    /// Tasks that waited for a CPU.
    CpuPressure,
    /// Tasks that waited for memory.
    MemoryPressure,
    /// Tasks that waited for a disk.
    IoPressure,
}

impl StatFile {
    /// Where a cgroup has it; `None` where its hierarchy is not to be seen.
    fn path(self, tree: &Tree, cgroup: &Cgroup) -> Option<PathBuf> {
        let v2 = |name: &str| Some(tree.directory(cgroup).join(name));
        let memory = |name: &str, v1_name: &str| match &tree.v1().memory {
            Some(root) => Some(Tree::below(root, cgroup).join(v1_name)),
            None => v2(name),
        };
        match self {
            Self::CpuStat => v2("cpu.stat"),
            Self::CpuStatV1 => Some(Tree::below(tree.v1().cpu.as_ref()?, cgroup).join("cpu.stat")),
            Self::MemoryUsage => memory("memory.current", "memory.usage_in_bytes"),
            Self::MemoryStat => memory("memory.stat", "memory.stat"),
            Self::MemoryLimit => memory("memory.max", "memory.limit_in_bytes"),
            Self::OomKills => memory("memory.events", "memory.oom_control"),
            Self::CpuPressure => v2("cpu.pressure"),
            Self::MemoryPressure => v2("memory.pressure"),
            Self::IoPressure => v2("io.pressure"),
        }
    }
}

/// Reads files and keeps them open: opening one takes several times as long as reading it.
#[derive(Debug)]
pub struct Files {
    open: HashMap<(u64, StatFile), File>,
    /// Files that were not there.
    absent: HashMap<(u64, StatFile), Absence>,
    max_open: usize,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

#[derive(Clone, Copy, Debug)]
struct Absence {
    until_ns: u64,
    /// How long it lasts.
    wait_ns: u64,
}

impl Files {
    /// Keeps at most `max_open` files open; beyond that, each reading opens and closes. The kernel keeps a page for each
    /// that is open.
    pub fn new(max_open: usize) -> Self {
        Self { open: HashMap::new(), absent: HashMap::new(), max_open, buffer: Box::new([0; BUFFER_BYTES]) }
    }

    /// What a file holds now. A file that is not there is not looked for each time: its controller may be off, or the cgroup may
    /// have no counterpart in the controller's hierarchy.
    ///
    /// # Errors
    /// When the file is not there or cannot be read.
    pub fn read(&mut self, tree: &Tree, cgroup: u64, file: StatFile, now_ns: u64) -> io::Result<&[u8]> {
        let key = (cgroup, file);
        let read = if let Some(open) = self.open.get(&key) {
            open.read_at(&mut self.buffer[..], 0)
        } else {
            let opened = self.open(tree, cgroup, file, now_ns)?;
            let read = opened.read_at(&mut self.buffer[..], 0);
            if self.open.len() < self.max_open {
                self.open.insert(key, opened);
            }
            read
        };
        let bytes = read.inspect_err(|_| drop(self.open.remove(&key)))?;
        Ok(&self.buffer[..bytes])
    }

    fn open(&mut self, tree: &Tree, cgroup: u64, file: StatFile, now_ns: u64) -> io::Result<File> {
        let key = (cgroup, file);
        let before = self.absent.get(&key).copied();
        if before.is_some_and(|absence| now_ns < absence.until_ns) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = tree.get(cgroup).and_then(|found| file.path(tree, found));
        let opened = path.ok_or(io::ErrorKind::NotFound.into()).and_then(File::open);
        match &opened {
            // Every cgroup has a cpu.stat of v2: one that cannot be opened is so for a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file != StatFile::CpuStat => {
                let wait_ns = before.map_or(ABSENT_NS, |absence| (2 * absence.wait_ns).min(LONGEST_ABSENT_NS));
                // So that those that are looked for in vain are not all at once.
                let until_ns = now_ns + wait_ns + cgroup % 16 * (wait_ns / 16);
                self.absent.insert(key, Absence { until_ns, wait_ns });
            }
            _ => drop(self.absent.remove(&key)),
        }
        opened
    }

    /// Closes the files of cgroups that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.open.retain(|(cgroup, _), _| wanted(*cgroup));
        self.absent.retain(|(cgroup, _), _| wanted(*cgroup));
    }
}

/// The lines `NAME NUMBER` of a file.
pub(super) fn figures(text: &[u8]) -> impl Iterator<Item = (&str, u64)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        Some((name, value.trim_end().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::v1::V1Mounts;
    use std::{fs, os::unix::fs::MetadataExt as _};

    fn node() -> (tempfile::TempDir, Tree, u64) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("v2/a")).unwrap();
        let mut tree = Tree::new(root.path().join("v2"));
        tree.walk(1).unwrap();
        let id = fs::metadata(root.path().join("v2/a")).unwrap().ino();
        (root, tree, id)
    }

    #[test]
    fn a_file_is_read_afresh_whether_it_is_kept_open_or_not() {
        let (root, tree, id) = node();
        for max_open in [0, 1] {
            let mut files = Files::new(max_open);
            for text in ["7\n", "12\n"] {
                fs::write(root.path().join("v2/a/memory.current"), text).unwrap();
                assert_eq!(files.read(&tree, id, StatFile::MemoryUsage, 1).unwrap(), text.as_bytes());
            }
            assert_eq!(files.open.len(), max_open);
            files.retain(|_| false);
            assert_eq!(files.open.len(), 0);
        }
    }

    #[test]
    fn a_controller_that_is_in_v1_is_read_there_at_the_same_path() {
        let (root, tree, id) = node();
        let v1 = V1Mounts { cpu: Some(root.path().join("cpu")), memory: Some(root.path().join("memory")) };
        let tree = tree.beside(v1);
        for (path, text) in [("cpu/a/cpu.stat", "nr_periods 1\n"), ("memory/a/memory.usage_in_bytes", "5\n")] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        // What is in the v2 tree besides is not the controller's.
        fs::write(root.path().join("v2/a/memory.current"), "6\n").unwrap();
        let mut files = Files::new(8);
        assert_eq!(files.read(&tree, id, StatFile::CpuStatV1, 1).unwrap(), b"nr_periods 1\n");
        assert_eq!(files.read(&tree, id, StatFile::MemoryUsage, 1).unwrap(), b"5\n");
    }

    #[test]
    fn what_is_not_there_is_looked_for_ever_more_seldom_until_it_is() {
        let (root, tree, id) = node();
        let mut files = Files::new(8);
        let limit = |files: &mut Files, now_ns| files.read(&tree, id, StatFile::MemoryLimit, now_ns).is_ok();
        assert!(!limit(&mut files, 0) && !limit(&mut files, 2 * ABSENT_NS));
        fs::write(root.path().join("v2/a/memory.max"), "max\n").unwrap();
        assert!(!limit(&mut files, 2 * ABSENT_NS + 1), "it was looked for a moment ago");
        assert!(limit(&mut files, 6 * ABSENT_NS + 1));
        for second in 0..1000 {
            assert!(
                files.read(&tree, id, StatFile::CpuStatV1, second * ABSENT_NS).is_err(),
                "there is no such hierarchy"
            );
        }
        let [absence] = files.absent.values().collect::<Vec<_>>()[..] else { panic!("one file is absent") };
        assert_eq!(absence.wait_ns, LONGEST_ABSENT_NS);
    }
}
