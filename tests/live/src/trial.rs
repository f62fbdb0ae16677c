//! A test: a sentence, where it runs, what it needs, and what it does. What cannot run here is skipped, with the reason.

use crate::machine;
use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};

/// Where a test runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Host,
    Both,
}

/// What a test needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be root.
    Root,
    /// A command in `PATH`.
    Command(&'static str),
    /// A kernel of at least this version.
    Kernel(u32, u32),
    /// `OBSERVER_LONG=1`.
    Time,
    /// A mounted hierarchy of cgroups of version 1.
    CgroupV1,
    /// The cpu controller in the v2 hierarchy.
    CpuController,
}

impl Need {
    /// Why the need is not met.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".into()),
            Self::Command(name) => machine::command(name).is_none().then(|| format!("needs the command {name}")),
            Self::Kernel(major, minor) => {
                (machine::kernel() < (major, minor)).then(|| format!("needs a kernel of {major}.{minor} or later"))
            }
            Self::Time => (!machine::has_time()).then(|| "takes minutes: runs with OBSERVER_LONG=1".into()),
            Self::CpuController => {
                (!crate::cgroup::has_controller("cpu")).then(|| "needs the cpu controller in the v2 hierarchy".into())
            }
            Self::CgroupV1 => {
                let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                (!mounts.contains(" - cgroup cgroup ")).then(|| "needs a hierarchy of cgroups of version 1".into())
            }
        }
    }
}

/// A test as the harness takes it.
pub(crate) fn test(
    sentence: impl Into<String>,
    place: Place,
    needs: &'static [Need],
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(sentence, move || {
        if place == Place::Host && machine::is_guest() {
            return Ok(Completion::ignored_with("runs on hosts only"));
        }
        if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
            return Ok(Completion::ignored_with(reason));
        }
        match run() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => Err(Failed::from(format!("{error:#}"))),
        }
    })
}
