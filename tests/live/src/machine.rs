//! What this machine is: a guest with nothing else in it or a host with neighbours, and what it offers the tests.

use anyhow::{Context as _, Result};
pub(crate) use observer_test_kit::wait_until;
use std::{
    path::PathBuf,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

static GUEST: OnceLock<()> = OnceLock::new();

/// From now on this is a guest.
pub(crate) fn declare_guest() {
    let _ = GUEST.set(());
}

/// Whether this machine runs nothing but the tests and shows every context switch to the programs.
pub(crate) fn is_guest() -> bool {
    GUEST.get().is_some() || std::env::var_os("OBSERVER_GUEST").is_some_and(|value| value == "1")
}

/// Whether tests may take longer than they need to.
pub(crate) fn has_time() -> bool {
    std::env::var_os("OBSERVER_LONG").is_some_and(|value| value == "1")
}

/// Whether the kernel permits programs that iterate, of a few instructions. Some hosts forbid all of them; the kernels of guests are known
/// not to.
pub(crate) fn has_iterators() -> bool {
    static PERMITTED: LazyLock<bool> = LazyLock::new(|| {
        let output = crate::agent::command(&["check"]).and_then(|mut command| Ok(command.output()?));
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        // What is not told of is there: the tests that need it find out.
        let refused = |line: &str| line.contains("program: iter/") && line.contains("refused, although");
        !text.lines().any(refused)
    });
    is_guest() || *PERMITTED
}

/// How many seconds a storm lasts: `usual`, or what `OBSERVER_STORM_SECONDS` says.
pub(crate) fn storm_seconds(usual: u64) -> Result<u64> {
    let Some(text) = std::env::var_os("OBSERVER_STORM_SECONDS") else { return Ok(usual) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.with_context(|| format!("OBSERVER_STORM_SECONDS is {}, which is no number of seconds", text.display()))
}

/// How much longer things take here than on a machine of one's own: guests are emulated.
pub(crate) fn patience(usual: Duration) -> Duration {
    if is_guest() { usual * 6 } else { usual }
}

/// Where an executable of that name is in `PATH`.
pub(crate) fn command(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The running kernel's version.
pub(crate) fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
