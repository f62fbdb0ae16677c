//! Tests of deploy/: that the manifest keeps what docs/security.md promises and holds only fields that Kubernetes knows, and
//! that the chart does so with other values too; and that the alerts fire when they should and at no other time. No cluster.
//!
//! `HELM` names the Helm that renders the chart (default: `helm` of the search path); tests that need one are skipped where there
//! is none, and so are those of the rules without promtool. `cargo xtask test --level deploy` runs all of it, and compares the manifest with the chart.

mod chart;
mod dashboards;
mod manifest;
mod notes;
mod objects;
mod promises;
mod rules;
mod values;

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let trials =
        [manifest::trials(), values::trials(), chart::trials(), notes::trials(), rules::trials(), dashboards::trials()]
            .into_iter()
            .flatten()
            .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A file or directory of the workspace.
fn workspace(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// The text of a file of the workspace.
fn text(path: &str) -> anyhow::Result<String> {
    use anyhow::Context as _;
    let path = workspace(path);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// A test as the harness takes it.
fn test(sentence: &str, run: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> libtest_mimic::Trial {
    libtest_mimic::Trial::test(sentence, move || run().map_err(|error| format!("{error:#}").into()))
}
