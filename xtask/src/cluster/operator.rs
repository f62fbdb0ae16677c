//! The definitions of the Prometheus operator's objects that the chart can make: an API server has to know them to judge them. They are
//! files of a Go module (Apache-2.0), fetched once and not kept in the repository.

use super::layout::Layout;
use crate::{
    go::Go,
    toolchain::{Version, probe::said},
    workspace::Workspace,
};
use anyhow::{Context, Result, ensure};
use std::{fs, path::PathBuf};

const MODULE: &str = "github.com/prometheus-operator/prometheus-operator";
const RELEASE: &str = "v0.85.0";
/// What all of its files come to, as Go tells it.
const SUM: &str = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=";
const DIRECTORY: &str = "example/prometheus-operator-crd";
/// The kinds, in the plural.
const KINDS: [&str; 2] = ["podmonitors", "prometheusrules"];

/// Fetches them, unless they are there.
///
/// # Errors
/// When there is no Go, or the module cannot be fetched or is another.
pub(super) fn fetch(workspace: &Workspace) -> Result<()> {
    let layout = Layout::of(workspace);
    let stamp = layout.definitions().join("release");
    if fs::read_to_string(&stamp).is_ok_and(|release| release == RELEASE) {
        return Ok(());
    }
    let go = Go::find(workspace, Version::new(1, 21, 0)).context("there is no Go to fetch the operator's module by")?;
    let caches = tempfile::tempdir_in(workspace.target()).context("make a directory under target/")?;
    let mut command = go.command(workspace, &caches.path().join("mod"), &caches.path().join("build"));
    command.current_dir(caches.path()).args(["mod", "download", "-json", &format!("{MODULE}@{RELEASE}")]);
    let text = said(&mut command).with_context(|| format!("Go does not fetch {MODULE} {RELEASE}"))?;
    let told: serde_json::Value = serde_json::from_str(&text).context("what Go says of the operator's module")?;
    ensure!(told["Sum"] == SUM, "{MODULE} {RELEASE} is another than it was: {}", told["Sum"]);
    let module = PathBuf::from(told["Dir"].as_str().context("Go does not say where the module is")?);
    fs::create_dir_all(layout.definitions()).context("make target/cluster/definitions")?;
    for kind in KINDS {
        let file = module.join(DIRECTORY).join(format!("monitoring.coreos.com_{kind}.yaml"));
        let to = layout.definitions().join(format!("{kind}.yaml"));
        fs::copy(&file, to).with_context(|| format!("copy {}", file.display()))?;
    }
    fs::write(stamp, RELEASE).context("note what was fetched")
}
