//! The namespace that the tests keep to.

use crate::kubectl::{apply, command};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::sync::LazyLock;

static NAME: LazyLock<String> = LazyLock::new(|| format!("observer-test-{}", std::process::id()));

/// Its name: no other run's.
pub(crate) fn name() -> &'static str {
    &NAME
}

/// The namespace; removed with all that is in it when dropped.
pub(crate) struct Namespace(());

/// Makes it.
pub(crate) fn make() -> Result<Namespace> {
    apply(&json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name(),
            "labels": {
                "app.kubernetes.io/managed-by": "observer-cluster",
                // Some pods look at the node's files.
                "pod-security.kubernetes.io/enforce": "privileged",
            },
        },
    }))
    .context("make a namespace for the tests")?;
    if crate::cluster::xtask().is_none() {
        println!(
            "all is in the namespace {0}; should this be interrupted: kubectl delete namespace/{0} clusterrole/{0} clusterrolebinding/{0}",
            name()
        );
    }
    Ok(Namespace(()))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // An own cluster goes with it; on somebody else's, it is seen to the end.
        let wait = if crate::cluster::xtask().is_some() { "--wait=false" } else { "--wait=true" };
        let outcome = command(&["delete", "namespace", name(), "--ignore-not-found", wait]).output();
        if !outcome.is_ok_and(|output| output.status.success()) {
            eprintln!("observer-cluster: the namespace {} is left", name());
        }
    }
}
