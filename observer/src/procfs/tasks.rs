//! States of tasks, and the cgroups of those in uninterruptible sleep.

use super::file::{self, unexpected};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A task in uninterruptible sleep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UninterruptibleTask {
    /// Its thread id.
    pub tid: u32,
    /// Its cgroup's path below the v2 root, as seen from our cgroup namespace; any bytes.
    pub cgroup: PathBuf,
}

/// The state letter of ROOT/TID/stat, or `None` when there is no such task. `tid` may be any thread's: /proc has a
/// directory for each, though it lists only the leaders.
///
/// # Errors
/// When the file cannot be read for another reason, or has no state.
pub fn task_state(root: &Path, tid: u32) -> io::Result<Option<char>> {
    state(&root.join(tid.to_string()))
}

/// Whether there is a thread of this id in the caller's pid namespace, whatever /proc shows.
pub fn thread_exists(tid: u32) -> bool {
    use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
    kill(Pid::from_raw(tid.cast_signed()), None) != Err(Errno::ESRCH)
}

fn state(task: &Path) -> io::Result<Option<char>> {
    let path = task.join("stat");
    // The process id, a name of at most 64 bytes and the state are in the first 128 bytes; what follows are numbers.
    let mut content = [0; 256];
    match File::open(&path).and_then(|mut stat| stat.read(&mut content)) {
        Ok(length) => parse_state(&content[..length]).map(Some).ok_or_else(|| unexpected(&path, "no state")),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A task that ends between open and read is ESRCH.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// `PID (NAME) STATE …`: a name may hold anything, so its end is the last parenthesis.
fn parse_state(content: &[u8]) -> Option<char> {
    let end = content.iter().rposition(|byte| *byte == b')')?;
    content.get(end + 2).copied().map(char::from)
}

/// Every task of ROOT/*/task/* that is in state D, without those that are there because version 1's freezer holds them. Tasks that end meanwhile, and those whose files cannot be read, are
/// passed over: they are a snapshot of what moves anyway.
///
/// # Errors
/// When ROOT itself cannot be listed.
pub fn uninterruptible_tasks(root: &Path) -> io::Result<impl Iterator<Item = UninterruptibleTask>> {
    let processes = numbered(fs::read_dir(root)?);
    let tasks = processes.filter_map(|(_, path)| fs::read_dir(path.join("task")).ok()).flat_map(numbered);
    Ok(tasks.filter_map(|(tid, path)| {
        if state(&path).ok()?? != 'D' || is_frozen(&path) {
            return None;
        }
        Some(UninterruptibleTask { tid, cgroup: cgroup(&path)? })
    }))
}

/// By the name of what it sleeps in, which the kernel shows to those that may trace it; others read `0`, and then nobody can tell.
fn is_frozen(task: &Path) -> bool {
    fs::read(task.join("wchan")).is_ok_and(|name| name == b"__refrigerator")
}

/// The entries whose name is a number.
fn numbered(directory: fs::ReadDir) -> impl Iterator<Item = (u32, PathBuf)> {
    directory.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
    })
}

/// The path of a thread's cgroup below the v2 root, as seen from our cgroup namespace; any bytes. `None` when there is no such thread.
pub fn task_cgroup(root: &Path, tid: u32) -> Option<PathBuf> {
    cgroup(&root.join(tid.to_string()))
}

fn cgroup(task: &Path) -> Option<PathBuf> {
    let mut content = Vec::new();
    file::read(&task.join("cgroup"), &mut content).ok()?;
    parse_cgroup(&content)
}

/// The v2 line is `0::PATH`, with ` (deleted)` behind it when the cgroup is gone. No path holds a newline: the kernel
/// refuses it.
fn parse_cgroup(content: &[u8]) -> Option<PathBuf> {
    let path = content.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_state_follows_the_last_parenthesis() {
        assert_eq!(parse_state(b"1 (systemd) S 0 1 1 0"), Some('S'));
        assert_eq!(parse_state(b"7 (a) R 1 (b)) D 0 1 1 0"), Some('D'));
        assert_eq!(parse_state(b"7 (a"), None);
        assert_eq!(parse_state(b"7 (a)"), None);
    }

    #[test]
    fn the_v2_line_is_found_among_those_of_v1() {
        let content = b"12:cpu,cpuacct:/v1\n0::/system.slice/a:b \xff.service\n";
        assert_eq!(parse_cgroup(content).unwrap().as_os_str().as_bytes(), b"/system.slice/a:b \xff.service");
        assert_eq!(parse_cgroup(b"0::/a (deleted)\n"), Some(PathBuf::from("/a")));
        assert_eq!(parse_cgroup(b"12:cpu:/v1\n"), None);
    }

    #[test]
    fn only_tasks_in_d_are_found_and_what_vanishes_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        for (pid, tid, stat) in
            [(1, 1, "1 (a) S 0"), (1, 9, "9 (a) D 0"), (3, 3, "3 (x) D) R 0"), (4, 4, "4 (k) D 0"), (8, 8, "8 (f) D 0")]
        {
            let task = root.path().join(format!("{pid}/task/{tid}"));
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("stat"), stat).unwrap();
            fs::write(task.join("cgroup"), format!("0::/of-{tid}\n")).unwrap();
            // The last is the freezer's.
            fs::write(task.join("wchan"), if tid == 8 { "__refrigerator" } else { "io_schedule" }).unwrap();
        }
        fs::create_dir_all(root.path().join("5/task/5")).unwrap();
        fs::create_dir_all(root.path().join("irq/task/6")).unwrap();
        symlink("1", root.path().join("self")).unwrap();
        let mut found: Vec<_> = uninterruptible_tasks(root.path()).unwrap().collect();
        found.sort_unstable_by_key(|task| task.tid);
        let task = |tid, cgroup: &str| UninterruptibleTask { tid, cgroup: PathBuf::from(cgroup) };
        assert_eq!(found, [task(9, "/of-9"), task(4, "/of-4")].into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn the_running_kernels_tasks_have_states_threads_too() {
        let own = std::process::id();
        let thread = std::thread::spawn(|| nix::unistd::gettid().as_raw() as u32);
        assert!(task_state(Path::new("/proc"), own).unwrap().is_some_and(|state| "RS".contains(state)));
        let ended = thread.join().unwrap();
        let waiting = std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel();
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                send.send(nix::unistd::gettid().as_raw() as u32).unwrap();
                ended.recv().ok();
            });
            let tid = receive.recv().unwrap();
            assert_ne!(tid, own);
            let state = task_state(Path::new("/proc"), tid).unwrap();
            drop(end);
            state
        });
        assert!(thread_exists(own));
        assert!(waiting.is_some_and(|state| "RS".contains(state)), "{waiting:?}");
        // The kernel takes a moment to remove what has been joined.
        let gone = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            task_state(Path::new("/proc"), ended).unwrap().is_none()
        });
        assert!(gone, "thread {ended} has ended");
        assert!(!thread_exists(ended));
        assert!(uninterruptible_tasks(Path::new("/proc")).unwrap().all(|task| task.tid != own));
    }
}
