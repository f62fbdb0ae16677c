//! The way that pods have to each other; those from outside are how the tests read the agent.

use crate::{
    cluster::PATIENCE,
    kubectl::{apply, get},
    pod::{Pod, script},
    trial::test,
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use serde_json::{Value, json};

const PORT: u16 = 8080;
const PAGE: &str = "hello from a pod";

pub(super) fn tests() -> Vec<Trial> {
    vec![test("a_pods_port_is_reached_from_a_pod_by_its_service", service)]
}

/// A pod that serves one page.
fn server(name: &str) -> Value {
    let start = format!("mkdir /tmp/www; echo '{PAGE}' >/tmp/www/index.html; exec httpd -f -p {PORT} -h /tmp/www");
    let mut manifest = script(name, &start);
    let probe = json!({ "httpGet": { "path": "/", "port": PORT }, "periodSeconds": 1 });
    manifest["spec"]["containers"][0]["readinessProbe"] = probe;
    manifest
}

fn service() -> Result<()> {
    let pod = Pod::start(&server("served"))?;
    apply(&json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": pod.name },
        "spec": { "selector": { "app": pod.name }, "ports": [{ "port": 80, "targetPort": PORT }] },
    }))?;
    let address = get(&["service", &pod.name])?["spec"]["clusterIP"].as_str().context("no address")?.to_owned();
    let client = Pod::start(&script("client", "sleep 1000"))?;
    // Not its wget, which crashes where busybox is static: it looks up names.
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 80");
    // Whoever makes services reachable takes a moment.
    let mut last = String::new();
    let reached = wait_until(PATIENCE, || {
        last = client.shell(&ask).unwrap_or_else(|error| format!("{error:#}"));
        Ok(last.contains(PAGE))
    })?;
    ensure!(reached, "the service at {address} answered: {last}");
    Ok(())
}
