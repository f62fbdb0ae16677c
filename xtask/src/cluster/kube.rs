//! Building the Kubernetes binary from its Go module, once: again only when the module changes.

use super::{
    layout::Layout,
    parts::Part,
    versions::{self, MODULE},
};
use crate::{
    go::{self, Go, SOON_BUILT},
    progress,
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::{fs, os::unix::fs::symlink, path::PathBuf};

/// The program.
const NAME: &str = "kube";
/// What it is called by besides the names of parts.
const OTHER_NAMES: [&str; 2] = ["kubectl", "kube-pki"];
/// The module's files.
const SOURCES: [&str; 4] = ["go.mod", "go.sum", "main.go", "pki.go"];

/// True when it is there and of the module as it is.
pub(super) fn is_built(workspace: &Workspace) -> bool {
    let stamp = fs::read_to_string(stamp(workspace)).unwrap_or_default();
    Layout::of(workspace).program(NAME).is_file() && fingerprint(workspace).is_ok_and(|now| now == stamp)
}

/// Builds it, unless it is there.
///
/// # Errors
/// When there is no Go for it, or the build fails.
pub(super) fn build(workspace: &Workspace) -> Result<()> {
    if is_built(workspace) {
        return Ok(());
    }
    let layout = Layout::of(workspace);
    let go = Go::find(workspace, versions::go(workspace)?).context(
        "the test cluster's Kubernetes is built from source, and there is no Go for it: 1.21 or later, from https://go.dev/dl or the distribution",
    )?;
    let release = versions::kubernetes(workspace)?;
    if !layout.go_cache("build").exists() {
        println!(
            "cluster: Kubernetes {release} is built from source, once: about ten minutes on two CPUs, 600 MB to fetch, 4 GB of caches \
             ({})",
            layout.root().join("go").display()
        );
    }
    let mut command = go.command(workspace, &layout.go_cache("mod"), &layout.go_cache("build"));
    command
        .current_dir(workspace.root().join(MODULE))
        .args(["build", "-mod=readonly", "-trimpath", SOON_BUILT, "-ldflags", &linker_flags(&release), "-o"])
        .args([layout.program(NAME).as_os_str(), ".".as_ref()]);
    let log = workspace.log("build-logs", "kubernetes")?;
    let finished = progress::run(&format!("building Kubernetes {release}"), command, &log)?.success()?;
    for name in Part::ALL.map(Part::name).into_iter().filter(|name| *name != "containerd").chain(OTHER_NAMES) {
        let link = layout.program(name);
        if !link.exists() {
            symlink(NAME, &link).with_context(|| format!("make {}", link.display()))?;
        }
    }
    fs::write(stamp(workspace), fingerprint(workspace)?).context("note what was built")?;
    println!("cluster: built Kubernetes {release} in {}", progress::seconds(finished.elapsed));
    Ok(())
}

/// Its parts say their version by what the linker writes into them: without it they take themselves for v0.0.0, and clients
/// for too old.
fn linker_flags(release: &str) -> String {
    let mut numbers = release.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let settings = [("gitVersion", release), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean")];
    let packages = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
    let setting = |package: &str| settings.map(|(name, value)| format!(" -X {package}.{name}={value}")).concat();
    format!("-s -w{}", packages.map(setting).concat())
}

fn stamp(workspace: &Workspace) -> PathBuf {
    Layout::of(workspace).program("kube.stamp")
}

fn fingerprint(workspace: &Workspace) -> Result<String> {
    go::fingerprint(workspace, MODULE, &SOURCES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_module_is_in_its_fingerprint() {
        let directory = Workspace::this().root().join(MODULE);
        let mut files: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, SOURCES);
    }

    #[test]
    fn the_version_is_given_to_both_packages_that_say_it() {
        let flags = linker_flags("v1.34.4");
        assert!(flags.contains("component-base/version.gitVersion=v1.34.4"), "{flags}");
        assert!(flags.contains("client-go/pkg/version.gitMinor=34"), "{flags}");
    }
}
