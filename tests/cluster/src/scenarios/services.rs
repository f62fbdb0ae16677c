//! The way that pods have to each other; those from outside are how the tests read the agent.

use crate::{
    cluster::PATIENCE,
    installed::Agent,
    kubectl::{apply, get},
    namespace,
    pod::{Pod, script},
    trial::{once, own, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use serde_json::{Value, json};

const PORT: u16 = 8080;
const PAGE: &str = "hello from a pod";

pub(super) fn tests() -> Vec<Trial> {
    vec![
        once(test("a_pods_port_is_reached_from_a_pod_by_its_service", service)),
        once(test("a_service_is_service_and_a_pod_of_this_node_is_node", scopes)),
        once(own("the_pod_behind_a_service_is_named_and_its_bytes_are_counted_once", behind)),
        once(test("a_service_that_a_pod_in_the_nodes_network_speaks_to_keeps_its_name", from_the_nodes_network)),
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

/// A pod behind a service, and a pod that asks it.
pub(super) struct Served {
    pub(super) server: Pod,
    pub(super) client: Pod,
    /// The service's.
    pub(super) address: String,
}

impl Served {
    /// On a node, or wherever the cluster likes.
    pub(super) fn start(node: Option<&str>) -> Result<Self> {
        let placed = |mut manifest: Value| {
            if let Some(node) = node {
                manifest["spec"]["nodeName"] = node.into();
            }
            manifest
        };
        let server = Pod::start(&placed(server("served")))?;
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": server.name },
            "spec": { "selector": { "app": server.name }, "ports": [{ "port": 80, "targetPort": PORT }] },
        });
        apply(&service)?;
        let address = get(&["service", &server.name])?["spec"]["clusterIP"].as_str().context("no address")?.to_owned();
        Ok(Self { server, client: Pod::start(&placed(script("client", "sleep 1000")))?, address })
    }

    /// Asks for the page until it is there: whoever makes services reachable takes a moment.
    pub(super) fn ask(&self, address: &str, port: u16) -> Result<()> {
        // Not its wget, which crashes where busybox is static: it looks up names.
        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} {port}");
        let mut last = String::new();
        let reached = wait_until(PATIENCE, || {
            last = self.client.shell(&ask).unwrap_or_else(|error| format!("{error:#}"));
            Ok(last.contains(PAGE))
        })?;
        ensure!(reached, "{address} answered: {last}");
        Ok(())
    }
}

fn service() -> Result<()> {
    let served = Served::start(None)?;
    served.ask(&served.address, 80)
}

/// The ranges are the API server's: nobody configured any. The address that a probe comes from is the node's.
fn scopes() -> Result<()> {
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    let served = Served::start(Some(&agent.node))?;
    served.ask(&served.address, 80)?;
    let scopes = |pod: &Pod| -> Result<Vec<String>> {
        let page = Agent::page()?;
        let samples = page.samples("observer_network_receive_bytes_total", &[("pod", &pod.name)])?;
        let with_bytes = samples.iter().filter(|sample| sample.value != "0");
        Ok(with_bytes.map(|sample| sample.label("scope").to_owned()).collect())
    };
    // A page shows what the last sample knew.
    let settles = |pod: &Pod, expected: &[&str]| {
        let mut last = Vec::new();
        let right = wait_until(PATIENCE, || {
            last = scopes(pod)?;
            Ok(last == expected)
        })?;
        ensure!(right, "{} has bytes from {last:?}, and {expected:?} it should be", pod.name);
        Ok(())
    };
    settles(&served.client, &["service"])?;
    settles(&served.server, &["node"])?;
    let direct = get(&["pod", &served.server.name])?["status"]["podIP"].as_str().context("no address")?.to_owned();
    served.ask(&direct, PORT)?;
    settles(&served.client, &["node", "service"])?;
    settles(&served.server, &["node"])
}

/// A connection to a service has two names: the service's, and that of the pod which the node chose.
fn behind() -> Result<()> {
    let agent = Agent::install()?;
    let served = Served::start(Some(&agent.node))?;
    served.ask(&served.address, 80)?;
    let pod_address = get(&["pod", &served.server.name])?["status"]["podIP"].clone();
    let is_right = |one: &Value| {
        let name = json!([one["remote"]["kind"], one["remote"]["namespace"], one["remote"]["name"]]);
        one["address"] == pod_address
            && one["port"] == PORT
            && one["connections"].as_u64() >= Some(1)
            && name == json!(["pod", namespace::name(), served.server.name])
    };
    let rows = |of: &Value| of["behind"].as_array().cloned().unwrap_or_default();
    let path = format!("/api/v1/flows?entity={}/{}", namespace::name(), served.client.name);
    let mut last = Value::Null;
    let told = wait_until(PATIENCE, || {
        last = Agent::ask(&path)?;
        let flows = last["flows"].as_array().context("no flows")?;
        let is_named = |flow: &Value| {
            flow["remote_address"] == *served.address
                && flow["remote"]["name"] == served.server.name
                && matches!(&rows(flow)[..], [one] if is_right(one))
        };
        let bytes = |field: &str| flows.iter().filter_map(|flow| flow[field].as_u64()).sum::<u64>();
        let sample = |name: &str| -> Result<u64> {
            let page = Agent::page()?;
            let samples = page.samples(name, &[("pod", &served.client.name)])?;
            samples.iter().map(|sample| Ok(sample.value.parse::<u64>()?)).sum()
        };
        Ok(flows.iter().any(is_named)
            && bytes("transmit_bytes") == sample("observer_network_transmit_bytes_total")?
            && bytes("receive_bytes") == sample("observer_network_receive_bytes_total")?)
    })?;
    ensure!(told, "{last}");
    let answer = Agent::ask(&format!("/api/v1/whois?address={}", served.address))?;
    ensure!(answer["holder"]["kind"] == "service" && answer["holder"]["name"] == served.server.name, "{answer}");
    // The address may have been another service's before, whose last connections are in the table still.
    ensure!(rows(&answer).iter().any(is_right), "{answer}");
    ensure!(answer["missing"].is_null(), "{answer}");
    Ok(())
}

/// There the address is translated before the packet is counted: its scope is the pod's behind it, and its name the service's all the same.
fn from_the_nodes_network() -> Result<()> {
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    let mut served = Served::start(Some(&agent.node))?;
    let mut manifest = script("on-node", "sleep 1000");
    (manifest["spec"]["nodeName"], manifest["spec"]["hostNetwork"]) = (agent.node.as_str().into(), true.into());
    served.client = Pod::start(&manifest)?;
    served.ask(&served.address, 80)?;
    let path = format!("/api/v1/flows?entity={}/{}", namespace::name(), served.client.name);
    let is_it = |end: &Value| {
        end["kind"] == "service" && end["name"] == served.server.name && end["until_unix_seconds"].is_null()
    };
    let mut last = Value::Null;
    let told = wait_until(PATIENCE, || {
        last = Agent::ask(&path)?;
        let flows = last["flows"].as_array().context("no flows")?;
        Ok(flows.iter().any(|flow| flow["remote_address"] == *served.address && is_it(&flow["remote"])))
    })?;
    ensure!(told, "{last}");
    // Whoever looks at the flows does not take it from whoever asks for the address.
    for _ in 0..3 {
        let flows = Agent::ask(&path)?;
        let answer = Agent::ask(&format!("/api/v1/whois?address={}", served.address))?;
        ensure!(is_it(&answer["holder"]), "{answer}, {flows}");
    }
    Ok(())
}
