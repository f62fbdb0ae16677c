//! A quota on a pod's cgroup, on a made-up tree.

use super::*;
use crate::agent::homes::Homes;
use crate::{
    cgroup::{Tree, v1::V1Mounts},
    kube::PodStore,
    ledger::{Identity, Throttling},
};
use std::fs;

const POD: &str = "kubepods/pod0a1b2c3d-0000-1111-2222-333344445555";
const SECOND: u64 = 1_000_000_000;

fn throttled(v1: bool) -> Vec<(bool, Throttling)> {
    let root = tempfile::tempdir().unwrap();
    let container = format!("{POD}/{}", "a".repeat(64));
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(&format!("v2/{container}/cgroup.procs"), "7\n");
    for (cgroup, periods) in [(POD, 9), (&*container, 0), ("kubepods", 0)] {
        let figures = |word, time| format!("nr_periods {periods}\nnr_throttled {}\n{word} {}\n", periods / 3, time);
        let v2 = if v1 { String::new() } else { figures("throttled_usec", periods * 7) };
        write(&format!("v2/{cgroup}/cpu.stat"), &format!("usage_usec 100\n{v2}"));
        write(&format!("cpu/{cgroup}/cpu.stat"), &figures("throttled_time", periods * 7000));
    }
    let cpu = v1.then(|| root.path().join("cpu"));
    let mut tree = Tree::new(root.path().join("v2")).beside(V1Mounts { cpu, memory: None });
    tree.walk(1).unwrap();
    let pods = PodStore::default();
    let names = Directory { tree: &tree, pods: Some(&pods) };
    let (mut ledger, mut homes, mut quotas) = (Ledger::default(), Homes::default(), Quotas::new(8));
    for second in [1, 2, 30, 400] {
        let moves = homes.follow(names, &mut ledger, second * SECOND);
        quotas.look(names, &moves, &mut ledger, second * SECOND);
        quotas.read(names, &mut ledger, second * SECOND);
    }
    assert!(!quotas.has(tree.at(format!("/{container}")).unwrap()) && quotas.has(tree.at(format!("/{POD}")).unwrap()));
    let of = |entity: &crate::ledger::Entity| {
        let Identity::UnnamedPod { container, .. } = &entity.identity else { return None };
        Some((container.is_some(), entity.books.cpu?.throttling?))
    };
    ledger.entities().iter().filter_map(of).collect()
}

#[test]
fn a_pods_own_quota_is_on_the_pod_without_a_container_once_and_a_cgroup_without_a_quota_has_no_entity() {
    for v1 in [false, true] {
        let expected = Throttling { periods: 9, throttled_periods: 3, throttled_ns: 63_000 };
        assert_eq!(throttled(v1), [(false, expected)], "v1: {v1}");
    }
}
