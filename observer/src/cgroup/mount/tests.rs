//! Mountinfo texts of real shapes, and this machine's.

use super::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const PURE: &str = "\
22 28 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw
29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
30 23 0:27 / /sys/fs/bpf rw,nosuid,nodev,noexec,relatime shared:11 - bpf bpf rw,mode=700
";

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:2 master:3 - cgroup2 cgroup2 rw
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
";

const V1_ONLY: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
";

/// A pod with a cgroup namespace of its own, into which the host's tree is mounted.
const CONTAINER: &str = "\
1350 1340 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
1360 1340 0:26 /../../.. /host/cgroup ro,relatime master:9 - cgroup2 cgroup rw,nsdelegate
";

fn root_at(expected: &str) -> impl Fn(&Path) -> Standing + '_ {
    move |path| if path == Path::new(expected) { Standing::TrueRoot } else { Standing::Below }
}

#[test]
fn a_pure_v2_host() {
    let mount = find_v2(PURE.as_bytes(), root_at("/sys/fs/cgroup")).unwrap();
    assert_eq!(mount, Mount { path: "/sys/fs/cgroup".into(), root: "/".into(), hybrid: false, true_root: true });
}

#[test]
fn a_hybrid_host() {
    let mount = find_v2(HYBRID.as_bytes(), root_at("/sys/fs/cgroup/unified")).unwrap();
    assert_eq!(mount, Mount { path: "/sys/fs/cgroup/unified".into(), root: "/".into(), hybrid: true, true_root: true });
}

#[test]
fn v1_only_says_how_to_boot() {
    let error = find_v2(V1_ONLY.as_bytes(), |_| Standing::Elsewhere).unwrap_err();
    assert_eq!(error, MountError::V1Only);
    assert!(error.to_string().contains("systemd.unified_cgroup_hierarchy=1"), "{error}");
}

#[test]
fn a_container_takes_the_hosts_tree_over_its_own() {
    let mount = find_v2(CONTAINER.as_bytes(), root_at("/host/cgroup")).unwrap();
    assert_eq!((mount.path, mount.root), ("/host/cgroup".into(), "/../../..".into()));
}

#[test]
fn a_container_with_nothing_but_its_own_tree_is_not_at_the_root() {
    let own = "1350 1340 0:26 /kubepods/pod1 /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n";
    let mount = find_v2(own.as_bytes(), |_| Standing::Below).unwrap();
    assert_eq!((mount.root.to_str(), mount.true_root), (Some("/kubepods/pod1"), false));
}

#[test]
fn of_several_mounts_the_covered_ones_are_passed_over() {
    let several = format!("{PURE}50 23 0:26 / /mnt/again rw - cgroup2 none rw\n");
    let covered = |path: &Path| if path.starts_with("/mnt") { Standing::TrueRoot } else { Standing::Elsewhere };
    assert_eq!(find_v2(several.as_bytes(), covered).unwrap().path, Path::new("/mnt/again"));
    assert_eq!(find_v2(several.as_bytes(), |_| Standing::TrueRoot).unwrap().path, Path::new("/sys/fs/cgroup"));
}

#[test]
fn escaped_and_foreign_bytes_in_paths_come_back() {
    let odd = b"29 23 0:26 / /mnt/a\\040b\\011c\\134d\\0x\xff rw - cgroup2 none rw\n";
    let mount = find_v2(odd, |_| Standing::TrueRoot).unwrap();
    assert_eq!(mount.path.as_os_str(), OsStr::from_bytes(b"/mnt/a b\tc\\d\\0x\xff"));
}

#[test]
fn texts_that_end_early_mean_no_hierarchy() {
    for text in
        ["", "\n\n", "29 23 0:26 /", "29 23 0:26 / /sys/fs/cgroup rw -", "29 23 0:26 / /sys/fs/cgroup rw cgroup2 x"]
    {
        assert_eq!(find_v2(text.as_bytes(), |_| Standing::TrueRoot), Err(MountError::Unmounted), "{text:?}");
    }
}

#[test]
fn this_machines_hierarchy_is_found_by_itself_and_by_its_path() {
    match locate(None) {
        Ok(mount) => {
            assert!(mount.path.join("cgroup.procs").exists(), "{mount:?}");
            assert_eq!(locate(Some(&mount.path)), Ok(mount));
        }
        Err(error) => eprintln!("skipped: {error}"),
    }
    assert_eq!(locate(Some(Path::new("/proc"))), Err(MountError::NotV2 { path: "/proc".into() }));
}

#[test]
fn a_directory_inside_of_a_hierarchy_is_refused_and_a_part_that_is_mounted_is_not() {
    let hybrid = "41 30 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                  50 30 0:26 /pod /mnt/part rw - cgroup2 cgroup2 rw\n\
                  51 30 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    let entries = entries(hybrid.as_bytes());
    let refused = |path: &str| refuse_inside(Path::new(path), &entries);
    for path in ["/sys/fs/cgroup/unified/a", "/sys/fs/cgroup/unified/a/b"] {
        let mount = "/sys/fs/cgroup/unified".into();
        assert_eq!(refused(path), Err(MountError::Inside { path: path.into(), mount }));
    }
    assert_eq!(refused("/sys/fs/cgroup/unified"), Ok(()));
    assert_eq!(refused("/mnt/part"), Ok(()), "a container's own part");
    assert_eq!(refused("/elsewhere"), Ok(()), "mountinfo does not tell");
}
