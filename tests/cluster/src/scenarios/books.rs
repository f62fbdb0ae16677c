//! Known amounts, sent by pods of every kind: each is on the entity and on the workload that sent it, to the byte.

use crate::{
    cluster::{PATIENCE, StaticPod, test_image},
    installed::{Agent, Amount, expect, sum},
    kubectl::{apply, get, kubectl},
    namespace,
    pod::{Pod, Sink, script},
    trial::{once, own, test},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use observer_test_kit::{page::Page, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SENT: &str = "observer_network_transmit_bytes_total";
const RECEIVED: &str = "observer_network_receive_bytes_total";
const WORKLOAD_SENT: &str = "observer_workload_network_transmit_bytes_total";

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("every_kind_of_workload_sends_known_amounts_that_are_booked_to_the_byte", kinds_of_workloads),
        test("init_sidecar_ephemeral_and_restarted_containers_have_their_own_bytes", kinds_of_containers),
        once(own("a_static_pod_is_known_by_its_mirror", static_pod)),
        test("a_pod_that_can_start_no_container_has_its_sandbox_and_nothing_else", never_starts),
        own("a_sandbox_that_takes_the_place_of_another_is_the_pods_sandbox", sandbox_is_replaced),
    ]
}

/// A workload of the test: what it is made as, and what it has to be called.
struct Case {
    name: &'static str,
    kind: &'static str,
    pods: u64,
    amount: Amount,
}

const fn case(kind: &'static str, name: &'static str, pods: u64, datagrams: u64, size: u64) -> Case {
    Case { name, kind, pods, amount: Amount { datagrams, size } }
}

/// No two have the same amount, so that none can stand for another.
const CASES: [Case; 8] = [
    case("pod", "bare", 1, 1000, 100),
    case("deployment", "shop", 2, 700, 200),
    case("replicaset", "set", 1, 650, 210),
    case("statefulset", "store", 2, 500, 300),
    case("daemonset", "each", 1, 300, 400),
    case("job", "once", 1, 250, 120),
    case("cronjob", "regular", 2, 350, 90),
    case("configmap", "custom", 1, 450, 70),
];
/// A pod in the node's own network, whose bytes are not the node's.
const HOST: Case = case("pod", "host", 1, 400, 150);

fn kinds_of_workloads() -> Result<()> {
    let agent = Agent::install()?;
    let sink = Sink::start(&agent.node)?;
    let pods = [pod_of(&CASES[0], &agent, &sink), host_pod(&agent, &sink)].map(|manifest| Pod::make(&manifest));
    let owned = Owned::make(&agent, &sink)?;
    let total: u64 = CASES.iter().chain([&HOST]).map(|case| case.pods * case.amount.on_the_wire()).sum();
    Agent::settles(PATIENCE, |page| {
        for case in CASES.iter().chain([&HOST]) {
            on_workload_and_entities(page, case)?;
        }
        // What everybody sent has arrived, and nobody else is said to have sent anything.
        expect(
            page,
            RECEIVED,
            &[("namespace", namespace::name()), ("pod", &sink.pod.name), ("container", "main")],
            total,
        )?;
        let ours = sum(page, SENT, &[("namespace", namespace::name())])?;
        let of_the_agent = sum(page, SENT, &[("workload", "observer")])?;
        let of_the_sink = sum(page, SENT, &[("pod", &sink.pod.name)])?;
        ensure!(
            ours - of_the_agent - of_the_sink == total,
            "the namespace's pods are said to have sent {ours} bytes, of them the agent {of_the_agent} and the sink \
             {of_the_sink}; {total} were sent"
        );
        Ok(())
    })?;
    told_of_the_host_pod()?;
    drop((pods, owned));
    Ok(())
}

/// The sum of a workload is what its pods sent, and so is the sum of its entities; each pod has its own share.
fn on_workload_and_entities(page: &Page, case: &Case) -> Result<()> {
    let labels = [("namespace", namespace::name()), ("workload", case.name), ("workload_type", case.kind)];
    let each = case.amount.on_the_wire();
    expect(page, WORKLOAD_SENT, &labels, case.pods * each)?;
    let samples = page.samples(SENT, &labels)?;
    let mut of_pods = std::collections::BTreeMap::new();
    for sample in samples {
        ensure!(sample.label("container") == "main", "{} has sent from {:?}", case.name, sample.labels);
        ensure!(sample.label("cgroup").is_empty(), "a container goes by its cgroup: {:?}", sample.labels);
        *of_pods.entry(sample.label("pod").to_owned()).or_insert(0) += sample.integer()?;
    }
    ensure!(of_pods.len() as u64 == case.pods, "{}: {of_pods:?}", case.name);
    ensure!(of_pods.values().all(|bytes| *bytes == each), "{}: {of_pods:?}, and each sent {each}", case.name);
    ensure!(of_pods.keys().all(|pod| pod.starts_with(case.name)), "{}: {of_pods:?}", case.name);
    Ok(())
}

fn told_of_the_host_pod() -> Result<()> {
    let page = Agent::page()?;
    let info = page.one("observer_pod_info", &[("namespace", namespace::name()), ("pod", HOST.name)])?;
    ensure!(info.label("host_network") == "true", "{:?}", info.labels);
    let uid = get(&["pod", HOST.name])?["metadata"]["uid"].clone();
    ensure!(uid == info.label("uid"), "{uid} is {:?}", info.labels);
    let sandbox = page.samples("observer_cpu_usage_seconds_total", &[("pod", CASES[0].name), ("container", "POD")])?;
    ensure!(sandbox.len() == 1, "the sandbox of the bare pod has {} series", sandbox.len());
    Ok(())
}

/// A manifest whose only container sends and stays.
fn pod_of(case: &Case, agent: &Agent, sink: &Sink) -> Value {
    let stay = if matches!(case.kind, "job" | "cronjob") { "" } else { "exec sleep 1000" };
    let mut manifest = script(case.name, &format!("{}; {stay}", case.amount.command(&sink.address)));
    manifest["spec"]["nodeName"] = agent.node.as_str().into();
    manifest
}

fn host_pod(agent: &Agent, sink: &Sink) -> Value {
    let mut manifest = pod_of(&HOST, agent, sink);
    manifest["spec"]["hostNetwork"] = true.into();
    manifest
}

/// The workloads that make their pods themselves.
struct Owned;

impl Owned {
    fn make(agent: &Agent, sink: &Sink) -> Result<Self> {
        for case in CASES.iter().filter(|case| case.kind != "pod") {
            let mut pod = pod_of(case, agent, sink);
            let template = json!({ "metadata": { "labels": { "app": case.name } }, "spec": pod["spec"].take() });
            match case.kind {
                "configmap" => Self::custom(case, &template)?,
                _ => apply(&Self::manifest(case, template))?,
            }
        }
        let cron = &CASES[6];
        for run in 0..cron.pods {
            let (from, job) = (format!("--from=cronjob/{}", cron.name), format!("{}-{run}", cron.name));
            kubectl(&["create", "job", &from, &job])?;
        }
        Ok(Self)
    }

    fn manifest(case: &Case, mut template: Value) -> Value {
        let selector = json!({ "matchLabels": { "app": case.name } });
        let replicas = case.pods;
        let (version, kind, spec) = match case.kind {
            "job" | "cronjob" => {
                template["spec"]["restartPolicy"] = "Never".into();
                let job = json!({ "backoffLimit": 0, "template": template });
                if case.kind == "job" {
                    ("batch/v1", "Job", job)
                } else {
                    let cron = json!({ "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": { "spec": job } });
                    ("batch/v1", "CronJob", cron)
                }
            }
            kind => {
                template["spec"]["restartPolicy"] = "Always".into();
                let mut spec = json!({ "selector": selector, "template": template });
                if kind != "daemonset" {
                    spec["replicas"] = replicas.into();
                }
                let kind = match kind {
                    "deployment" => "Deployment",
                    "replicaset" => "ReplicaSet",
                    "statefulset" => "StatefulSet",
                    _ => "DaemonSet",
                };
                if kind == "StatefulSet" {
                    spec["serviceName"] = case.name.into();
                    spec["podManagementPolicy"] = "Parallel".into();
                }
                if kind == "DaemonSet" {
                    // One pod, whatever the number of nodes.
                    let node = spec["template"]["spec"]["nodeName"].take();
                    spec["template"]["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
                    spec["template"]["spec"].as_object_mut().map(|spec| spec.remove("nodeName"));
                }
                ("apps/v1", kind, spec)
            }
        };
        json!({ "apiVersion": version, "kind": kind, "metadata": { "name": case.name }, "spec": spec })
    }

    /// A pod whose controller is of a kind that the agent cannot have heard of.
    fn custom(case: &Case, template: &Value) -> Result<()> {
        apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": case.name } }))?;
        let uid = get(&["configmap", case.name])?["metadata"]["uid"].clone();
        let owner =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": case.name, "uid": uid, "controller": true });
        let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "spec": template["spec"] });
        pod["metadata"] = json!({ "name": format!("{}-1", case.name), "ownerReferences": [owner] });
        apply(&pod)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        for case in CASES.iter().filter(|case| case.kind != "pod") {
            let _ = kubectl(&["delete", case.kind, case.name, "--ignore-not-found", "--wait=false"]);
        }
    }
}

fn kinds_of_containers() -> Result<()> {
    let (agent, amounts) = (Agent::install()?, [(60, 100), (70, 110), (80, 120), (90, 130)]);
    let [init, sidecar, again, ephemeral] = amounts.map(|(datagrams, size)| Amount { datagrams, size });
    let sink = Sink::start(&agent.node)?;
    let to = &sink.address;
    // Its first life ends with an error; the second stays.
    let twice = format!("{}; test -e /tmp/was/here && exec sleep 1000; touch /tmp/was/here; exit 1", again.command(to));
    let mut manifest = script("several", &twice);
    let spec = &mut manifest["spec"];
    spec["nodeName"] = agent.node.as_str().into();
    spec["restartPolicy"] = "Always".into();
    spec["volumes"] = json!([{ "name": "was", "emptyDir": {} }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "was", "mountPath": "/tmp/was" }]);
    let container = |name: &str, script: String| json!({ "name": name, "image": test_image(), "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script] });
    let mut beside = container("sidecar", format!("{}; exec sleep 1000", sidecar.command(to)));
    beside["restartPolicy"] = "Always".into();
    spec["initContainers"] = json!([container("first", init.command(to)), beside]);
    let pod = Pod::start(&manifest)?;
    let image = format!("--image={}", test_image());
    let debug =
        ["debug", &pod.name, &image, "--image-pull-policy=IfNotPresent", "--container=look", "--profile=general"];
    let command = ["--", "sh", "-c", &ephemeral.command(to)];
    kubectl(&[&debug[..], &command[..]].concat())?;
    Agent::settles(PATIENCE, |page| {
        for (container, bytes) in [
            ("first", init.on_the_wire()),
            ("sidecar", sidecar.on_the_wire()),
            ("look", ephemeral.on_the_wire()),
            // A new id and the same name: the counter goes on.
            ("main", 2 * again.on_the_wire()),
        ] {
            let labels = [("namespace", namespace::name()), ("pod", &pod.name), ("container", container)];
            expect(page, SENT, &labels, bytes)?;
            let series = page.samples(SENT, &labels)?;
            ensure!(series.len() == 1, "{container} has {} series: {series:?}", series.len());
        }
        Ok(())
    })?;
    let restarts = pod.object()?["status"]["containerStatuses"][0]["restartCount"].clone();
    ensure!(restarts == 1, "the container restarted {restarts} times, not once");
    Ok(())
}

/// A pod that the kubelet reads from a file: the API knows it by another UID than its cgroups have.
fn static_pod() -> Result<()> {
    let agent = Agent::install()?;
    let sink = Sink::start(&agent.node)?;
    let amount = Amount { datagrams: 55, size: 140 };
    let mut manifest = script("fixed", &format!("{}; exec sleep 1000", amount.command(&sink.address)));
    manifest["metadata"]["namespace"] = namespace::name().into();
    manifest["spec"].as_object_mut().context("a pod's spec")?.remove("tolerations");
    let _file = StaticPod::make(&manifest)?;
    // The kubelet puts its node's name behind it.
    let name = format!("fixed-{}", agent.node);
    let listed = wait_until(PATIENCE, || Ok(get(&["pod", &name]).is_ok()))?;
    ensure!(listed, "the kubelet has not listed {name}");
    Agent::settles(PATIENCE, |page| {
        let labels = [("namespace", namespace::name()), ("pod", &*name), ("container", "main")];
        expect(page, SENT, &labels, amount.on_the_wire())
    })
}

/// An error unless the page has series of exactly these containers of a pod.
fn has_containers(page: &Page, pod: &str, expected: &[&str]) -> Result<()> {
    let labels = [("namespace", namespace::name()), ("pod", pod)];
    let samples = page.samples("observer_run_queue_wait_seconds_count", &labels)?;
    let found: BTreeSet<_> = samples.iter().map(|sample| sample.label("container")).collect();
    ensure!(found.iter().eq(expected), "{pod} has the containers {found:?}, and not {expected:?}");
    // Nor is there anything of it that has no name.
    let uid = get(&["pod", pod])?["metadata"]["uid"].as_str().context("a pod without a UID")?.to_owned();
    ensure!(!page.text.contains(&format!("pod=\"{uid}\"")), "series of {pod} go by its UID");
    Ok(())
}

fn never_starts() -> Result<()> {
    let agent = Agent::install()?;
    let mut manifest = script("hopeless", "");
    manifest["spec"]["nodeName"] = agent.node.as_str().into();
    manifest["spec"]["containers"][0]["image"] = "localhost/observer-nothing:0".into();
    manifest["spec"]["containers"][0]["imagePullPolicy"] = "Never".into();
    let pod = Pod::make(&manifest)?;
    Agent::settles(PATIENCE, |page| has_containers(page, &pod.name, &["POD"]))
}

fn sandbox_is_replaced() -> Result<()> {
    let agent = Agent::install()?;
    let mut manifest = script("moved", "exec sleep 1000");
    manifest["spec"]["nodeName"] = agent.node.as_str().into();
    manifest["spec"]["restartPolicy"] = "Always".into();
    let pod = Pod::start(&manifest)?;
    let object = pod.object()?;
    let uid = object["metadata"]["uid"].as_str().context("a pod without a UID")?;
    let sandbox = process("pause", uid)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sandbox), nix::sys::signal::Signal::SIGKILL)?;
    let restarted = wait_until(PATIENCE, || {
        let status = &pod.object()?["status"]["containerStatuses"][0];
        Ok(status["restartCount"] == 1 && status["ready"] == true)
    })?;
    ensure!(restarted, "the kubelet did not start the pod anew");
    Agent::settles(PATIENCE, |page| has_containers(page, &pod.name, &["POD", "main"]))
}

/// A process of that name in a cgroup of the pod with that UID; on an own cluster it is one of this machine's.
fn process(name: &str, uid: &str) -> Result<i32> {
    for entry in std::fs::read_dir("/proc").context("read /proc")?.flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").trim() == name && read("cgroup").contains(uid) {
            return entry.file_name().to_str().and_then(|name| name.parse().ok()).context("a process's number");
        }
    }
    bail!("no process {name} of the pod {uid}")
}
