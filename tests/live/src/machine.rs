//! What this machine is: a guest with nothing else in it or a host with neighbours, and what it offers the tests.

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
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

static LOCK: Mutex<Option<Flock<File>>> = Mutex::new(None);

/// Waits until no other run of the tests is on this machine; held until the process ends.
pub(crate) fn lock() -> Result<()> {
    let path = std::env::temp_dir().join("observer-live.lock");
    let file = open_or_make(&path).with_context(|| format!("open {}", path.display()))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => {
            keep(lock);
            return Ok(());
        }
        Err((file, _)) => file,
    };
    eprintln!("observer-live: waiting for another run to end ({})", path.display());
    let lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("lock {}", path.display()))?;
    keep(lock);
    Ok(())
}

/// Another user's run may have left the file: with `fs.protected_regular` not even root may open that with `O_CREAT` in a
/// sticky folder, and to lock it, reading is enough.
fn open_or_make(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match File::options().write(true).create_new(true).open(path) {
        // Another run was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(path),
        made => made,
    }
}

fn keep(lock: Flock<File>) {
    if let Ok(mut kept) = LOCK.lock() {
        *kept = Some(lock);
    }
}

/// Asks every 20 ms until the answer is yes; false when it did not come in time.
pub(crate) fn wait_until(limit: Duration, mut answer: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        if answer()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
