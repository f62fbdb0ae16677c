//! What memory a process has, by the kernel's account.

use anyhow::{Context as _, Result};
use std::fs;

/// In MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Now, files and tables that it maps included.
    pub(crate) resident: f64,
    /// Now, without what comes from files.
    pub(crate) anonymous: f64,
    /// The most that was resident since [`forget_peak`], or since the start.
    pub(crate) peak: f64,
}

impl Memory {
    /// Reads a process's.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name| mebibytes(&status, name);
        Ok(Self { resident: field("VmRSS:")?, anonymous: field("RssAnon:")?, peak: field("VmHWM:")? })
    }
}

/// Makes what is resident now the most that was.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").with_context(|| format!("reset the peak of process {pid}"))
}

fn mebibytes(status: &str, field: &str) -> Result<f64> {
    let line =
        status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("{field} in status"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
