//! `cargo xtask deploy`: deploy/observer.yaml, which is the chart rendered with its default values.

pub(crate) mod helm;
mod manifest;
pub(crate) mod schema;

use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// The API server that the manifest is rendered for; the chart leaves out what an older one does not know.
const KUBE_VERSION: &str = "1.34.0";
/// What makes it right again.
pub(crate) const CURE: &str = "cargo xtask deploy --render";

/// What to do with the manifest.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Action {
    /// Write deploy/observer.yaml.
    #[arg(long)]
    render: bool,
    /// Compare it with what the chart renders; fails where they differ.
    #[arg(long)]
    check: bool,
}

/// Writes the manifest, or compares it.
///
/// # Errors
/// When there is no helm, or it refuses the chart.
pub(crate) fn run(workspace: &Workspace, action: &Action) -> Result<ExitCode> {
    let Some(helm) = helm::find(workspace) else {
        bail!("there is no helm, and none could be built: see target/setup-logs, or install it ({})", helm::HOME);
    };
    if action.render {
        let (path, text) = (file(workspace), rendered(workspace, &helm)?);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("deploy: {} written", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(difference) = difference(workspace, &helm)? {
        println!("deploy: {difference}");
        return Ok(ExitCode::FAILURE);
    }
    println!("deploy: deploy/observer.yaml is what the chart renders");
    Ok(ExitCode::SUCCESS)
}

/// Where the manifest is not what the chart renders, and the cure.
///
/// # Errors
/// When helm refuses the chart.
pub(crate) fn difference(workspace: &Workspace, helm: &Path) -> Result<Option<String>> {
    let written = fs::read_to_string(file(workspace)).unwrap_or_default();
    let place = manifest::first_difference(&written, &rendered(workspace, helm)?);
    Ok(place.map(|place| format!("deploy/observer.yaml is not what the chart renders ({place}): `{CURE}`")))
}

fn file(workspace: &Workspace) -> PathBuf {
    workspace.root().join("deploy/observer.yaml")
}

fn rendered(workspace: &Workspace, helm: &Path) -> Result<String> {
    let mut command = Command::new(helm);
    command.arg("template").arg(manifest::NAME).arg(workspace.root().join("deploy/chart"));
    command.args(["--namespace", manifest::NAME, "--kube-version", KUBE_VERSION]);
    let output = command.output().with_context(|| format!("run {}", helm.display()))?;
    if !output.status.success() {
        bail!("helm refuses deploy/chart: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).context("helm's output is not UTF-8")?;
    Ok(manifest::manifest(&text))
}
