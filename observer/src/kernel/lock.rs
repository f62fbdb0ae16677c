//! One agent per node: two would book everything twice and take each other's slots.
//!
//! The lock is flock(2) on the root directory of the v2 hierarchy: the same inode from every container of the node, in no
//! need of a writable file system, and released by the kernel however the holder ends. Any user may take it, as any may
//! open that directory; so the refusal names the holder.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The node's lock; dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub struct NodeLock {
    _directory: Flock<File>,
}

/// The process that has the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, in the pid namespace of the /proc that was read.
    pub pid: u32,
    /// Its name (`comm`); empty when it is gone or hidden.
    pub command: String,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("{}", refusal(path, holder.as_ref()))]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who, unless its pid is of another pid namespace.
        holder: Option<Holder>,
    },
    /// The directory cannot be opened or locked.
    #[error("cannot lock the cgroup root {path}: {source}; check --cgroup-path", path = path.display())]
    Unavailable {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl NodeLock {
    /// Takes the lock of the node whose v2 hierarchy has its root at `cgroup_root`. `proc` is where the host's /proc is
    /// mounted; it serves to name the holder.
    ///
    /// # Errors
    /// [`LockError::Held`] at once, without waiting.
    pub fn take(cgroup_root: &Path, proc: &Path) -> Result<Self, LockError> {
        let unavailable = |source| LockError::Unavailable { path: cgroup_root.to_owned(), source };
        let mut directory = File::open(cgroup_root).map_err(unavailable)?;
        // A holder that cannot be found has usually just ended: one more try.
        let mut tries = 2;
        loop {
            match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(Self { _directory: locked }),
                Err((unlocked, Errno::EWOULDBLOCK)) => directory = unlocked,
                Err((_, errno)) => return Err(unavailable(errno.into())),
            }
            let holder = holder(cgroup_root, proc).ok().flatten();
            tries -= 1;
            if holder.is_some() || tries == 0 {
                return Err(LockError::Held { path: cgroup_root.to_owned(), holder });
            }
        }
    }
}

/// Who has the lock, by `<proc>/locks`. A holder in a pid namespace that this /proc does not show is not seen.
///
/// # Errors
/// When the directory or the list cannot be read.
pub fn holder(cgroup_root: &Path, proc: &Path) -> io::Result<Option<Holder>> {
    let directory = std::fs::metadata(cgroup_root)?;
    let locks = std::fs::read_to_string(proc.join("locks"))?;
    let Some(pid) = holder_pid(&locks, directory.dev(), directory.ino()) else { return Ok(None) };
    let command = std::fs::read_to_string(proc.join(pid.to_string()).join("comm")).unwrap_or_default();
    Ok(Some(Holder { pid, command: command.trim_end().to_owned() }))
}

/// `1: FLOCK  ADVISORY  WRITE 708 00:26:1 0 EOF`: the device's numbers are hexadecimal, the inode decimal. Lines with `->`
/// are of processes that wait for it.
fn holder_pid(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next()? == "FLOCK").then_some(())?;
        let pid = fields.nth(2)?;
        (fields.next()? == file).then(|| pid.parse().ok())?
    })
}

fn refusal(path: &Path, holder: Option<&Holder>) -> String {
    match holder {
        None => {
            "another observer counts on this node, in a container whose processes are not visible here; stop it first"
                .into()
        }
        Some(Holder { pid, command }) if command.is_empty() || command.starts_with("observer") => {
            format!("another observer (pid {pid}) counts on this node; stop it first")
        }
        Some(Holder { pid, command }) => {
            let path = path.display();
            format!(
                "pid {pid} ({command}) holds the lock on {path} that keeps two observers from counting on one node; stop it first"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    const PROC: &str = "/proc";

    /// A process that holds the lock as util-linux takes it; it ends with the test.
    struct Stranger(Child);

    impl Stranger {
        fn hold(directory: &Path) -> Option<Self> {
            let flock = Command::new("flock").arg("--no-fork").arg(directory).args(["sleep", "60"]).spawn();
            let stranger = Self(flock.inspect_err(|error| eprintln!("skipped: flock(1): {error}")).ok()?);
            let end = Instant::now() + Duration::from_secs(10);
            while holder(directory, Path::new(PROC)).unwrap().is_none_or(|holder| holder.command != "sleep") {
                assert!(Instant::now() < end, "flock(1) has no lock after 10 s");
                std::thread::sleep(Duration::from_millis(5));
            }
            Some(stranger)
        }
    }

    impl Drop for Stranger {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_second_holder_is_refused_with_the_firsts_pid_until_that_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let Some(stranger) = Stranger::hold(directory.path()) else { return };
        let pid = stranger.0.id();
        match NodeLock::take(directory.path(), Path::new(PROC)).unwrap_err() {
            LockError::Held { holder: Some(holder), .. } => {
                assert_eq!(holder, Holder { pid, command: "sleep".into() });
            }
            other => panic!("{other}"),
        }
        drop(stranger);
        let lock = NodeLock::take(directory.path(), Path::new(PROC)).unwrap();
        let own = holder(directory.path(), Path::new(PROC)).unwrap().unwrap();
        assert_eq!(own.pid, std::process::id());
        drop(lock);
        assert_eq!(holder(directory.path(), Path::new(PROC)).unwrap(), None);
    }

    #[test]
    fn an_unseen_holder_is_refused_too() {
        let directory = tempfile::tempdir().unwrap();
        let empty_proc = tempfile::tempdir().unwrap();
        let _lock = NodeLock::take(directory.path(), Path::new(PROC)).unwrap();
        let error = NodeLock::take(directory.path(), empty_proc.path()).unwrap_err();
        assert!(matches!(error, LockError::Held { holder: None, .. }), "{error}");
        assert!(error.to_string().contains("stop it first"), "{error}");
    }

    #[test]
    fn the_refusal_says_who_and_what_to_do() {
        let error = |command: &str| {
            let holder = Some(Holder { pid: 708, command: command.into() });
            LockError::Held { path: "/sys/fs/cgroup".into(), holder }.to_string()
        };
        assert_eq!(error("observer"), "another observer (pid 708) counts on this node; stop it first");
        assert!(error("vim").starts_with("pid 708 (vim) holds the lock on /sys/fs/cgroup"));
    }

    #[test]
    fn the_list_of_locks_is_read_by_device_inode_and_kind() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:26:1 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 00:26:11 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 00:26:1 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 10 00:26:1 0 EOF\n";
        let device = nix::sys::stat::makedev(0, 0x26);
        assert_eq!(holder_pid(locks, device, 1), Some(9));
        assert_eq!(holder_pid(locks, device, 11), Some(8));
        assert_eq!(holder_pid(locks, device, 2), None);
        assert_eq!(holder_pid("3: FLOCK ADVISORY\nx\n\n", device, 1), None);
    }

    #[test]
    fn a_missing_root_is_named() {
        let error = NodeLock::take(Path::new("/nonexistent/cgroup"), Path::new(PROC)).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/cgroup") && error.contains("--cgroup-path"), "{error}");
    }
}
