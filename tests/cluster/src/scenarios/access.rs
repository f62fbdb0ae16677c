//! The ways to a pod's port that the README names, and the one that pods have to each other.

use crate::{
    cluster::PATIENCE,
    kubectl::{Running, apply, command, get, kubectl},
    namespace,
    pod::{Pod, script},
    trial::test,
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
    time::Duration,
};

const PORT: u16 = 8080;
const PAGE: &str = "hello from a pod";

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("a_pods_port_is_reached_with_get_raw", get_raw),
        test("a_pods_port_is_reached_with_port_forward", port_forward),
        test("a_pods_port_is_reached_from_a_pod_by_its_service", service),
    ]
}

/// A pod that serves one page.
fn server(name: &str) -> Value {
    let start = format!("mkdir /tmp/www; echo '{PAGE}' >/tmp/www/index.html; exec httpd -f -p {PORT} -h /tmp/www");
    let mut manifest = script(name, &start);
    let probe = json!({ "httpGet": { "path": "/", "port": PORT }, "periodSeconds": 1 });
    manifest["spec"]["containers"][0]["readinessProbe"] = probe;
    manifest
}

fn get_raw() -> Result<()> {
    let pod = Pod::start(&server("raw"))?;
    let path = format!("/api/v1/namespaces/{}/pods/{}:{PORT}/proxy/", namespace::name(), pod.name);
    let answer = kubectl(&["get", "--raw", &path])?;
    ensure!(answer.trim() == PAGE, "{path} is `{answer}`");
    Ok(())
}

fn port_forward() -> Result<()> {
    let pod = Pod::start(&server("forward"))?;
    let target = format!("pod/{}", pod.name);
    let mut forward = command(&["port-forward", &target, &format!(":{PORT}")]);
    let mut forward =
        Running(forward.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("run kubectl port-forward")?);
    // `Forwarding from 127.0.0.1:40001 -> 8080`
    let mut said = String::new();
    // Kept open: kubectl has a word for each connection, and ends when nobody listens.
    let mut output = BufReader::new(forward.0.stdout.take().context("its output")?);
    output.read_line(&mut said)?;
    let address = said.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
    let address = address.with_context(|| format!("kubectl port-forward does not say where: {said}"))?;
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read from {address}"))?;
    ensure!(answer.contains(PAGE), "{address} answered:\n{answer}");
    Ok(())
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
