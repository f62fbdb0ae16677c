//! The agent as deploy/observer.yaml installs it, in the tests' namespace and on one node.

use crate::{
    cluster::{self, PATIENCE},
    kubectl::{Running, apply, command, get, kubectl, read},
    namespace,
};
use anyhow::{Context as _, Result, bail, ensure};
use observer_test_kit::{page::Page, wait_until};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{ChildStdout, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::Duration,
};

/// The manifest as it stands in the repository.
const MANIFEST: &str = include_str!("../../../deploy/observer.yaml");
/// Everything in it that has a name has this one.
const NAME: &str = "observer";
/// Programs that some hosts do not let run, since they iterate; the others need the same capabilities, and are there.
pub(crate) const ITERATING: [&str; 2] = ["observer_sockets", "observer_lasting"];
/// The port of the metrics.
pub(crate) const PORT: u16 = 9810;

/// The agent; all that the manifest made is removed when it is dropped.
pub(crate) struct Agent {
    /// The node that it is on, and that the tests' pods have to be on.
    pub(crate) node: String,
}

impl Agent {
    /// Applies the manifest and waits until the DaemonSet is rolled out.
    pub(crate) fn install() -> Result<Self> {
        let nodes = get(&["nodes"])?;
        let ready = nodes["items"].as_array().into_iter().flatten().find(|node| is_ready(node));
        let node = ready.and_then(|node| node["metadata"]["name"].as_str()).context("no node is Ready")?.to_owned();
        nobody_counts_on(&node)?;
        let agent = Self { node };
        apply(&agent.manifest()?)?;
        Self::rolled_out()?;
        Ok(agent)
    }

    /// The manifest's objects for one node. What is the cluster's and no namespace's has the tests' namespace's name.
    fn manifest(&self) -> Result<Value> {
        let mut objects = objects()?;
        objects.retain(|object| object["kind"] != "Namespace");
        ensure!(objects.len() == 5, "{} objects in the manifest besides the namespace", objects.len());
        for object in &mut objects {
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            match &*kind {
                "ClusterRole" => object["metadata"]["name"] = namespace::name().into(),
                "ClusterRoleBinding" => {
                    object["metadata"]["name"] = namespace::name().into();
                    object["roleRef"]["name"] = namespace::name().into();
                }
                "DaemonSet" => {
                    let selector = &mut object["spec"]["template"]["spec"]["nodeSelector"];
                    selector["kubernetes.io/hostname"] = self.node.as_str().into();
                    if let Some(path) = cluster::net_path()? {
                        let container = &mut object["spec"]["template"]["spec"]["containers"][0];
                        let environment = container["env"].as_array_mut().context("no environment")?;
                        environment.push(json!({ "name": "OBSERVER_NET_PATH", "value": path }));
                    }
                }
                _ => {}
            }
        }
        Ok(json!({ "apiVersion": "v1", "kind": "List", "items": objects }))
    }

    /// Waits until its pod is Ready, and is of the DaemonSet as it is now.
    pub(crate) fn rolled_out() -> Result<()> {
        let limit = format!("--timeout={}s", PATIENCE.as_secs());
        kubectl(&["rollout", "status", &format!("daemonset/{NAME}"), &limit]).map(drop).with_context(Self::story)
    }

    /// Its pod.
    pub(crate) fn pod() -> Result<Value> {
        let pods = get(&["pods", "--selector", &format!("app.kubernetes.io/name={NAME}")])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let mut alive = pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        alive.next().context("the agent has no pod")
    }

    /// Deletes its pod, and waits until the next one is ready.
    pub(crate) fn restart() -> Result<()> {
        let name = Self::name()?;
        kubectl(&["delete", "pod", &name, "--wait=true"])?;
        let next = wait_until(PATIENCE, || Ok(Self::name().is_ok_and(|next| next != name)))?;
        ensure!(next, "no pod follows {name}");
        Self::rolled_out()
    }

    /// Its pod's name.
    pub(crate) fn name() -> Result<String> {
        Self::pod()?["metadata"]["name"].as_str().map(str::to_owned).context("a pod without a name")
    }

    /// Its page, as the README's `kubectl get --raw` reads it.
    pub(crate) fn page() -> Result<Page> {
        let path = format!("/api/v1/namespaces/{}/pods/{}:{PORT}/proxy/metrics", namespace::name(), Self::name()?);
        Ok(Page { text: kubectl(&["get", "--raw", &path])? })
    }

    /// What its API says, through `kubectl port-forward`.
    pub(crate) fn ask(path: &str) -> Result<Value> {
        let forwarded = Self::forward()?;
        let answer = observer_test_kit::http::get(forwarded.address, path)?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text()?);
        serde_json::from_str(answer.text()?).with_context(|| format!("what {path} says"))
    }

    /// Its debug listener, through `kubectl port-forward`.
    pub(crate) fn forward() -> Result<Forwarded> {
        let mut command = command(&["port-forward", &format!("pod/{}", Self::name()?), ":9811"]);
        let mut forward = Running(command.stdout(Stdio::piped()).spawn().context("run kubectl")?);
        let mut output = BufReader::new(forward.0.stdout.take().context("kubectl's output")?);
        let mut line = String::new();
        output.read_line(&mut line).context("read what kubectl forwards")?;
        // Forwarding from 127.0.0.1:41000 -> 9811
        let address = line.split_whitespace().nth(2).and_then(|word| word.parse().ok());
        let address = address.with_context(|| format!("kubectl forwards nothing: {line}"))?;
        Ok(Forwarded { address, _output: output, _kubectl: forward })
    }

    /// Its pod's address.
    pub(crate) fn address() -> Result<String> {
        Self::pod()?["status"]["podIP"].as_str().map(str::to_owned).context("the agent's pod has no address")
    }

    /// Its process, which on an own cluster is one of this machine's.
    pub(crate) fn process() -> Result<u32> {
        let pod = Self::pod()?;
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().context("no container's id")?;
        let id = id.rsplit('/').next().unwrap_or_default();
        for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if cgroup.contains(id) {
                return entry.file_name().to_str().and_then(|name| name.parse().ok()).context("a process's number");
            }
        }
        bail!("no process is in a cgroup of {id}")
    }

    /// Asks for the page until `right` finds nothing wrong with it, or time is up: then what it found last.
    pub(crate) fn settles(limit: Duration, mut right: impl FnMut(&Page) -> Result<()>) -> Result<()> {
        let mut last = Ok(());
        let settled = wait_until(limit, || {
            last = Self::page().and_then(|page| right(&page));
            if last.is_err() {
                // kubectl and the API server are no light load, and share the machine with what is tested.
                sleep(Duration::from_millis(200));
            }
            Ok(last.is_ok())
        })?;
        if settled { Ok(()) } else { last.with_context(Self::story) }
    }

    /// Waits until `observer_kube_feature_up` is 0 for these features and for no other.
    pub(crate) fn features_down(expected: &[&str]) -> Result<()> {
        Self::settles(PATIENCE, |page| {
            let features = page.samples("observer_kube_feature_up", &[])?;
            ensure!(!features.is_empty(), "no observer_kube_feature_up");
            let down = features.iter().filter(|sample| sample.value == "0").map(|sample| sample.label("feature"));
            let down: Vec<_> = down.collect();
            ensure!(down == expected, "down are {down:?}, and {expected:?} should be");
            Ok(())
        })
    }

    /// Its log, to the last line.
    pub(crate) fn log() -> String {
        let output = command(&["logs", &format!("daemonset/{NAME}"), "--tail=-1"]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// What the cluster and it say about it, for an error.
    fn story() -> String {
        let output = command(&["describe", "pods", "--selector", "app.kubernetes.io/name=observer"]).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(12)..].join("\n");
        format!("(the cluster says of the agent:\n{end}\nit says itself:\n{})", Self::log())
    }

    /// The page without the API server, in the node's network.
    pub(crate) fn page_from_the_node(address: &str) -> Result<Page> {
        let program = std::env::current_exe().context("find this program")?;
        let program = program.to_str().context("this program's path is not UTF-8")?;
        Ok(Page { text: cluster::in_node(&[program, "get", &format!("{address}:{PORT}"), "/metrics"])? })
    }
}

/// A way to the agent, for as long as this is there.
pub(crate) struct Forwarded {
    pub(crate) address: SocketAddr,
    /// kubectl ends when nobody reads what else it has to say.
    _output: BufReader<ChildStdout>,
    _kubectl: Running,
}

impl Drop for Agent {
    fn drop(&mut self) {
        // In one go, and to the end: a node holds one agent.
        let made = [
            ("daemonset", NAME),
            ("service", NAME),
            ("serviceaccount", NAME),
            ("clusterrolebinding", namespace::name()),
            ("clusterrole", namespace::name()),
        ];
        let made = made.map(|(kind, name)| format!("{kind}/{name}"));
        let words = ["delete", "--ignore-not-found", "--cascade=foreground"].into_iter();
        let deleted = command(&words.chain(made.iter().map(String::as_str)).collect::<Vec<_>>()).output();
        if !deleted.is_ok_and(|output| output.status.success()) {
            eprintln!("observer-cluster: left may be {}", made.join(", "));
        }
    }
}

/// An error when there is an agent already that is not of these tests: the tests' would be refused by it.
fn nobody_counts_on(node: &str) -> Result<()> {
    let (field, label) = (format!("spec.nodeName={node}"), format!("app.kubernetes.io/name={NAME}"));
    let pods = get(&["pods", "--all-namespaces", "--field-selector", &field, "--selector", &label])?;
    let pods = pods["items"].as_array().into_iter().flatten().map(|pod| &pod["metadata"]);
    let other = pods.into_iter().find(|pod| pod["namespace"] != namespace::name());
    ensure!(
        other.is_none(),
        "an agent counts on the node {node} already, in the namespace {}: take it away first",
        other.map_or("", |pod| pod["namespace"].as_str().unwrap_or_default())
    );
    Ok(())
}

/// The manifest's objects, in the tests' namespace and otherwise as they stand there.
pub(crate) fn objects() -> Result<Vec<Value>> {
    // The same for every test.
    static READ: OnceLock<Vec<Value>> = OnceLock::new();
    if let Some(objects) = READ.get() {
        return Ok(objects.clone());
    }
    let ours = |line: &str| line.replace("namespace: observer", &format!("namespace: {}", namespace::name()));
    let manifest: String = MANIFEST.lines().flat_map(|line| [ours(line), "\n".to_owned()]).collect();
    let text = read(&["create", "--dry-run=client", "--output=json", "--filename=-"], &manifest)?;
    let objects = serde_json::Deserializer::from_str(&text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let objects = objects.context("what kubectl makes of the manifest")?;
    Ok(READ.get_or_init(|| objects).clone())
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// What is sent: datagrams and the bytes in each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) datagrams: u64,
    pub(crate) size: u64,
}

impl Amount {
    /// With the headers of IPv4 and UDP.
    pub(crate) const fn on_the_wire(self) -> u64 {
        self.datagrams * (self.size + 28)
    }

    /// The shell command that sends it.
    pub(crate) fn command(self, sink: &str) -> String {
        format!("talk to {sink} {} {}", self.datagrams, self.size)
    }
}

/// The sum of a counter over all series with these labels.
pub(crate) fn sum(page: &Page, name: &str, labels: &[(&str, &str)]) -> Result<u64> {
    page.samples(name, labels)?.iter().map(observer_test_kit::page::Sample::integer).sum()
}

/// An error unless the sum is so many.
pub(crate) fn expect(page: &Page, name: &str, labels: &[(&str, &str)], expected: u64) -> Result<()> {
    let found = sum(page, name, labels)?;
    if found != expected {
        bail!("{name} with {labels:?} is {found}, and {expected} were sent");
    }
    Ok(())
}
