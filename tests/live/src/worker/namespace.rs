//! Jobs that shape the place where others run: network namespaces, their devices, and what a program may see.

use super::{become_program, converse, not_understood};
use crate::{census, loss, syscalls};
use anyhow::{Context as _, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use std::{ffi::OsString, fs, path::PathBuf};

/// Makes a network namespace in which nothing speaks unasked, and keeps it until told to end.
#[derive(clap::Args)]
pub(super) struct Namespace {
    /// Forward packets between devices.
    #[arg(long)]
    router: bool,
}

impl Namespace {
    pub(super) fn run(self) -> Result<()> {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        for set in ["all", "default"] {
            for (name, value) in
                [("accept_ra", "0"), ("router_solicitations", "0"), ("accept_dad", "0"), ("addr_gen_mode", "1")]
            {
                let path = format!("/proc/sys/net/ipv6/conf/{set}/{name}");
                fs::write(&path, value).with_context(|| format!("write {path}"))?;
            }
        }
        if self.router {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
        }
        converse("ready", not_understood)
    }
}

/// Understands `count`.
#[derive(clap::Args)]
pub(super) struct Census {
    #[arg(long)]
    device: String,
}

impl Census {
    pub(super) fn run(self) -> Result<()> {
        let mut census = census::Census::open(&self.device)?;
        converse("ready", |words| match words {
            ["count"] => census.count(),
            other => not_understood(other),
        })
    }
}

#[derive(clap::Args)]
pub(super) struct Offloads {
    #[arg(long)]
    device: String,
    #[arg(long)]
    on: bool,
}

impl Offloads {
    pub(super) fn run(self) -> Result<()> {
        syscalls::set_offloads(&self.device, self.on)
    }
}

#[derive(clap::Args)]
pub(super) struct Lose {
    #[arg(long)]
    device: Vec<String>,
    #[arg(long)]
    one_in: u32,
}

impl Lose {
    pub(super) fn run(self) -> Result<()> {
        let links = self.device.iter().map(|device| loss::drop_one_in(device, self.one_in));
        let links = links.collect::<Result<Vec<_>>>()?;
        converse("ready", not_understood)?;
        drop(links);
        Ok(())
    }
}

/// Becomes a program in a mount namespace where some places are gone or empty.
#[derive(clap::Args)]
pub(super) struct Hide {
    /// Unmount what is mounted here.
    #[arg(long)]
    unmount: Vec<PathBuf>,
    /// Show an empty folder here.
    #[arg(long)]
    empty: Vec<PathBuf>,
    /// Mount a hierarchy of cgroups of version 1 here, one without a controller.
    #[arg(long)]
    mount_v1: Option<PathBuf>,
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Hide {
    pub(super) fn run(self) -> Result<()> {
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        let nothing: Option<&str> = None;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).context("keep mounts private")?;
        for path in &self.unmount {
            umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", path.display()))?;
        }
        for path in &self.empty {
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), nothing)
                .with_context(|| format!("hide {}", path.display()))?;
        }
        if let Some(path) = &self.mount_v1 {
            mount(Some("none"), path, Some("cgroup"), MsFlags::empty(), Some("none,name=observer-live"))
                .with_context(|| format!("mount a hierarchy of version 1 at {}", path.display()))?;
        }
        become_program(&self.command)
    }
}
