//! The memory controller's files, in v2 or in its v1 hierarchy: what a cgroup uses, may use, and was killed for.

use super::{
    Tree,
    files::{Files, StatFile, figures},
};

/// v1 writes "no limit" as the largest number that is whole pages: pages have up to 64 KiB.
const V1_UNLIMITED: u64 = i64::MAX as u64 - 0xffff;

/// What is charged to a cgroup and to everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Everything.
    pub bytes: u64,
    /// Page cache that was not used lately: what the kernel takes back first.
    pub inactive_file_bytes: u64,
}

impl Usage {
    /// What cannot be taken back without pain, as `kubectl top` counts it.
    pub fn working_set_bytes(self) -> u64 {
        self.bytes.saturating_sub(self.inactive_file_bytes)
    }
}

/// Reads the files of the memory controller.
#[derive(Debug)]
pub struct MemoryFiles {
    /// Kept open: what is read again soon.
    kept: Files,
    /// What is read rarely; the kernel would keep a page for each of them.
    opened: Files,
}

impl MemoryFiles {
    /// Keeps at most `max_open` files open.
    pub fn new(max_open: usize) -> Self {
        Self { kept: Files::new(max_open), opened: Files::new(0) }
    }

    /// What is charged to a cgroup; `None` where no controller counts it, as for the root of v2.
    pub fn usage(&mut self, tree: &Tree, cgroup: u64, now_ns: u64) -> Option<Usage> {
        let bytes = whole(self.kept.read(tree, cgroup, StatFile::MemoryUsage, now_ns).ok()?)?;
        let stat = self.kept.read(tree, cgroup, StatFile::MemoryStat, now_ns).ok()?;
        // v1's own count leaves out what is below, which its usage does not.
        let name = if tree.v1().memory.is_some() { "total_inactive_file" } else { "inactive_file" };
        let (_, inactive_file_bytes) = figures(stat).find(|(found, _)| *found == name)?;
        Some(Usage { bytes, inactive_file_bytes })
    }

    /// The limit of a cgroup itself, in bytes; `None` where there is none.
    pub fn limit(&mut self, tree: &Tree, cgroup: u64, now_ns: u64) -> Option<u64> {
        // v2 writes `max`.
        let limit = whole(self.opened.read(tree, cgroup, StatFile::MemoryLimit, now_ns).ok()?)?;
        (limit < V1_UNLIMITED).then_some(limit)
    }

    /// How many processes the kernel killed in a cgroup for want of memory; in v2 in everything below it, too.
    pub fn oom_kills(&mut self, tree: &Tree, cgroup: u64, now_ns: u64) -> Option<u64> {
        let text = self.opened.read(tree, cgroup, StatFile::OomKills, now_ns).ok()?;
        Some(figures(text).find(|(name, _)| *name == "oom_kill")?.1)
    }

    /// Closes the files of cgroups that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.kept.retain(&wanted);
        self.opened.retain(&wanted);
    }
}

fn whole(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::v1::V1Mounts;
    use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

    fn node(files: &[(&str, &str)], v1: bool) -> (tempfile::TempDir, Tree, u64) {
        let root = tempfile::tempdir().unwrap();
        let (v2, memory) = (root.path().join("v2"), root.path().join("memory"));
        for directory in [v2.join("a"), memory.join("a")] {
            fs::create_dir_all(directory).unwrap();
        }
        for (name, text) in files {
            fs::write((if v1 { &memory } else { &v2 }).join(Path::new("a").join(name)), text).unwrap();
        }
        let mut tree = Tree::new(v2.clone()).beside(V1Mounts { cpu: None, memory: v1.then_some(memory) });
        tree.walk(1).unwrap();
        let id = fs::metadata(v2.join("a")).unwrap().ino();
        (root, tree, id)
    }

    #[test]
    fn v2_has_its_figures_in_files_of_its_own() {
        let (_root, tree, id) = node(
            &[
                ("memory.current", "52428800\n"),
                ("memory.stat", "anon 41943040\ninactive_anon 1\nfile 10485760\ninactive_file 4194304\n"),
                ("memory.max", "67108864\n"),
                ("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"),
            ],
            false,
        );
        let mut files = MemoryFiles::new(8);
        let usage = files.usage(&tree, id, 1).unwrap();
        assert_eq!((usage.bytes, usage.working_set_bytes()), (52_428_800, 48_234_496));
        assert_eq!((files.limit(&tree, id, 1), files.oom_kills(&tree, id, 1)), (Some(67_108_864), Some(2)));
    }

    #[test]
    fn v1_has_them_in_others_and_the_sum_over_what_is_below_under_another_name() {
        let (_root, tree, id) = node(
            &[
                ("memory.usage_in_bytes", "52428800\n"),
                ("memory.stat", "cache 1\ninactive_file 7\nhierarchical_memory_limit 9\ntotal_inactive_file 4194304\n"),
                ("memory.limit_in_bytes", "67108864\n"),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ],
            true,
        );
        let mut files = MemoryFiles::new(8);
        let usage = files.usage(&tree, id, 1).unwrap();
        assert_eq!((usage.bytes, usage.working_set_bytes()), (52_428_800, 48_234_496));
        assert_eq!((files.limit(&tree, id, 1), files.oom_kills(&tree, id, 1)), (Some(67_108_864), Some(2)));
    }

    #[test]
    fn no_limit_is_none_in_both() {
        let (_root, tree, id) = node(&[("memory.max", "max\n")], false);
        assert_eq!(MemoryFiles::new(8).limit(&tree, id, 1), None);
        for page in [4096_u64, 16_384, 65_536] {
            let unlimited = i64::MAX as u64 / page * page;
            let (_root, tree, id) = node(&[("memory.limit_in_bytes", &format!("{unlimited}\n"))], true);
            assert_eq!(MemoryFiles::new(8).limit(&tree, id, 1), None, "{unlimited}");
        }
        let (_root, tree, id) = node(&[("memory.limit_in_bytes", "0\n")], true);
        assert_eq!(MemoryFiles::new(8).limit(&tree, id, 1), Some(0));
    }

    #[test]
    fn what_has_no_files_has_no_figures() {
        for v1 in [false, true] {
            let (_root, tree, id) = node(&[("memory.stat", "inactive_file 1\n")], v1);
            let mut files = MemoryFiles::new(8);
            assert_eq!(files.usage(&tree, id, 1), None);
            assert_eq!((files.limit(&tree, id, 1), files.oom_kills(&tree, id, 1)), (None, None));
        }
    }

    #[test]
    fn cache_that_went_between_the_two_readings_leaves_nothing_and_not_less() {
        assert_eq!(Usage { bytes: 5, inactive_file_bytes: 7 }.working_set_bytes(), 0);
    }
}
