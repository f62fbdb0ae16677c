//! Own time, on a made-up tree of directories with `cpu.stat` files.

use super::*;
use crate::ledger::{Added, Identity, Sample};
use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

struct Node {
    root: tempfile::TempDir,
    tree: Tree,
    ledger: Ledger,
    own: OwnCpu,
    now_ns: u64,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path().to_owned());
        // Files are opened anew each time: what is written by renaming would not be seen through an old descriptor.
        Self { root, tree, ledger: Ledger::default(), own: OwnCpu::new(0), now_ns: 1 }
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn used(&self, path: &str, usage_us: u64) {
        fs::create_dir_all(self.directory(path)).unwrap();
        fs::write(self.directory(path).join("cpu.stat"), format!("usage_usec {usage_us}\n")).unwrap();
    }

    fn id(&self, path: &str) -> u64 {
        fs::metadata(self.directory(path)).unwrap().ino()
    }

    /// A wait of a cgroup's, which is what opens its books.
    fn waits(&mut self, path: &str) {
        self.tree.walk(1).unwrap();
        let mut added = Added { cgroup: self.id(path), ..Added::default() };
        added.waits[0] = 1;
        let names = Directory { tree: &self.tree, pods: None };
        self.ledger.book(&Sample { added: vec![added], ..Sample::default() }, &names, 1);
    }

    fn read(&mut self, waits_are_counted: bool) {
        self.tree.walk(1).unwrap();
        let names = Directory { tree: &self.tree, pods: None };
        self.own.read(names, &mut self.ledger, waits_are_counted, |_| false, self.now_ns);
    }

    fn own_us(&self, path: &str) -> Option<u64> {
        let wanted = Identity::Cgroup { path: path.into() };
        self.ledger.entities().iter().find(|entity| entity.identity == wanted)?.books.cpu.map(|cpu| cpu.usage_us)
    }
}

#[test]
fn a_parent_has_what_its_children_have_not() {
    let mut node = Node::new();
    node.used("/a", 100);
    node.used("/a/b", 30);
    node.waits("/a");
    node.waits("/a/b");
    node.read(true);
    assert_eq!((node.own_us("/a"), node.own_us("/a/b")), (Some(70), Some(30)));
}

#[test]
fn a_child_that_vanished_stays_subtracted_as_it_was_last_seen() {
    let mut node = Node::new();
    node.used("/a", 100);
    node.used("/a/b", 30);
    node.waits("/a");
    node.read(true);
    fs::remove_dir_all(node.directory("/a/b")).unwrap();
    node.used("/a", 110);
    node.read(true);
    node.read(true);
    assert_eq!(node.own_us("/a"), Some(80));
}

#[test]
fn a_child_that_cannot_be_read_for_a_moment_is_subtracted_once() {
    let mut node = Node::new();
    node.used("/a", 100);
    node.used("/a/b", 30);
    node.waits("/a");
    node.read(true);
    let stat = node.directory("/a/b").join("cpu.stat");
    fs::rename(&stat, node.root.path().join("hidden")).unwrap();
    node.used("/a", 105);
    node.read(true);
    assert_eq!(node.own_us("/a"), Some(75));
    fs::rename(node.root.path().join("hidden"), &stat).unwrap();
    node.used("/a", 120);
    node.used("/a/b", 40);
    node.read(true);
    assert_eq!(node.own_us("/a"), Some(80));
}

#[test]
fn without_waits_an_idle_cgroup_that_begins_to_run_is_seen_and_so_is_one_that_only_runs() {
    let mut node = Node::new();
    for path in ["/idle", "/spins", "/empty"] {
        node.used(path, 10);
        fs::write(node.directory(path).join("cgroup.procs"), if path == "/empty" { "" } else { "7\n" }).unwrap();
    }
    node.read(false);
    node.read(false);
    node.used("/idle", 5_000);
    node.read(false);
    assert_eq!((node.own_us("/idle"), node.own_us("/spins")), (Some(5_000), Some(10)));
    assert_eq!(node.own_us("/empty"), None);
}

#[test]
fn with_waits_an_idle_cgroup_is_not_read_until_one_of_its_tasks_got_a_cpu() {
    let mut node = Node::new();
    node.used("/a", 10);
    node.waits("/a");
    node.read(true);
    node.now_ns += TICKS_NS;
    node.read(true);
    node.used("/a", 20);
    node.read(true);
    assert_eq!(node.own_us("/a"), Some(10), "it cannot have run");
    node.waits("/a");
    node.read(true);
    assert_eq!(node.own_us("/a"), Some(20));
}

#[test]
fn readings_that_are_close_together_take_nobody_for_idle() {
    let mut node = Node::new();
    node.used("/a", 10);
    node.waits("/a");
    // It runs by itself, and the kernel has added nothing between these.
    for _ in 0..3 {
        node.read(true);
        node.now_ns += TICKS_NS / 4;
    }
    node.used("/a", 20);
    node.read(true);
    assert_eq!(node.own_us("/a"), Some(20));
    // One that has long been idle got a CPU just now, and of that nothing is added yet.
    node.now_ns += TICKS_NS;
    node.read(true);
    node.waits("/a");
    node.read(true);
    node.used("/a", 30);
    node.read(true);
    assert_eq!(node.own_us("/a"), Some(30));
}
