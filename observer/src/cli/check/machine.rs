//! What the agent needs of the machine around it: kernel version, privileges, cgroups, /proc, and no other agent.

use super::Machine;
use super::finding::{Finding, State};
use crate::agent::open_files;
use crate::cgroup::mount::MountError;
use crate::cgroup::v1::{self, V1Mounts};
use crate::kernel::lock;
use crate::kernel::privileges::{Feature, listed};
use crate::kernel::release::{Version, version};
use crate::procfs::{self, Conntrack, Network};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::fs;
use std::path::{Path, PathBuf};

/// The oldest kernel the programs are tried on.
const OLDEST: Version = (5, 10);
/// From this one on, maps are read without `CAP_BPF` whatever `kernel.unprivileged_bpf_disabled` says.
const READS_FREELY: Version = (5, 19);

/// The processes that this one is among.
const OWN_PROC: &str = "/proc";

pub(super) fn kernel(release: &str) -> Finding {
    const NEED: &str = "kernel";
    let fix = "boot a kernel of 5.10 or later";
    match version(release) {
        Some(version) if version >= OLDEST => Finding::ok(NEED, format!("{release} (5.10 or later)")),
        Some(_) => Finding::not_ok(State::Missing, NEED, format!("{release} is older than 5.10"), fix),
        None => Finding::not_ok(State::Unknown, NEED, format!("the release {release:?} is not understood"), fix),
    }
}

pub(super) fn open_files(limit: nix::Result<usize>) -> Finding {
    const NEED: &str = "open files";
    let least = open_files::LEAST;
    match limit {
        Ok(limit) if limit >= least => Finding::ok(NEED, format!("{limit} at once ({least} or more)")),
        Ok(limit) => {
            Finding::not_ok(State::Missing, NEED, format!("{limit} at once, fewer than {least}"), open_files::FIX)
        }
        Err(error) => {
            Finding::not_ok(State::Unknown, NEED, format!("the limit cannot be read: {error}"), open_files::FIX)
        }
    }
}

impl Machine {
    pub(super) fn capabilities(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let lacks_for = |feature| !self.held.missing_for(feature).is_empty();
        let nothing_left = lacks_for(Feature::Bytes) && lacks_for(Feature::Scheduler);
        for (need, feature) in [
            ("privileges: bytes", Feature::Bytes),
            ("privileges: flows", Feature::Flows),
            ("privileges: scheduler", Feature::Scheduler),
            ("privileges: cgroup events", Feature::CgroupEvents),
        ] {
            let lacks = self.held.missing_for(feature);
            let finding = if lacks.is_empty() {
                Finding::ok(need, format!("{} held", listed(&self.held.stands_in(feature))))
            } else if self.in_user_namespace {
                let detail = "in a user namespace of its own no capability counts for bpf(2)";
                Finding::without(feature, need, detail, "run it outside of rootless containers, as the host's root")
            } else {
                let lacks = listed(&lacks);
                Finding::without(feature, need, &format!("{lacks} not held"), format!("run as root, or add {lacks}"))
            };
            let state = if nothing_left { State::Missing } else { finding.state };
            findings.push(Finding { state, ..finding });
        }
        findings.extend(self.reading_after_the_drop());
        findings
    }

    /// Only where it is not as usual.
    fn reading_after_the_drop(&self) -> Option<Finding> {
        let disabled = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").ok()?;
        (version(&self.release)? < READS_FREELY && disabled.trim() != "0").then(|| {
            let detail = "this kernel lets nobody read maps without CAP_BPF: the agent keeps that one capability";
            let fix = "use a kernel of 5.19 or later to have none kept";
            Finding::not_ok(State::Degraded, "privileges: after attach", detail, fix)
        })
    }

    pub(super) fn cgroups(&self) -> Vec<Finding> {
        const NEED: &str = "cgroup v2";
        let mount = match &self.hierarchy {
            Ok(mount) => mount,
            Err(error) => return vec![Finding::not_ok(State::Missing, NEED, no_hierarchy(error), cgroup_fix(error))],
        };
        let path = mount.path.display();
        let mode = if mount.hybrid { "hybrid: v1 is mounted beside it" } else { "pure" };
        let mut findings = vec![Finding::ok(NEED, format!("{path} ({mode})"))];
        findings.push(if mount.true_root {
            Finding::ok("cgroup root", "the mount shows the whole hierarchy")
        } else {
            let detail = format!("{path} shows a part of the hierarchy: only what is below it is counted");
            let fix = "pass the host's /sys/fs/cgroup into the container, and name it with --cgroup-path";
            Finding::not_ok(State::Degraded, "cgroup root", detail, fix)
        });
        let v1 = V1Mounts::find(&self.mountinfo, mount, v1::is_root);
        let v2 = fs::read_to_string(mount.path.join("cgroup.controllers")).unwrap_or_default();
        findings.push(controller("cpu", &v2, v1.cpu.as_deref(), "no throttling figures"));
        findings.push(controller("memory", &v2, v1.memory.as_deref(), "no working sets, limits and OOM kills"));
        findings
    }

    /// Whether a process of the host is in this process's cgroup, as somebody sees it to whom the host's /proc was handed in.
    pub(super) fn is_of_this_container(&self, pid: u32) -> bool {
        let own = Path::new(OWN_PROC);
        let cgroup = |path: PathBuf| fs::read(path.join("cgroup")).ok();
        self.proc != own
            && cgroup(self.proc.join(pid.to_string())).is_some_and(|its| cgroup(own.join("self")) == Some(its))
    }

    pub(super) fn other_agent(&self) -> Finding {
        const NEED: &str = "no other agent";
        let Ok(mount) = &self.hierarchy else {
            let fix = "find the hierarchy first: see `cgroup v2`";
            return Finding::not_ok(State::Unknown, NEED, "the lock is on the root of the cgroup hierarchy", fix);
        };
        match lock::holder(&mount.path, &self.proc) {
            Ok(None) => Finding::ok(NEED, "nobody holds the lock on the cgroup root"),
            Ok(Some(holder)) if self.is_of_this_container(holder.pid) => Finding::ok(
                NEED,
                format!("pid {} ({}) in this container is the agent itself", holder.pid, holder.command),
            ),
            Ok(Some(holder)) => {
                let detail = format!("pid {} ({}) counts on this node already", holder.pid, holder.command);
                Finding::not_ok(State::Missing, NEED, detail, format!("stop it to start another: kill {}", holder.pid))
            }
            Err(error) => {
                let detail = format!("{}/locks cannot be read: {error}", self.proc.display());
                Finding::not_ok(State::Unknown, NEED, detail, "mount /proc, or name it with --proc-path")
            }
        }
    }
}

/// In which hierarchy a controller is, if in any that can be seen.
fn controller(name: &str, v2: &str, v1: Option<&Path>, lost: &str) -> Finding {
    let need = if name == "cpu" { "cpu controller" } else { "memory controller" };
    if v2.split_whitespace().any(|controller| controller == name) {
        return Finding::ok(need, "in the v2 hierarchy");
    }
    if let Some(path) = v1 {
        return Finding::ok(need, format!("in a v1 hierarchy, read at {}", path.display()));
    }
    let fix = format!(
        "boot without cgroup_disable={name} and with systemd.unified_cgroup_hierarchy=1, or pass the host's v1 hierarchies in beside v2"
    );
    Finding::not_ok(State::Degraded, need, format!("in no hierarchy that can be seen here: {lost}"), fix)
}

fn no_hierarchy(error: &MountError) -> String {
    match error {
        MountError::V1Only => "only cgroup v1 is mounted".into(),
        MountError::Unmounted => "no cgroup hierarchy is mounted here".into(),
        MountError::NotV2 { path } if !path.exists() => format!("{} does not exist", path.display()),
        MountError::NotV2 { path } => format!("{} is not in a v2 hierarchy", path.display()),
        MountError::Inside { path, .. } => {
            format!("{} is inside of a v2 hierarchy, not its mount point", path.display())
        }
        MountError::Unreadable { .. } => "the mounts of this process cannot be read".into(),
    }
}

fn cgroup_fix(error: &MountError) -> &'static str {
    match error {
        MountError::V1Only => "boot with systemd.unified_cgroup_hierarchy=1",
        MountError::Unmounted => "mount -t cgroup2 none /sys/fs/cgroup, or pass the host's into the container",
        MountError::NotV2 { .. } | MountError::Inside { .. } => {
            "leave --cgroup-path out, or give the mount point of the v2 hierarchy"
        }
        MountError::Unreadable { .. } => "mount /proc, or name the hierarchy with --cgroup-path",
    }
}

/// For the reader only: nothing is pinned, so nothing is lost where there is none.
pub(super) fn bpffs(path: &Path) -> Finding {
    let shown = path.display();
    let mounted = statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    let detail = if mounted { format!("mounted at {shown}") } else { format!("not mounted at {shown}") };
    Finding::ok("bpffs", format!("{detail}; not used: nothing is pinned"))
}

/// Whether the kernel keeps pressure stall information, which is read only when asked for.
pub(super) fn pressure(path: &Path) -> Finding {
    const NEED: &str = "pressure";
    match procfs::has_pressure(path) {
        Ok(()) => Finding::ok(NEED, "kept by the kernel; read with --pressure"),
        Err(error) => {
            let fix = "boot with psi=1, on a kernel with CONFIG_PSI";
            Finding::not_ok(State::Degraded, NEED, format!("{error}: --pressure shows nothing"), fix)
        }
    }
}

/// Whether it can be told who stands behind a service's address.
pub(super) fn connections(network: &Network) -> Finding {
    const NEED: &str = "connections";
    match Conntrack::open(network) {
        Ok(_) => Finding::ok(NEED, "the node's table can be read: it tells the pods behind services"),
        Err(reason) => {
            let fix = "modprobe nf_conntrack where the kernel has it, and start the agent as root or with the group 0";
            Finding::not_ok(State::Degraded, NEED, format!("{reason}: who stands behind services is not told"), fix)
        }
    }
}

/// Whether the agent, once it is nobody, can read the host's tasks.
pub(super) fn proc(path: &Path, mountinfo: &[u8]) -> Finding {
    const NEED: &str = "/proc";
    const SLEEPS: &str = "uninterruptible sleep is booked when it ends, not while it lasts";
    let shown = path.display();
    if let Err(error) = fs::read(path.join("stat")) {
        let detail = format!("{shown} cannot be read: {error}: no figures of the node, and {SLEEPS}");
        return Finding::not_ok(State::Degraded, NEED, detail, "mount -t proc proc /proc, or name it with --proc-path");
    }
    if hides_tasks(path, mountinfo) {
        let detail = format!("{shown} is mounted with hidepid: {SLEEPS}");
        return Finding::not_ok(State::Degraded, NEED, detail, format!("mount -o remount,hidepid=0 {shown}"));
    }
    if !procfs::is_the_hosts(path) {
        let detail = format!("{shown} is a container's, not the host's: {SLEEPS}");
        let fix =
            "share the host's pid namespace (hostPID: true), or mount the host's /proc and name it with --proc-path";
        return Finding::not_ok(State::Degraded, NEED, detail, fix);
    }
    Finding::ok(NEED, format!("{shown} is the host's"))
}

/// Whether the file system at `path` is mounted with `hidepid` other than 0 and `off`.
fn hides_tasks(path: &Path, mountinfo: &[u8]) -> bool {
    let text = String::from_utf8_lossy(mountinfo);
    let at_path = |line: &&str| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == path);
    let options = text.lines().rfind(at_path).and_then(|line| line.split(' ').next_back()).unwrap_or_default();
    options.split(',').filter_map(|option| option.strip_prefix("hidepid=")).any(|value| value != "0" && value != "off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_old_or_new_by_their_numbers() {
        for new in ["5.10.0-32-amd64", "5.10", "6.1.0", "10.0-rc1", "5.100.3"] {
            assert_eq!(kernel(new).state, State::Ok, "{new}");
        }
        for old in ["5.9.16", "4.19.0-27-amd64", "3.10.0-1160.el7"] {
            assert_eq!(kernel(old).state, State::Missing, "{old}");
        }
        for odd in ["", "linux", "6", "x6.1"] {
            assert_eq!(kernel(odd).state, State::Unknown, "{odd}");
        }
    }

    #[test]
    fn a_proc_that_hides_tasks_is_seen() {
        let line = |options: &str| format!("22 28 0:20 / /proc rw,relatime - proc proc {options}\n").into_bytes();
        for (options, hides) in [
            ("rw", false),
            ("rw,hidepid=0", false),
            ("rw,hidepid=off", false),
            ("rw,hidepid=2", true),
            ("rw,gid=5,hidepid=invisible", true),
        ] {
            assert_eq!(hides_tasks(Path::new("/proc"), &line(options)), hides, "{options}");
        }
        assert!(!hides_tasks(Path::new("/host/proc"), &line("rw,hidepid=2")));
        assert_eq!(proc(Path::new("/proc"), &line("rw,hidepid=2")).state, State::Degraded);
    }

    #[test]
    fn a_missing_proc_and_a_containers_proc_are_told() {
        let empty = tempfile::tempdir().unwrap();
        assert!(proc(empty.path(), b"").detail.contains("cannot be read"));
        fs::write(empty.path().join("stat"), "cpu 0\n").unwrap();
        let found = proc(empty.path(), b"");
        assert!(found.detail.contains("a container's") && found.fix.unwrap().contains("hostPID"));
        fs::create_dir(empty.path().join("2")).unwrap();
        fs::write(empty.path().join("2/comm"), "kthreadd\n").unwrap();
        assert_eq!(proc(empty.path(), b"").state, State::Ok);
    }

    #[test]
    fn a_missing_bpffs_costs_nothing() {
        let plain = tempfile::tempdir().unwrap();
        for path in [plain.path(), Path::new("/nonexistent/bpf")] {
            let found = bpffs(path);
            assert_eq!(found.state, State::Ok);
            assert!(
                found.detail.starts_with("not mounted at ") && found.detail.contains("not used"),
                "{}",
                found.detail
            );
        }
    }
}
