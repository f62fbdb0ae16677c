//! Working sets on a made-up tree.

use super::*;
use crate::agent::homes::Homes;
use crate::{
    cgroup::{Tree, v1::V1Mounts},
    kube::PodStore,
};
use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

const SECOND: u64 = 1_000_000_000;
const CONTAINER: &str = "/kubepods/pod0a1b2c3d-0000-1111-2222-333344445555/4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e4f1c3f0d5a7b9c2e";

struct Node {
    root: tempfile::TempDir,
    tree: Tree,
    ledger: Ledger,
    homes: Homes,
    memory: Memory,
    pods: Option<PodStore>,
    now_ns: u64,
}

impl Node {
    fn new(v1: bool, pods: Option<PodStore>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let memory = v1.then(|| root.path().join("memory"));
        fs::create_dir_all(root.path().join("v2")).unwrap();
        let tree = Tree::new(root.path().join("v2")).beside(V1Mounts { cpu: None, memory });
        let (ledger, homes, memory) = (Ledger::default(), Homes::default(), Memory::new(8));
        Self { root, tree, ledger, homes, memory, pods, now_ns: 100 * SECOND }
    }

    fn directory(&self, hierarchy: &str, path: &str) -> PathBuf {
        self.root.path().join(hierarchy).join(path.trim_start_matches('/'))
    }

    /// A cgroup with a process.
    fn populate(&self, path: &str) {
        let directory = self.directory("v2", path);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cgroup.procs"), "7\n").unwrap();
    }

    /// What its files say, wherever they are.
    fn uses(&self, path: &str, bytes: u64, inactive: u64, limit: &str) {
        let v1 = self.tree.v1().memory.is_some();
        let directory = self.directory(if v1 { "memory" } else { "v2" }, path);
        fs::create_dir_all(&directory).unwrap();
        let [usage, max, total] = if v1 {
            ["memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"]
        } else {
            ["memory.current", "memory.max", "inactive_file"]
        };
        fs::write(directory.join(usage), format!("{bytes}\n")).unwrap();
        fs::write(directory.join("memory.stat"), format!("cache 1\n{total} {inactive}\n")).unwrap();
        fs::write(directory.join(max), format!("{limit}\n")).unwrap();
    }

    /// After so many seconds, one after the other.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_ns += SECOND;
            self.tree.walk(self.now_ns).unwrap();
            let names = Directory { tree: &self.tree, pods: self.pods.as_ref() };
            let moves = self.homes.follow(names, &mut self.ledger, self.now_ns);
            self.memory.read(names, &moves, &mut self.ledger, self.now_ns);
        }
        self.ledger.sum_memory();
    }

    fn id(&self, path: &str) -> u64 {
        fs::metadata(self.directory("v2", path)).unwrap().ino()
    }

    /// All that is used, by anybody.
    fn used(&self) -> Vec<(u64, Option<u64>)> {
        let mut used: Vec<_> = self.ledger.entities().iter().filter_map(|entity| entity.memory).collect();
        used.sort_unstable_by_key(|memory| memory.working_set_bytes);
        used.iter().map(|memory| (memory.working_set_bytes, memory.limit_bytes)).collect()
    }
}

#[test]
fn a_cgroup_has_what_those_below_it_have_not_in_v2_and_in_v1() {
    for v1 in [false, true] {
        let mut node = Node::new(v1, None);
        for (path, bytes, inactive, limit) in [("/a", 1000, 100, "5000"), ("/a/b", 300, 50, "9223372036854771712")] {
            node.populate(path);
            node.uses(path, bytes, inactive, if v1 || limit == "5000" { limit } else { "max" });
        }
        node.pass(1);
        assert_eq!(node.used(), [(250, None), (650, Some(5000))], "v1: {v1}");
    }
}

#[test]
fn a_containers_working_set_has_whatever_it_made_below_in_it_once() {
    let mut node = Node::new(false, Some(PodStore::default()));
    let inner = format!("{CONTAINER}/init.scope");
    node.populate(&inner);
    node.uses(CONTAINER, 1000, 100, "2000");
    node.uses(&inner, 700, 0, "max");
    node.pass(1);
    assert_eq!(node.used(), [(900, Some(2000))]);
}

#[test]
fn a_cgroup_without_a_counterpart_in_v1_has_no_figures_and_its_parent_keeps_them() {
    let mut node = Node::new(true, None);
    node.populate("/a");
    node.populate("/a/b");
    node.uses("/a", 1000, 0, "5000");
    node.pass(1);
    assert_eq!(node.used(), [(1000, Some(5000))]);
}

#[test]
fn the_root_has_none_in_either() {
    for v1 in [false, true] {
        let mut node = Node::new(v1, None);
        node.populate("/");
        node.uses("/", 1000, 0, "5000");
        node.pass(1);
        assert_eq!(node.used(), []);
    }
}

#[test]
fn a_working_set_is_read_anew_within_half_a_minute_and_a_limit_within_five() {
    let mut node = Node::new(false, None);
    node.populate("/a");
    node.uses("/a", 1000, 0, "5000");
    node.pass(1);
    node.uses("/a", 1200, 0, "6000");
    node.pass(32);
    assert_eq!(node.used()[0].0, 1200);
    node.pass(300);
    assert_eq!(node.used(), [(1200, Some(6000))]);
}

#[test]
fn what_only_slept_since_the_agent_started_is_read_too_and_what_is_gone_is_not() {
    let mut node = Node::new(false, None);
    node.populate("/sleeps");
    node.uses("/sleeps", 1000, 0, "max");
    node.pass(1);
    assert_eq!(node.used(), [(1000, None)]);
    let id = node.id("/sleeps");
    fs::remove_dir_all(node.directory("v2", "/sleeps")).unwrap();
    node.ledger.cgroup_gone(id, node.now_ns);
    node.pass(1);
    assert_eq!(node.used(), []);
    assert_eq!(node.homes.own().count(), 0);
}
