//! One run of the tests at a time: a node holds one agent, and each run counts on being alone with its own.

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use std::{fs::File, io, path::Path, sync::Mutex};

static LOCK: Mutex<Option<Flock<File>>> = Mutex::new(None);

/// Waits until no other run of the tests is on this machine; held until the process ends.
///
/// # Errors
/// When the file can be neither opened nor locked.
pub fn lock() -> Result<()> {
    let path = std::env::temp_dir().join("observer-tests.lock");
    let file = open_or_make(&path).with_context(|| format!("open {}", path.display()))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => {
            keep(lock);
            return Ok(());
        }
        Err((file, _)) => file,
    };
    eprintln!("waiting for another run to end ({})", path.display());
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
