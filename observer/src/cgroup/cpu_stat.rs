//! `cpu.stat`: exact CPU time of a cgroup, at every level and without a controller; throttling where the controller is.

use crate::ledger::{CpuUsage, Throttling};
use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};

/// More than `cpu.stat` ever holds.
const BUFFER_BYTES: usize = 4096;

/// Reads `cpu.stat` files, which it keeps open: opening one costs twice what reading it does.
#[derive(Debug)]
pub struct CpuStats {
    open: HashMap<u64, File>,
    max_open: usize,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl CpuStats {
    /// Keeps at most `max_open` files open; beyond that, each reading opens and closes.
    pub fn new(max_open: usize) -> Self {
        Self { open: HashMap::new(), max_open, buffer: Box::new([0; BUFFER_BYTES]) }
    }

    /// Reads the `cpu.stat` of a cgroup, whose directory is asked for when its file is not open yet. Its time is that of
    /// the cgroup and of everything below it.
    pub fn read(&mut self, cgroup: u64, directory: impl FnOnce() -> PathBuf) -> io::Result<CpuUsage> {
        let read = if let Some(file) = self.open.get(&cgroup) {
            file.read_at(&mut self.buffer[..], 0)
        } else {
            let file = File::open(directory().join("cpu.stat"))?;
            let read = file.read_at(&mut self.buffer[..], 0);
            if self.open.len() < self.max_open {
                self.open.insert(cgroup, file);
            }
            read
        };
        let bytes = read.inspect_err(|_| drop(self.open.remove(&cgroup)))?;
        parse(&self.buffer[..bytes]).ok_or_else(|| io::Error::other("cpu.stat holds no usage_usec"))
    }

    /// Closes the files of cgroups that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.open.retain(|cgroup, _| wanted(*cgroup));
    }
}

fn parse(text: &[u8]) -> Option<CpuUsage> {
    let mut usage_us = None;
    let mut throttling = Throttling::default();
    let mut throttled = false;
    for line in text.split(|byte| *byte == b'\n') {
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let Ok(value) = value.trim_end().parse::<u64>() else { continue };
        match name {
            "usage_usec" => usage_us = Some(value),
            "nr_periods" => (throttling.periods, throttled) = (value, true),
            "nr_throttled" => throttling.throttled_periods = value,
            "throttled_usec" => throttling.throttled_us = value,
            _ => {}
        }
    }
    Some(CpuUsage { usage_us: usage_us?, throttling: throttled.then_some(throttling) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_afresh_whether_it_is_kept_open_or_not() {
        let root = tempfile::tempdir().unwrap();
        for max_open in [0, 1] {
            let mut stats = CpuStats::new(max_open);
            for usage_us in [7, 12] {
                std::fs::write(root.path().join("cpu.stat"), format!("usage_usec {usage_us}\n")).unwrap();
                let usage = stats.read(1, || root.path().to_owned()).unwrap();
                assert_eq!(usage, CpuUsage { usage_us, throttling: None });
            }
            assert_eq!(stats.open.len(), max_open);
            stats.retain(|_| false);
            assert_eq!(stats.open.len(), 0);
        }
    }

    #[test]
    fn with_the_controller_throttling_is_there() {
        let text = b"usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_periods 4\nnr_throttled 2\nthrottled_usec 99\nnr_bursts 0\n";
        let throttling = Some(Throttling { periods: 4, throttled_periods: 2, throttled_us: 99 });
        assert_eq!(parse(text), Some(CpuUsage { usage_us: 12, throttling }));
    }

    #[test]
    fn without_it_there_is_usage_alone() {
        assert_eq!(parse(b"usage_usec 12\nuser_usec 7\n"), Some(CpuUsage { usage_us: 12, throttling: None }));
        assert_eq!(parse(b"user_usec 7\n"), None);
    }
}
