//! The chart before a real API server, which is asked what it would make of it.

use crate::{
    cluster::PATIENCE,
    kubectl::{command, get, kubectl, read},
    namespace,
    trial::{Outcome, once, own_perhaps},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/chart");
/// The chart's own values, and every one of them another.
const VALUES: [(&str, &str); 2] = [("its own", ""), ("other", include_str!("../../../deploy/everything.yaml"))];

pub(super) fn tests() -> Vec<Trial> {
    vec![once(own_perhaps("the_api_server_takes_every_object_of_the_chart_whatever_its_values", dry_run))]
}

/// The definitions of the operator's kinds, in the cluster until dropped.
struct Definitions(Vec<PathBuf>);

impl Definitions {
    fn make(directory: &Path) -> Result<Self> {
        let files = ["podmonitors", "prometheusrules"].map(|kind| directory.join(format!("{kind}.yaml")));
        let definitions = Self(files.to_vec());
        for file in &definitions.0 {
            let file = file.to_str().context("a path that is not UTF-8")?;
            kubectl(&["create", "--filename", file])?;
            // Right after it was made it may have no conditions at all, which is an error to kubectl.
            let established = ["wait", "--for=condition=Established", "--timeout=60s", "--filename", file];
            let mut last = Ok(String::new());
            wait_until(PATIENCE, || {
                last = kubectl(&established);
                Ok(last.is_ok())
            })?;
            last?;
        }
        Ok(definitions)
    }
}

impl Drop for Definitions {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = command(&["delete", "--ignore-not-found", "--filename"]).arg(file).output();
        }
    }
}

/// What Helm makes of the chart for this cluster.
fn rendered(helm: &Path, values: &str) -> Result<String> {
    let version: serde_json::Value = serde_json::from_str(&kubectl(&["version", "--output=json"])?)?;
    let version = version["serverVersion"]["gitVersion"].as_str().context("a server without a version")?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(values.as_bytes())?;
    let mut helm = Command::new(helm);
    helm.args(["template", "books", CHART, "--namespace", namespace::name(), "--kube-version", version]);
    let output = helm.arg("--values").arg(file.path()).output().context("run helm")?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("what helm prints")
}

/// What the API server would do with these objects: a line each. Fields that it does not know are errors.
fn judged(objects: &str) -> Result<String> {
    read(&["apply", "--dry-run=server", "--validate=strict", "--filename=-"], objects)
}

fn dry_run() -> Result<Outcome> {
    let Some(helm) = std::env::var_os("HELM").map(PathBuf::from) else {
        return Ok(Outcome::Skipped("needs helm, by HELM".into()));
    };
    let Some(directory) = std::env::var_os("OBSERVER_CLUSTER_DEFINITIONS").map(PathBuf::from) else {
        return Ok(Outcome::Skipped("needs the operator's definitions, by OBSERVER_CLUSTER_DEFINITIONS".into()));
    };
    let _definitions = Definitions::make(&directory)?;
    for (which, values) in VALUES {
        let objects = rendered(&helm, values)?;
        let said = judged(&objects).with_context(|| format!("{which} values"))?;
        let made = said.lines().filter(|line| line.ends_with(" created (server dry run)")).count();
        let wanted = objects.lines().filter(|line| line.starts_with("kind: ")).count();
        ensure!(made == wanted && made >= 5, "of {wanted} objects with {which} values:\n{said}");
    }
    // It does look.
    let objects = rendered(&helm, VALUES[1].1)?;
    for (right, wrong) in
        [("podMetricsEndpoints:", "podMetricEndpoints:"), ("maxUnavailable: 3", "maxUnavailable: many")]
    {
        ensure!(objects.contains(right), "no {right} in\n{objects}");
        if let Ok(said) = judged(&objects.replace(right, wrong)) {
            bail!("it takes {wrong}: {said}");
        }
    }
    let left = get(&["daemonsets"])?;
    ensure!(left["items"].as_array().is_some_and(Vec::is_empty), "it was made: {left}");
    Ok(Outcome::Passed)
}
