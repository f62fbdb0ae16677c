//! `cpu.stat`: exact CPU time of a cgroup, at every level and without a controller; throttling where the controller is, in v2 or
//! in a v1 hierarchy beside it.

use super::{
    Tree,
    files::{Files, StatFile, figures},
};
use crate::ledger::{CpuUsage, Throttling};
use std::io;

/// Reads `cpu.stat` files, which it keeps open.
#[derive(Debug)]
pub struct CpuStats {
    files: Files,
}

impl CpuStats {
    /// Keeps at most `max_open` files open.
    pub fn new(max_open: usize) -> Self {
        Self { files: Files::new(max_open) }
    }

    /// Reads the `cpu.stat` of a cgroup. Its time is that of the cgroup and of everything below it, its throttling is by the
    /// cgroup's own quota.
    ///
    /// # Errors
    /// When there is no file, or none with a usage.
    pub fn read(&mut self, tree: &Tree, cgroup: u64, now_ns: u64) -> io::Result<CpuUsage> {
        let text = self.files.read(tree, cgroup, StatFile::CpuStat, now_ns)?;
        let usage = parse(text).ok_or_else(|| io::Error::other("cpu.stat holds no usage_usec"))?;
        let throttling = usage.throttling.or_else(|| self.read_v1(tree, cgroup, now_ns));
        Ok(CpuUsage { throttling, ..usage })
    }

    /// Reads what a cgroup's own quota did, wherever the controller is.
    pub fn throttling(&mut self, tree: &Tree, cgroup: u64, now_ns: u64) -> Option<Throttling> {
        if tree.v1().cpu.is_some() {
            return self.read_v1(tree, cgroup, now_ns);
        }
        parse(self.files.read(tree, cgroup, StatFile::CpuStat, now_ns).ok()?)?.throttling
    }

    fn read_v1(&mut self, tree: &Tree, cgroup: u64, now_ns: u64) -> Option<Throttling> {
        tree.v1().cpu.as_ref()?;
        parse_throttling(self.files.read(tree, cgroup, StatFile::CpuStatV1, now_ns).ok()?)
    }

    /// Closes the files of cgroups that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.files.retain(wanted);
    }
}

fn parse(text: &[u8]) -> Option<CpuUsage> {
    let usage_us = figures(text).find(|(name, _)| *name == "usage_usec")?.1;
    Some(CpuUsage { usage_us, throttling: parse_throttling(text) })
}

/// v2 has microseconds in `throttled_usec`, v1 nanoseconds in `throttled_time`.
fn parse_throttling(text: &[u8]) -> Option<Throttling> {
    let mut throttling = None::<Throttling>;
    for (name, value) in figures(text) {
        match name {
            "nr_periods" => throttling.get_or_insert_default().periods = value,
            "nr_throttled" => throttling.get_or_insert_default().throttled_periods = value,
            "throttled_usec" => throttling.get_or_insert_default().throttled_ns = value * 1000,
            "throttled_time" => throttling.get_or_insert_default().throttled_ns = value,
            _ => {}
        }
    }
    throttling
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::v1::V1Mounts;
    use std::{fs, os::unix::fs::MetadataExt as _};

    #[test]
    fn with_the_controller_throttling_is_there() {
        let text = b"usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_periods 4\nnr_throttled 2\nthrottled_usec 99\nnr_bursts 0\n";
        let throttling = Some(Throttling { periods: 4, throttled_periods: 2, throttled_ns: 99_000 });
        assert_eq!(parse(text), Some(CpuUsage { usage_us: 12, throttling }));
    }

    #[test]
    fn without_it_there_is_usage_alone() {
        assert_eq!(parse(b"usage_usec 12\nuser_usec 7\n"), Some(CpuUsage { usage_us: 12, throttling: None }));
        assert_eq!(parse(b"user_usec 7\n"), None);
    }

    #[test]
    fn v1_counts_nanoseconds() {
        let text = b"nr_periods 40\nnr_throttled 21\nthrottled_time 1234567891\nnr_bursts 0\nburst_time 0\n";
        let expected = Throttling { periods: 40, throttled_periods: 21, throttled_ns: 1_234_567_891 };
        assert_eq!(parse_throttling(text), Some(expected));
    }

    #[test]
    fn a_cgroup_without_a_counterpart_in_v1_has_no_throttling_and_its_neighbour_has_its_own() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for cgroup in ["a", "a/b"] {
            write(&format!("v2/{cgroup}/cpu.stat"), "usage_usec 12\n");
        }
        write("cpu/a/cpu.stat", "nr_periods 3\nnr_throttled 2\nthrottled_time 7\n");
        let mut tree =
            Tree::new(root.path().join("v2")).beside(V1Mounts { cpu: Some(root.path().join("cpu")), memory: None });
        tree.walk(1).unwrap();
        let mut stats = CpuStats::new(8);
        let mut read = |cgroup: &str| {
            let id = fs::metadata(root.path().join("v2").join(cgroup)).unwrap().ino();
            (stats.read(&tree, id, 1).unwrap(), stats.throttling(&tree, id, 1))
        };
        let throttling = Some(Throttling { periods: 3, throttled_periods: 2, throttled_ns: 7 });
        assert_eq!(read("a"), (CpuUsage { usage_us: 12, throttling }, throttling));
        assert_eq!(read("a/b"), (CpuUsage { usage_us: 12, throttling: None }, None));
    }
}
