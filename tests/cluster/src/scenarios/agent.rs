//! The agent as a DaemonSet: it comes up as the manifest says, keeps no privilege, and is read with what the README names.

use crate::{
    cluster::{PATIENCE, test_image, xtask},
    installed::{Agent, ITERATING, PORT},
    kubectl::{Running, command, kubectl},
    namespace,
    pod::{Pod, Sink, script},
    trial::{Outcome, has_time, once, own, perhaps, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::{
    http,
    page::{Page, Sample},
    wait_until,
};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("the_manifests_daemon_set_becomes_ready_and_every_program_counts", becomes_ready),
        once(own("the_agent_in_its_pod_is_nobody_without_any_capability", keeps_nothing)),
        once(test("the_page_is_reached_with_port_forward_to_the_daemon_set", port_forward)),
        perhaps("names_come_soon_after_a_container_starts", names_come_soon),
    ]
}

fn becomes_ready() -> Result<()> {
    let _agent = Agent::install()?;
    Agent::settles(PATIENCE, |page| {
        let build = page.one("observer_build_info", &[])?;
        let version = env!("CARGO_PKG_VERSION");
        ensure!(build.label("version") == version, "the image holds version {}", build.label("version"));
        let programs = page.samples("observer_bpf_program_up", &[])?;
        ensure!(!programs.is_empty(), "no programs");
        let is_forbidden = |program: &Sample| {
            ITERATING.contains(&program.label("program")) && program.label("reason").starts_with("not permitted")
        };
        let idle = programs.iter().find(|program| program.value != "1" && !is_forbidden(program));
        ensure!(idle.is_none(), "not attached: {idle:?}");
        ensure!(page.one("observer_kube_up", &[])?.value == "1", "observer_kube_up");
        // It has a name itself, by the API.
        let own = [("namespace", namespace::name()), ("workload", "observer"), ("workload_type", "daemonset")];
        ensure!(!page.samples("observer_cpu_usage_seconds_total", &own)?.is_empty(), "it does not know itself");
        Ok(())
    })
}

/// On an own cluster the agent's process is one of this machine's.
fn keeps_nothing() -> Result<()> {
    let _agent = Agent::install()?;
    let status = fs::read_to_string(format!("/proc/{}/status", Agent::process()?)).context("read its status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
    };
    for (name, expected) in [
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Uid", "65534 65534 65534 65534"),
        ("Gid", "65534 65534 65534 65534"),
    ] {
        ensure!(field(name) == expected, "{name} is {}, not {expected}:\n{status}", field(name));
    }
    Ok(())
}

fn port_forward() -> Result<()> {
    let _agent = Agent::install()?;
    let mut forward = command(&["port-forward", "daemonset/observer", &format!(":{PORT}")]);
    let mut forward =
        Running(forward.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("run kubectl port-forward")?);
    // `Forwarding from 127.0.0.1:40001 -> 9810`
    let mut said = String::new();
    // Kept open: kubectl has a word for each connection, and ends when nobody listens.
    let mut output = BufReader::new(forward.0.stdout.take().context("its output")?);
    output.read_line(&mut said)?;
    let address = said.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
    let address = address.with_context(|| format!("kubectl port-forward does not say where: {said}"))?;
    let answer = http::get(address.parse()?, "/metrics")?;
    let page = Page { text: answer.text()?.to_owned() };
    ensure!(answer.status == 200 && page.one("observer_kube_up", &[])?.value == "1", "{}", page.text);
    Ok(())
}

/// How many pods are timed.
const TIMED: usize = 40;

/// Measures, with `OBSERVER_LONG=1`: from the moment that a container's process runs to the first page with a series under
/// its pod's name.
fn names_come_soon() -> Result<Outcome> {
    if !has_time() {
        return Ok(Outcome::Skipped("takes minutes: runs with OBSERVER_LONG=1".into()));
    }
    if xtask().is_none() {
        return Ok(Outcome::Skipped("the cluster is somebody else's, and so are its clocks".into()));
    }
    let agent = Agent::install()?;
    let sink = Sink::start(&agent.node)?;
    let address = Agent::address()?;
    let mut waits = Vec::new();
    for number in 0..TIMED {
        let name = format!("timed-{number}");
        let mut manifest = script(&name, &format!("talk now; talk to {} 10 100; exec sleep 1000", sink.address));
        manifest["spec"]["nodeName"] = agent.node.as_str().into();
        let pod = Pod::make(&manifest)?;
        let mut seen = Duration::ZERO;
        let labels = [("namespace", namespace::name()), ("pod", &*name), ("container", "main")];
        let named = wait_until(PATIENCE, || {
            let page = Agent::page_from_the_node(&address)?;
            seen = SystemTime::now().duration_since(UNIX_EPOCH)?;
            Ok(!page.samples("observer_network_transmit_bytes_total", &labels)?.is_empty())
        })?;
        ensure!(named, "{name} ({}) has no series", test_image());
        let started: u64 = kubectl(&["logs", &pod.name])?.lines().next().unwrap_or_default().parse()?;
        waits.push(seen.saturating_sub(Duration::from_nanos(started)));
    }
    waits.sort();
    let (median, p99) = (waits[TIMED / 2], waits[(TIMED * 99).div_ceil(100) - 1]);
    println!(
        "measured: from a container's start to its named series: median {median:.2?}, p99 {p99:.2?}, {TIMED} pods"
    );
    Ok(Outcome::Passed)
}
