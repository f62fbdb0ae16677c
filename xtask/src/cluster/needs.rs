//! What the cluster needs that is not simply installed: the container runtime, unpacked so that no service starts, and a Go.

use super::{kube, layout::Layout, versions};
use crate::{
    go::Go,
    progress,
    setup::{apt, privilege::Privilege},
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::fs;

/// The packages of the container runtime, and a program of each by which it is known to be there.
const RUNTIME: [(&str, &str); 3] = [
    ("containerd", "usr/bin/containerd"),
    ("runc", "usr/sbin/runc"),
    ("containernetworking-plugins", "usr/lib/cni/host-local"),
];

/// What the runtime's packages are called.
pub(crate) fn runtime() -> String {
    RUNTIME.map(|(package, _)| package).join(" ")
}

/// True when they are there.
pub(crate) fn has_runtime(workspace: &Workspace) -> bool {
    let packages = Layout::of(workspace).packages();
    RUNTIME.iter().all(|(_, program)| packages.join(program).is_file())
}

/// True when Kubernetes has to be built, and there is no Go for it.
pub(crate) fn lacks_go(workspace: &Workspace) -> bool {
    // An unreadable go.mod is named when the module is built.
    !kube::is_built(workspace) && versions::go(workspace).is_ok_and(|needed| Go::find(workspace, needed).is_none())
}

/// All packages or none: they are unpacked beside, and moved when they are whole.
///
/// # Errors
/// When one cannot be fetched.
pub(crate) fn install_runtime(workspace: &Workspace, privilege: Privilege) -> Result<()> {
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
