//! Pressure stall information of every entity, read at scrapes: three files each.

use super::{directory::Directory, homes::Homes};
use crate::{cgroup::PressureFiles, ledger::Ledger, procfs};
use std::path::Path;

/// Reads the pressure of every entity.
#[derive(Debug)]
pub(super) struct PressureReader {
    files: PressureFiles,
}

impl PressureReader {
    /// A reader that keeps at most `max_open` files open, if the kernel has such figures; says so if not.
    pub(super) fn new(proc_path: &Path, max_open: usize) -> Option<Self> {
        if let Err(error) = procfs::has_pressure(proc_path) {
            tracing::warn!(%error, "the kernel has no pressure stall information: --pressure is of no use; boot with psi=1, on a kernel with CONFIG_PSI");
            return None;
        }
        Some(Self { files: PressureFiles::new(max_open) })
    }

    /// Books the pressure of every entity's cgroup.
    pub(super) fn read(&mut self, names: Directory<'_>, homes: &Homes, ledger: &mut Ledger, now_ns: u64) {
        for home in homes.own() {
            let pressure = self.files.read(names.tree, home.cgroup, now_ns);
            if pressure.is_there() {
                ledger.book_pressure(home.cgroup, pressure);
            }
        }
        self.files.retain(|cgroup| names.tree.is_live(cgroup));
    }
}
