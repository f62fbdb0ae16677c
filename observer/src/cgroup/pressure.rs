//! Pressure stall information of a cgroup: for how long some, or all, of its tasks could not go on for want of a resource.

use super::{
    Tree,
    files::{Files, StatFile},
};
use crate::ledger::{Pressure, Stall};

/// Reads `cpu.pressure`, `memory.pressure` and `io.pressure`, which it keeps open.
#[derive(Debug)]
pub struct PressureFiles {
    files: Files,
}

impl PressureFiles {
    /// Keeps at most `max_open` files open.
    pub fn new(max_open: usize) -> Self {
        Self { files: Files::new(max_open) }
    }

    /// What the tasks of a cgroup and of everything below it were stalled for.
    pub fn read(&mut self, tree: &Tree, cgroup: u64, now_ns: u64) -> Pressure {
        let mut read = |file| self.files.read(tree, cgroup, file, now_ns).map(parse).unwrap_or_default();
        let (cpu, memory, io) =
            (read(StatFile::CpuPressure), read(StatFile::MemoryPressure), read(StatFile::IoPressure));
        Pressure { cpu, memory, io }
    }

    /// Closes the files of cgroups that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.files.retain(wanted);
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=12` and such a line of `full`, which `cpu.pressure` has since 5.13.
fn parse(text: &[u8]) -> Stall {
    let total = |kind: &str| {
        let lines = str::from_utf8(text).ok()?.lines();
        let figures = lines.filter_map(|line| line.strip_prefix(kind)).find(|rest| rest.starts_with(' '))?;
        figures.rsplit_once("total=")?.1.parse().ok()
    };
    Stall { some_us: total("some"), full_us: total("full") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_totals_are_read_and_what_an_older_kernel_does_not_count_is_none() {
        let text = b"some avg10=0.14 avg60=12.58 avg300=31.09 total=222688624\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n";
        assert_eq!(parse(text), Stall { some_us: Some(222_688_624), full_us: Some(17) });
        assert_eq!(
            parse(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"),
            Stall { some_us: Some(3), full_us: None }
        );
        assert_eq!(parse(b""), Stall::default());
    }
}
