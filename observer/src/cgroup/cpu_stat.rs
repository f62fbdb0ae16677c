//! `cpu.stat`: exact CPU time of a cgroup, at every level and without a controller; throttling where the controller is.

use crate::ledger::{CpuUsage, Throttling};
use std::{fs::File, io, io::Read as _, path::Path};

/// Reads `cpu.stat` files into one buffer that is used again.
#[derive(Debug, Default)]
pub struct CpuStats {
    buffer: Vec<u8>,
}

impl CpuStats {
    /// Reads the `cpu.stat` of a cgroup's directory. Its time is that of the cgroup and of everything below it.
    pub fn read(&mut self, directory: &Path) -> io::Result<CpuUsage> {
        self.buffer.clear();
        File::open(directory.join("cpu.stat"))?.read_to_end(&mut self.buffer)?;
        parse(&self.buffer).ok_or_else(|| io::Error::other("cpu.stat holds no usage_usec"))
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
