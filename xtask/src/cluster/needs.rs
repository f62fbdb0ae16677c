//! What the cluster needs that is not simply installed: the container runtime, unpacked so that no service starts, and a Go.

use super::{
    go::{self, Go},
    layout::Layout,
};
use crate::{
    progress,
    setup::{apt, privilege::Privilege},
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::{fmt, fs};

/// The packages of the container runtime, and a program of each by which it is known to be there.
const RUNTIME: [(&str, &str); 3] = [
    ("containerd", "usr/bin/containerd"),
    ("runc", "usr/sbin/runc"),
    ("containernetworking-plugins", "usr/lib/cni/host-local"),
];

/// Something that the cluster needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// containerd, runc and the plugins for pod networks.
    Runtime,
    /// A Go tool-chain.
    Go,
}

impl Need {
    /// What is missing.
    pub(crate) fn missing(workspace: &Workspace) -> Vec<Self> {
        let packages = Layout::of(workspace).packages();
        let runtime = RUNTIME.iter().all(|(_, program)| packages.join(program).is_file());
        // An unreadable go.mod is named when the module is built.
        let go = Go::find(workspace).is_ok_and(|go| go.is_some()) || super::kube::is_built(workspace);
        [(Self::Runtime, runtime), (Self::Go, go)]
            .into_iter()
            .filter(|(_, there)| !there)
            .map(|(need, _)| need)
            .collect()
    }

    /// What it is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Runtime => "containerd, runc, network plugins",
            Self::Go => "Go",
        }
    }

    /// Brings it.
    ///
    /// # Errors
    /// When a package cannot be fetched.
    pub(crate) fn install(self, workspace: &Workspace, privilege: Privilege) -> Result<()> {
        match self {
            Self::Runtime => install_runtime(workspace, privilege),
            Self::Go => Go::fetch(workspace),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime => {
                let names = RUNTIME.map(|(package, _)| package).join(" ");
                write!(
                    f,
                    "{names}\n  {:<18} into target/cluster    runs the test cluster's containers; not installed",
                    ""
                )
            }
            Self::Go => {
                write!(
                    f,
                    "{}\n  {:<18} into target/tools      builds the test cluster's Kubernetes",
                    go::PACKAGES.join(" "),
                    ""
                )
            }
        }
    }
}

/// All packages or none: they are unpacked beside, and moved when they are whole.
fn install_runtime(workspace: &Workspace, privilege: Privilege) -> Result<()> {
    let layout = Layout::of(workspace);
    let (packages, draft) = (layout.packages(), layout.root().join("packages.draft"));
    for old in [&draft, &packages] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(&draft).with_context(|| format!("make {}", draft.display()))?;
    for (package, _) in RUNTIME {
        let elapsed = apt::unpack_whole(workspace, privilege, package, &draft)?;
        println!("  unpacked {package} in {}", progress::seconds(elapsed));
    }
    fs::rename(&draft, &packages).with_context(|| format!("move the packages to {}", packages.display()))
}
