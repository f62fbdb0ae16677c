//! What Helm says after an installation.

use crate::{
    chart::{helm, with_helm},
    workspace,
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::{fs, path::Path};

/// The test. It needs Helm.
pub(crate) fn trials() -> Vec<Trial> {
    vec![with_helm("the_notes_name_what_was_installed", notes)]
}

/// Notes are rendered by an install only; a client's dry run needs no cluster but one version, which it makes up.
fn rendered_notes(chart: &Path, values: &[&str]) -> Result<String> {
    let mut helm = helm();
    helm.arg("template").arg("second").arg(chart).args(["--namespace", "monitoring", "--kube-version", "1.34.0"]);
    helm.args(["--show-only", "templates/notes.yaml"]).args(values.iter().flat_map(|value| ["--set", value]));
    let output = helm.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn notes() -> Result<()> {
    let notes = fs::read_to_string(workspace("deploy/chart/templates/NOTES.txt"))?;
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("chart");
    copy_directory(&workspace("deploy/chart"), &copy)?;
    // As a ConfigMap's text, where `template` shows it.
    let indented: String = notes.lines().flat_map(|line| ["  ", line, "\n"]).collect();
    fs::write(copy.join("templates/notes.yaml"), format!("text: |\n{indented}"))?;
    let always =
        ["-n monitoring port-forward daemonset/second-observer 9810", "label namespace monitoring", "honor labels"];
    let plugin = "kubectl observer explain --node NODE --namespace monitoring";
    let cases: [(&[&str], &[&str], &[&str]); 3] = [
        (&[], &["daemonset/second-observer 9811", plugin, "top --all-nodes"], &["--agent"]),
        // The plugin looks for neither.
        (
            &["agent.debugListen=127.0.0.1:9000"],
            &["daemonset/second-observer 9000", "http://127.0.0.1:9000/", "explain --agent http://127.0.0.1:9000"],
            &["9811", plugin],
        ),
        (&["agent.debugListen=off"], &[], &["9811", "explain"]),
    ];
    for (values, told, not_told) in cases {
        let said = rendered_notes(&copy, values)?;
        for part in always.iter().chain(told) {
            ensure!(said.contains(part), "{values:?}: no `{part}` in {said}");
        }
        for part in not_told {
            ensure!(!said.contains(part), "{values:?}: `{part}` in {said}");
        }
    }
    Ok(())
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
