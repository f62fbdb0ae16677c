//! Mountinfo texts of real shapes, and this machine's.

use super::*;

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

/// A pod with cgroups of its own at the usual place, into which the host's /sys/fs/cgroup is mounted.
const CONTAINER: &str = "\
50 40 0:29 / /sys/fs/cgroup/cpu ro,relatime - cgroup cgroup rw,cpu
51 40 0:32 / /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory
60 40 0:29 /../../.. /host/sys/fs/cgroup/cpu ro,relatime - cgroup cgroup rw,cpu
61 40 0:32 /../../.. /host/sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory
62 40 0:38 /../../.. /host/sys/fs/cgroup/unified ro,relatime - cgroup2 cgroup2 rw
";

fn mount(root: &str, true_root: bool) -> Mount {
    Mount { path: "/v2".into(), root: root.into(), hybrid: true, true_root }
}

fn found(mountinfo: &str, v2: &Mount, is_root: impl Fn(&Path) -> bool) -> [Option<String>; 2] {
    let V1Mounts { cpu, memory } = V1Mounts::find(mountinfo.as_bytes(), v2, is_root);
    [cpu, memory].map(|path| path.map(|path| path.display().to_string()))
}

#[test]
fn a_controller_is_found_by_the_options_and_not_by_the_name_of_the_directory() {
    let expected = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"];
    assert_eq!(found(HYBRID, &mount("/", true), |_| true), expected.map(|path| Some(path.to_owned())));
    let renamed = HYBRID.replace("/sys/fs/cgroup/memory", "/mnt/m");
    assert_eq!(found(&renamed, &mount("/", true), |_| true)[1].as_deref(), Some("/mnt/m"));
}

#[test]
fn a_container_takes_the_hosts_hierarchies_over_its_own() {
    let host = |path: &Path| path.starts_with("/host");
    let expected = ["/host/sys/fs/cgroup/cpu", "/host/sys/fs/cgroup/memory"];
    assert_eq!(found(CONTAINER, &mount("/../../..", true), host), expected.map(|path| Some(path.to_owned())));
}

#[test]
fn a_part_of_the_hierarchy_is_read_beside_the_same_part_and_no_other() {
    let part = "50 40 0:29 /a/b /cpu ro - cgroup cgroup rw,cpu\n51 40 0:32 /a /memory ro - cgroup cgroup rw,memory\n";
    assert_eq!(found(part, &mount("/a/b", false), |_| false), [Some("/cpu".to_owned()), None]);
    assert_eq!(found(part, &mount("", false), |_| false), [None, None], "nobody knows which part it is");
    assert_eq!(found(part, &mount("/", true), |_| false), [None, None], "the whole is not beside a part");
}

#[test]
fn a_pure_host_has_none() {
    let pure = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    assert_eq!(found(pure, &mount("/", true), |_| true), [None, None]);
}

#[test]
fn this_machines_hierarchies_hold_what_is_read_of_them() {
    let Ok(v2) = crate::cgroup::mount::locate(None) else { return };
    let V1Mounts { cpu, memory } = V1Mounts::locate(&v2);
    if let Some(cpu) = cpu {
        assert!(std::fs::read_to_string(cpu.join("cpu.stat")).unwrap().contains("nr_throttled"));
    }
    if let Some(memory) = memory {
        assert!(std::fs::read_to_string(memory.join("memory.stat")).unwrap().contains("total_inactive_file"));
    }
}
