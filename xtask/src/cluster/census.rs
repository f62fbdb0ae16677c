//! What is on this machine of a cluster, or may be changed by one: to show that one that is down has left nothing.

use super::{
    cgroups::Hierarchies,
    layout::{COVERED, Layout},
    network, record, sysctls,
};
use crate::workspace::Workspace;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// All of it, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    lines: BTreeSet<String>,
}

impl Census {
    /// Takes it.
    pub(crate) fn take(workspace: &Workspace) -> Self {
        let layout = Layout::of(workspace);
        let mut lines = BTreeSet::new();
        if let Ok(hierarchies) = Hierarchies::of_this_machine() {
            lines.extend(hierarchies.groups_of_clusters().iter().map(|group| format!("cgroup {}", group.display())));
            lines.extend(hierarchies.subtree_control().iter().map(|name| format!("controller {name} of the v2 root")));
        }
        lines.extend(network::is_there().then(|| "its link".to_owned()));
        lines.extend(record::is_there().then(|| "its record".to_owned()));
        let directories = COVERED.iter().map(|(path, _)| PathBuf::from(path)).chain([layout.run()]);
        lines.extend(directories.filter(|path| path.exists()).map(|path| format!("directory {}", path.display())));
        lines.extend(sysctls::read().iter().map(|(name, value)| format!("{name} = {value}")));
        lines.extend(processes(layout.root()));
        lines.extend(mounts(layout.root()));
        Self { lines }
    }

    /// What is in this one and not in an earlier one.
    pub(crate) fn beyond(&self, before: &Self) -> Vec<String> {
        self.lines.difference(&before.lines).cloned().collect()
    }
}

/// Those of programs below a directory. One that has ended and is not buried yet has no program.
fn processes(root: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let programs = entries.filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path().join("exe")).ok()?)));
    let of_cluster = programs.filter(|(_, program)| program.starts_with(root));
    of_cluster.map(|(pid, program)| format!("process {} ({})", pid.display(), program.display())).collect()
}

fn mounts(root: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(root)).map(|point| format!("mount {point}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_there_before_is_left() {
        let census = |lines: &[&str]| Census { lines: lines.iter().map(ToString::to_string).collect() };
        let before = census(&["kernel.panic = 1", "directory /run/containerd"]);
        let after = census(&["kernel.panic = 10", "directory /run/containerd"]);
        assert_eq!(after.beyond(&before), ["kernel.panic = 10"]);
        assert!(before.beyond(&before).is_empty());
    }

    #[test]
    fn a_running_program_is_found_by_its_directory() {
        let own = std::env::current_exe().unwrap();
        assert!(!processes(own.parent().unwrap()).is_empty());
        assert!(processes(Path::new("/nowhere")).is_empty());
    }
}
