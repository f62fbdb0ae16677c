//! Which versions of what make up the cluster.

use super::{layout::Layout, parts::Part};
use crate::{
    toolchain::{Version, probe::said},
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::{collections::BTreeMap, fs, process::Command};

/// The Go module of the Kubernetes binary, in the workspace.
pub(super) const MODULE: &str = "tests/cluster/kube";

/// The release of Kubernetes: `v1.34.4`.
///
/// # Errors
/// When go.mod does not say.
pub(super) fn kubernetes(workspace: &Workspace) -> Result<String> {
    required(&go_mod(workspace)?, "k8s.io/kubernetes")
}

/// The release of Go that the module asks for: `1.24.0`.
///
/// # Errors
/// When go.mod does not say.
pub(super) fn go(workspace: &Workspace) -> Result<Version> {
    let text = go_mod(workspace)?;
    let version = text.lines().find_map(|line| line.strip_prefix("go "));
    version.and_then(Version::parse).context("go.mod does not say which Go it needs")
}

/// That of each part.
///
/// # Errors
/// When go.mod does not say.
pub(super) fn all(workspace: &Workspace, layout: &Layout) -> Result<BTreeMap<String, String>> {
    let (kubernetes, etcd) = (kubernetes(workspace)?, required(&go_mod(workspace)?, "go.etcd.io/etcd/server/v3")?);
    let version = |part: Part| match part {
        Part::Etcd => etcd.clone(),
        Part::Containerd => {
            let text = said(Command::new(part.program(layout)).arg("--version")).unwrap_or_default();
            packaged(&text).unwrap_or_else(|| "unknown".into())
        }
        _ => kubernetes.clone(),
    };
    Ok(Part::ALL.map(|part| (part.name().to_owned(), version(part))).into())
}

fn go_mod(workspace: &Workspace) -> Result<String> {
    let path = workspace.root().join(MODULE).join("go.mod");
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The version in a line `module vX.Y.Z` of a go.mod.
fn required(go_mod: &str, module: &str) -> Result<String> {
    let lines = go_mod.lines().map(str::trim);
    let mut versions = lines.filter_map(|line| line.strip_prefix(module)?.strip_prefix(" v"));
    let version = versions.next().with_context(|| format!("go.mod does not require {module}"))?;
    Ok(format!("v{}", version.split(' ').next().unwrap_or(version)))
}

/// `containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1`: the first word that begins with a digit,
/// without what a distribution adds.
fn packaged(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().map(|word| word.trim_start_matches('v'));
    let word = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    word.split(['~', '+', '-']).next().map(|version| format!("v{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_of_the_module_and_not_of_one_with_a_longer_name() {
        let text = "require (\n\tk8s.io/kubernetes-more v9.9.9\n\tk8s.io/kubernetes v1.34.4 // indirect\n)\n";
        assert_eq!(required(text, "k8s.io/kubernetes").unwrap(), "v1.34.4");
        assert!(required(text, "k8s.io/kube").is_err());
    }

    #[test]
    fn the_module_names_its_versions() {
        let workspace = Workspace::this();
        assert!(kubernetes(&workspace).unwrap().starts_with("v1."));
        assert!(go(&workspace).unwrap() >= Version::new(1, 21, 0));
    }

    #[test]
    fn a_packaged_program_says_its_version_in_the_distributions_way() {
        let text = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1\n";
        assert_eq!(packaged(text).as_deref(), Some("v1.6.20"));
        assert_eq!(packaged("containerd github.com/containerd/containerd v1.7.24 abc\n").as_deref(), Some("v1.7.24"));
        assert_eq!(packaged("what"), None);
    }
}
