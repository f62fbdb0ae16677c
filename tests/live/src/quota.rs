//! A CPU quota on a cgroup of the tests', from whichever hierarchy has the controller.

use crate::cgroup::{Cgroup, has_controller, join};
use anyhow::{Context as _, Result};
use std::{fs, path::PathBuf, time::Duration};

/// The kernel's period.
const PERIOD_US: u64 = 100_000;

/// A quota; taken back when dropped, after the tasks under it have ended.
pub(crate) struct Quota {
    stat: PathBuf,
    /// The cgroup of the v1 hierarchy that holds it.
    v1: Option<PathBuf>,
}

impl Quota {
    /// Lets the tasks of a cgroup in the folder have `hundredths` of a CPU together.
    pub(crate) fn on(folder: &mut Cgroup, cgroup: &Cgroup, hundredths: u64) -> Result<Self> {
        let quota_us = PERIOD_US * hundredths / 100;
        if has_controller("cpu") {
            folder.delegate("cpu")?;
            fs::write(cgroup.path().join("cpu.max"), format!("{quota_us} {PERIOD_US}"))?;
            return Ok(Self { stat: cgroup.path().join("cpu.stat"), v1: None });
        }
        let path = v1_root("cpu")?.join(cgroup.label.trim_start_matches('/').replace('/', "-"));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        let quota = Self { stat: path.join("cpu.stat"), v1: Some(path) };
        quota.write("cpu.cfs_period_us", PERIOD_US)?;
        quota.write("cpu.cfs_quota_us", quota_us)?;
        Ok(quota)
    }

    fn write(&self, name: &str, value: u64) -> Result<()> {
        let path = self.stat.with_file_name(name);
        fs::write(&path, value.to_string()).with_context(|| format!("write {}", path.display()))
    }

    /// Lets the cgroup have the CPU before others for as long as its quota lasts, however many they are.
    pub(crate) fn first(&self) -> Result<()> {
        let (name, most) = if self.v1.is_some() { ("cpu.shares", 262_144) } else { ("cpu.weight", 10_000) };
        self.write(name, most)
    }

    /// Puts a process that is in the cgroup under the quota.
    pub(crate) fn hold(&self, pid: u32) -> Result<()> {
        self.v1.as_deref().map_or(Ok(()), |path| join(path, pid))
    }

    /// How long the cgroup's tasks were kept from each CPU, all CPUs together.
    pub(crate) fn throttled(&self) -> Result<Duration> {
        let text = fs::read_to_string(&self.stat)?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let microseconds = field("throttled_usec ").map(Duration::from_micros);
        microseconds.or_else(|| field("throttled_time ").map(Duration::from_nanos)).context("no throttling in cpu.stat")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        if let Some(path) = &self.v1
            && let Err(error) = crate::cgroup::remove_tree(path)
        {
            eprintln!("observer-live: {error:#}");
        }
    }
}

/// Where a v1 hierarchy with this controller is mounted.
pub(crate) fn v1_root(controller: &str) -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let find = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut words = after.split(' ');
        let is_v1 = words.next() == Some("cgroup");
        let options = words.nth(1)?;
        (is_v1 && options.split(',').any(|option| option == controller))
            .then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or_default()))
    };
    mounts.lines().find_map(find).with_context(|| format!("no hierarchy has the controller {controller}"))
}
