//! The machine's cgroup hierarchies, and in them the cluster's groups: one for its programs, and those that its kubelet
//! makes for pods.

use super::{mode::Mode, parts::Part};
use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The cluster's programs are in groups below this one, each in one of its name.
const PROGRAMS: &str = "observer-cluster";
/// The groups of pods, by the names that kubelets give them.
const PODS: [&str; 2] = ["kubepods", "kubepods.slice"];
/// Where programs look for the hierarchies.
pub(super) const MOUNT: &str = "/sys/fs/cgroup";
/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the machine's hierarchies are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// The v2 one.
    pub(super) v2: PathBuf,
    /// Those of version 1.
    pub(super) v1: Vec<PathBuf>,
}

impl Hierarchies {
    /// Looks.
    ///
    /// # Errors
    /// When no v2 hierarchy is mounted from its root.
    pub(super) fn of_this_machine() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        Self::parse(&mounts).context(
            "no cgroup2 hierarchy is mounted here: boot with systemd.unified_cgroup_hierarchy=1, or `mount -t cgroup2 none DIRECTORY`",
        )
    }

    /// Reads `proc_pid_mountinfo(5)`. Only mounts of a whole hierarchy count; containers see parts.
    fn parse(mounts: &str) -> Option<Self> {
        let (mut v2, mut v1) = (None, Vec::new());
        for line in mounts.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let fields: Vec<_> = mount.split(' ').collect();
            let (Some(&"/"), Some(path)) = (fields.get(3), fields.get(4)) else { continue };
            match filesystem.split(' ').next() {
                Some("cgroup2") => v2 = v2.or(Some(PathBuf::from(path))),
                Some("cgroup") => v1.push(PathBuf::from(path)),
                _ => {}
            }
        }
        Some(Self { v2: v2?, v1 })
    }

    /// The same from inside the node, where what is seen of them is what its mode shows.
    pub(super) fn seen_in_node(&self, mode: Mode) -> Self {
        match mode {
            Mode::Hybrid => self.clone(),
            Mode::V2 => Self { v2: PathBuf::from(MOUNT), v1: Vec::new() },
        }
    }

    fn all(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.v2).chain(&self.v1).map(PathBuf::as_path)
    }

    /// A group of pods, whoever's they are.
    pub(super) fn pods(&self) -> Option<PathBuf> {
        self.all().flat_map(|root| PODS.map(|name| root.join(name))).find(|group| group.exists())
    }

    /// Every group of a cluster, whoever's it is.
    pub(super) fn groups_of_clusters(&self) -> Vec<PathBuf> {
        let groups = self.all().flat_map(|root| PODS.into_iter().chain([PROGRAMS]).map(|name| root.join(name)));
        groups.filter(|group| group.exists()).collect()
    }

    /// The group of the cluster's programs.
    pub(super) fn programs(&self) -> PathBuf {
        self.v2.join(PROGRAMS)
    }

    /// The group of one of them.
    pub(super) fn program(&self, part: Part) -> PathBuf {
        self.programs().join(part.name())
    }

    /// True when the v2 hierarchy has what a node's limits need. Where version 1 has taken them, it has not.
    pub(super) fn v2_has_controllers(&self) -> bool {
        let there = words(&self.v2.join("cgroup.controllers"));
        ["cpu", "memory", "pids"].iter().all(|name| there.iter().any(|word| word == name))
    }

    /// What the v2 root gives to its children.
    pub(super) fn subtree_control(&self) -> Vec<String> {
        words(&self.v2.join("cgroup.subtree_control"))
    }

    /// Takes back from them what they were not given before.
    ///
    /// # Errors
    /// When one of them still uses it.
    pub(super) fn restore_subtree_control(&self, before: &[String]) -> Result<()> {
        let file = self.v2.join("cgroup.subtree_control");
        for controller in self.subtree_control().iter().filter(|name| !before.contains(name)) {
            fs::write(&file, format!("-{controller}"))
                .with_context(|| format!("take {controller} out of {}", file.display()))?;
        }
        Ok(())
    }

    /// Ends the cluster's programs and removes their groups.
    ///
    /// # Errors
    /// When processes or groups are left after twenty seconds.
    pub(super) fn end_programs(&self) -> Result<()> {
        // One after the other while their parent is there to take note, or they are left to the machine's first process.
        for part in Part::ALL.into_iter().rev() {
            kill_all(&self.program(part))?;
        }
        kill_all(&self.programs())?;
        remove(&self.programs())
    }

    /// Ends the cluster's pods and removes their groups, in every hierarchy. After the programs, or they would be started again.
    ///
    /// # Errors
    /// When processes or groups are left after twenty seconds.
    pub(super) fn end_pods(&self) -> Result<()> {
        let groups: Vec<_> = self.all().flat_map(|root| PODS.map(|name| root.join(name))).collect();
        groups.iter().try_for_each(|group| kill_all(group))?;
        groups.iter().try_for_each(|group| remove(group))
    }
}

/// Moves a process into a group of the v2 hierarchy, which is made if it is not there.
///
/// # Errors
/// When the group cannot be made or entered.
pub(super) fn enter(group: &Path, pid: u32) -> Result<()> {
    fs::create_dir_all(group).with_context(|| format!("make {}", group.display()))?;
    fs::write(group.join("cgroup.procs"), pid.to_string()).with_context(|| format!("enter {}", group.display()))
}

/// Kills every process in a group and below it, and waits until they are gone.
fn kill_all(group: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        // In one step and without a race, from 5.14 on and in version 2; else one by one until there is none.
        let at_once = fs::write(group.join("cgroup.kill"), "1").is_ok();
        let processes = processes(group);
        if processes.is_empty() {
            return Ok(());
        }
        if !at_once {
            for pid in &processes {
                // It may have ended by itself.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
        }
        ensure!(
            Instant::now() < end,
            "processes of {} do not end: {}",
            group.display(),
            processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// The processes in a group and below it; a group that is not there has none.
fn processes(group: &Path) -> Vec<i32> {
    let mut all: Vec<i32> = words(&group.join("cgroup.procs")).iter().filter_map(|pid| pid.parse().ok()).collect();
    all.extend(children(group).iter().flat_map(|child| processes(child)));
    all
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes a group and those below it. Version 1 says for a moment that one is busy when it no longer is.
fn remove(group: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        for child in children(group) {
            remove(&child)?;
        }
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() >= end => bail!("remove {}: {error}", group.display()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn words(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 20 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:24 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu
27 25 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
28 25 0:25 /a/part /elsewhere rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hierarchies_are_what_is_mounted_from_its_root() {
        assert_eq!(
            Hierarchies::parse(HYBRID),
            Some(Hierarchies { v2: "/sys/fs/cgroup/unified".into(), v1: vec!["/sys/fs/cgroup/cpu".into()] })
        );
        let container = "28 25 0:25 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw";
        assert_eq!(Hierarchies::parse(container), None);
    }

    #[test]
    fn a_group_that_is_not_there_is_killed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let group = directory.path().join("kubepods");
        kill_all(&group).unwrap();
        remove(&group).unwrap();
        fs::create_dir_all(group.join("burstable/pod1/c")).unwrap();
        remove(&group).unwrap();
        assert!(!group.exists());
    }
}
