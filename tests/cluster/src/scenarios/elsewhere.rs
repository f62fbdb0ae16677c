//! A node that nobody runs, whose pods only the API server knows: what is sent there arrives nowhere.

use crate::{
    kubectl::{apply, command, kubectl},
    pod::{Pod, script},
};
use anyhow::Result;
use serde_json::{Value, json};

/// Its name. Its ranges are for documentation, and lead nowhere.
pub(super) const ELSEWHERE: &str = "observer-test-elsewhere";
const RANGE: &str = "203.0.113.128/26";
pub(super) const NODE_ADDRESS: &str = "203.0.113.10";

/// The node that nobody runs; gone when dropped.
pub(super) struct Elsewhere;

impl Elsewhere {
    pub(super) fn make() -> Result<Self> {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": ELSEWHERE },
            "spec": {
                "podCIDR": RANGE,
                "podCIDRs": [RANGE],
                "taints": [{ "key": "observer-test", "value": "nobody", "effect": "NoSchedule" }],
            },
        });
        apply(&node)?;
        let made = Self;
        let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": NODE_ADDRESS }] } });
        patch_status("node", ELSEWHERE, &status)?;
        Ok(made)
    }

    /// A pod that runs there, as far as the API server knows.
    pub(super) fn pod(name: &str, spec: &Value, address: &str) -> Result<Pod> {
        Self::pod_with(name, spec, &[address])
    }

    /// The same with several addresses, the first of which can be asked for.
    pub(super) fn pod_with(name: &str, spec: &Value, addresses: &[&str]) -> Result<Pod> {
        let mut manifest = script(name, "sleep 1");
        manifest["spec"]["nodeName"] = ELSEWHERE.into();
        for (key, value) in spec.as_object().into_iter().flatten() {
            manifest["spec"][key] = value.clone();
        }
        let pod = Pod::make(&manifest)?;
        let all: Vec<_> = addresses.iter().map(|address| json!({ "ip": address })).collect();
        let status = json!({ "status": {
            "phase": "Running", "startTime": time(now()?)?, "podIP": addresses.first(), "podIPs": all,
        }});
        patch_status("pod", name, &status)?;
        Ok(pod)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = command(&["delete", "node", ELSEWHERE, "--ignore-not-found"]).output();
    }
}

pub(super) fn patch_status(kind: &str, name: &str, status: &Value) -> Result<()> {
    kubectl(&["patch", kind, name, "--subresource=status", "--patch", &status.to_string()]).map(drop)
}

/// Takes a pod away that no kubelet has.
pub(super) fn vanish(pod: Pod) -> Result<()> {
    kubectl(&["delete", "pod", &pod.name, "--force", "--grace-period=0", "--wait=true"])?;
    drop(pod);
    Ok(())
}

pub(super) fn now() -> Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())
}

/// `1970-01-01T00:00:00Z`, as the API has it.
pub(super) fn time(unix_seconds: u64) -> Result<String> {
    let text = std::process::Command::new("date")
        .args(["--utc", "--date", &format!("@{unix_seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()?;
    Ok(String::from_utf8(text.stdout)?.trim().to_owned())
}
