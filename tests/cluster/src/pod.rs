//! A pod of the tests.

use crate::{
    cluster::{PATIENCE, test_image},
    kubectl::{apply, command, get, kubectl},
};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// A pod that was made; removed when dropped.
pub(crate) struct Pod {
    pub(crate) name: String,
}

/// A pod's manifest: one container, `main`, which runs a shell script in the tests' image.
pub(crate) fn script(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            // Whatever keeps other pods off a node.
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{
                "name": "main",
                "image": test_image(),
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
            }],
        },
    })
}

impl Pod {
    /// Makes it.
    pub(crate) fn make(manifest: &Value) -> Result<Self> {
        let name = manifest["metadata"]["name"].as_str().context("a pod without a name")?.to_owned();
        apply(manifest)?;
        Ok(Self { name })
    }

    /// Makes it and waits until it runs.
    pub(crate) fn start(manifest: &Value) -> Result<Self> {
        let pod = Self::make(manifest)?;
        pod.wait_for("condition=Ready")?;
        Ok(pod)
    }

    /// Waits for what `kubectl wait --for` understands.
    pub(crate) fn wait_for(&self, what: &str) -> Result<()> {
        let (what, limit) = (format!("--for={what}"), format!("--timeout={}s", PATIENCE.as_secs()));
        kubectl(&["wait", "pod", &self.name, &what, &limit]).map(drop).with_context(|| self.story())
    }

    /// What the API says of it.
    pub(crate) fn object(&self) -> Result<Value> {
        get(&["pod", &self.name])
    }

    /// Runs a shell script in it; what that prints.
    pub(crate) fn shell(&self, script: &str) -> Result<String> {
        kubectl(&["exec", &self.name, "--", "sh", "-c", script])
    }

    /// What the cluster says about it, for an error.
    fn story(&self) -> String {
        let output = command(&["describe", "pod", &self.name]).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("(the cluster says of pod {}:\n{})", self.name, lines[lines.len().saturating_sub(15)..].join("\n"))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = command(&["delete", "pod", &self.name, "--ignore-not-found", "--wait=false"]).output();
    }
}

/// A pod that takes whatever is sent to it.
pub(crate) struct Sink {
    pub(crate) pod: Pod,
    /// Where: `ADDRESS:PORT`.
    pub(crate) address: String,
}

impl Sink {
    /// Starts it on a node.
    pub(crate) fn start(node: &str) -> Result<Self> {
        const PORT: u16 = 9000;
        let mut manifest = script("sink", &format!("exec talk sink {PORT}"));
        manifest["spec"]["nodeName"] = node.into();
        let pod = Pod::start(&manifest)?;
        let address = pod.object()?["status"]["podIP"].as_str().context("the sink has no address")?.to_owned();
        Ok(Self { pod, address: format!("{address}:{PORT}") })
    }
}
