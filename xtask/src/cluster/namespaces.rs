//! The node: a network namespace and a mount namespace in which the usual paths of a node are the cluster's own
//! directories. It lives as long as a process in it, and with it go its mounts and its links.
//!
//! Process numbers and cgroups are the machine's own: what an agent sees in its node is what the kernel sees.

use super::{
    cgroups::MOUNT as CGROUPS,
    layout::{COVERED, Layout},
    mode::Mode,
    process::Process,
};
use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use std::{
    fs::{self, File},
    path::Path,
};

/// Makes this process the first in a node of its own, and furnishes it. It must be its only thread.
///
/// # Errors
/// When the kernel refuses one of the mounts.
pub(super) fn make(layout: &Layout, mode: Mode, v2: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("leave the machine's namespaces")?;
    // What is mounted on the machine is seen here too, and nothing the other way round.
    remount("/", MsFlags::MS_SLAVE)?;
    // A copy of a shared mount takes the original's mounts away with it when it goes.
    remount("/sys", MsFlags::MS_PRIVATE)?;
    cover_sys(layout, mode, v2)?;
    for (path, own) in COVERED {
        match own {
            Some(name) => bind(&layout.node(name), Path::new(path), MsFlags::empty())?,
            None => mount_new("tmpfs", path)?,
        }
    }
    // Pods may mount into each other; last, since what is shared cannot be taken down alone.
    remount("/", MsFlags::MS_SHARED)
}

/// /sys of the new network namespace, with the cgroups where the mode has them, and file systems for eBPF and tracing.
fn cover_sys(layout: &Layout, mode: Mode, v2: &Path) -> Result<()> {
    let aside = layout.node("cgroup");
    bind(Path::new(CGROUPS), &aside, MsFlags::MS_REC)?;
    mount_new("sysfs", "/sys")?;
    match mode {
        Mode::Hybrid => bind(&aside, Path::new(CGROUPS), MsFlags::MS_REC)?,
        Mode::V2 => {
            let below = v2.strip_prefix(CGROUPS).with_context(|| format!("{} is not below {CGROUPS}", v2.display()))?;
            bind(&aside.join(below), Path::new(CGROUPS), MsFlags::empty())?;
        }
    }
    umount2(&aside, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", aside.display()))?;
    mount_new("bpf", "/sys/fs/bpf")?;
    // For pods that look into them; not every kernel has or allows them.
    for (kind, path) in [("debugfs", "/sys/kernel/debug"), ("tracefs", "/sys/kernel/tracing")] {
        let _ = mount_new(kind, path);
    }
    Ok(())
}

/// Makes this process, which must be its only thread, one of the node's.
///
/// # Errors
/// When the process by which the node is named has ended, or this one is not root.
pub(super) fn enter(process: &Process) -> Result<()> {
    let open = |kind: &str| {
        let path = format!("/proc/{}/ns/{kind}", process.pid);
        File::open(&path).with_context(|| format!("open {path}"))
    };
    let (network, mounts) = (open("net")?, open("mnt")?);
    setns(network, CloneFlags::CLONE_NEWNET).context("enter the node's network")?;
    setns(mounts, CloneFlags::CLONE_NEWNS).context("enter the node's mounts")
}

fn remount(path: &str, propagation: MsFlags) -> Result<()> {
    mount(None::<&str>, path, None::<&str>, propagation | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("change the propagation of {path}"))
}

fn mount_new(kind: &str, path: &str) -> Result<()> {
    mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mount {kind} at {path}"))
}

fn bind(from: &Path, to: &Path, more: MsFlags) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | more, None::<&str>)
        .with_context(|| format!("show {} at {}", from.display(), to.display()))
}

/// The paths of [`COVERED`] that are not there, in the order in which they are made.
pub(super) fn missing_directories() -> Vec<std::path::PathBuf> {
    let mut missing = Vec::new();
    for (path, _) in COVERED {
        let above = Path::new(path).ancestors().take_while(|path| !path.exists());
        let mut above: Vec<_> = above.map(Path::to_owned).filter(|path| !missing.contains(path)).collect();
        above.reverse();
        missing.append(&mut above);
    }
    missing
}

/// Makes directories.
///
/// # Errors
/// When one cannot be made.
pub(super) fn make_directories(paths: &[std::path::PathBuf]) -> Result<()> {
    paths.iter().try_for_each(|path| fs::create_dir(path).with_context(|| format!("make {}", path.display())))
}

/// Removes them again, last first. One that somebody else has put something into stays.
pub(super) fn remove_directories(paths: &[std::path::PathBuf]) {
    for path in paths.iter().rev() {
        let _ = fs::remove_dir(path);
    }
}
