//! What can be known of the node's tasks from where this process stands: it may be in a container, or /proc may hide what
//! is not its own.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// How the states of other users' tasks can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskVantage {
    /// By /proc.
    States,
    /// Only whether a task is there: /proc hides it (`hidepid`), but its number is one of our pid namespace's.
    Existence,
    /// Not at all: /proc is a container's, and so are the numbers.
    Nothing,
}

/// The inode of the first pid namespace (`PROC_PID_INIT_INO` of `include/linux/proc_ns.h`).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

impl TaskVantage {
    /// What ROOT tells the user that this process is now.
    pub fn of(root: &Path) -> Self {
        if is_the_hosts(root) {
            return Self::States;
        }
        let namespace = fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino());
        if namespace.is_ok_and(|inode| inode == FIRST_PID_NAMESPACE) { Self::Existence } else { Self::Nothing }
    }
}

/// Whether ROOT shows the tasks of the whole node. Every kernel has its thread of kernel threads as number 2, and only
/// the host's /proc shows it, if it does not hide it.
pub fn is_the_hosts(root: &Path) -> bool {
    fs::read(root.join("2/comm")).is_ok_and(|name| name.trim_ascii_end() == b"kthreadd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_proc_is_not_the_hosts() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("2")).unwrap();
        fs::write(root.path().join("2/comm"), "sleep\n").unwrap();
        assert!(!is_the_hosts(root.path()));
        assert_ne!(TaskVantage::of(root.path()), TaskVantage::States);
        fs::write(root.path().join("2/comm"), "kthreadd\n").unwrap();
        assert_eq!(TaskVantage::of(root.path()), TaskVantage::States);
    }
}
