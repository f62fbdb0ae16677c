//! Kills on a made-up tree and a made-up /proc.

use super::*;
use crate::{
    cgroup::v1::V1Mounts,
    ledger::{Entity, Identity},
};
use std::{fs, os::unix::fs::MetadataExt as _};

struct Node {
    root: tempfile::TempDir,
    tree: Tree,
    ledger: Ledger,
    v1: bool,
}

impl Node {
    fn new(v1: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["v2", "proc"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let memory = v1.then(|| root.path().join("memory"));
        let tree = Tree::new(root.path().join("v2")).beside(V1Mounts { cpu: None, memory });
        Self { root, tree, ledger: Ledger::default(), v1 }
    }

    fn of_node(&self, kills: u64) {
        fs::write(self.root.path().join("proc/vmstat"), format!("pgfault 1\noom_kill {kills}\n")).unwrap();
    }

    fn of(&self, path: &str, kills: u64) {
        fs::create_dir_all(self.root.path().join("v2").join(path)).unwrap();
        let (hierarchy, file) = if self.v1 { ("memory", "memory.oom_control") } else { ("v2", "memory.events") };
        let directory = self.root.path().join(hierarchy).join(path);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(file), format!("oom 9\noom_kill {kills}\n")).unwrap();
    }

    fn start(&mut self) -> OomKills {
        self.tree.walk(1).unwrap();
        OomKills::new(&self.tree, &self.root.path().join("proc"), &mut self.ledger, 1)
    }

    fn read(&mut self, kills: &mut OomKills) {
        self.tree.walk(1).unwrap();
        let names = Directory { tree: &self.tree, pods: None };
        kills.read(names, &self.root.path().join("proc"), &mut self.ledger, 1);
    }

    fn booked(&self) -> Vec<(String, u64)> {
        let name = |entity: &Entity| match &entity.identity {
            Identity::Cgroup { path } => path.to_string(),
            _ => "unattributed".into(),
        };
        let kills = |entity: &Entity| Some((name(entity), entity.books.oom_kills?));
        self.ledger.entities().iter().filter_map(kills).collect()
    }
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(name, kills)| ((*name).to_owned(), *kills)).collect()
}

#[test]
fn only_what_comes_after_the_start_is_counted_and_for_the_cgroup_that_it_was_in() {
    for v1 in [false, true] {
        let mut node = Node::new(v1);
        node.of_node(40);
        node.of("a", 3);
        let mut kills = node.start();
        node.read(&mut kills);
        assert_eq!(node.booked(), pairs(&[("unattributed", 0)]));
        node.of_node(41);
        node.of("a", 4);
        node.read(&mut kills);
        node.read(&mut kills);
        assert_eq!(node.booked(), pairs(&[("unattributed", 0), ("/a", 1)]), "v1: {v1}");
    }
}

#[test]
fn v2_counts_a_kill_above_too_and_it_is_booked_once() {
    let mut node = Node::new(false);
    node.of_node(0);
    node.of("pod", 0);
    node.of("pod/container", 0);
    let mut kills = node.start();
    node.of_node(2);
    node.of("pod", 2);
    node.of("pod/container", 2);
    node.read(&mut kills);
    assert_eq!(node.booked(), pairs(&[("unattributed", 0), ("/pod/container", 2)]));
}

#[test]
fn a_container_that_is_gone_leaves_its_kill_to_its_pod_in_v2_and_to_nobody_in_v1() {
    for (v1, expected) in [(false, [("unattributed", 0), ("/pod", 1)].as_slice()), (true, &[("unattributed", 1)])] {
        let mut node = Node::new(v1);
        node.of_node(0);
        node.of("pod", 0);
        node.of("pod/container", 0);
        let mut kills = node.start();
        node.of_node(1);
        if !v1 {
            node.of("pod", 1);
        }
        fs::remove_dir_all(node.root.path().join("v2/pod/container")).unwrap();
        node.read(&mut kills);
        assert_eq!(node.booked(), pairs(expected), "v1: {v1}");
    }
}

#[test]
fn a_container_that_came_and_was_hit_between_two_looks_is_counted_whole() {
    let mut node = Node::new(false);
    node.of_node(0);
    let mut kills = node.start();
    node.of_node(1);
    node.of("new", 1);
    node.read(&mut kills);
    assert_eq!(node.booked(), pairs(&[("unattributed", 0), ("/new", 1)]));
    assert!(node.ledger.has_books(fs::metadata(node.root.path().join("v2/new")).unwrap().ino()));
}

#[test]
fn without_the_nodes_count_nothing_is_said() {
    let mut node = Node::new(false);
    node.of("a", 3);
    let mut kills = node.start();
    node.of("a", 4);
    node.read(&mut kills);
    assert_eq!(node.booked(), []);
}
