//! Known loads of pods: how many tasks of each are active, and which pod makes which wait.

use crate::{
    cluster::PATIENCE,
    installed::Agent,
    namespace,
    pod::{Pod, script},
    trial::test,
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::page::Page;

pub(super) fn tests() -> Vec<Trial> {
    vec![test("pods_on_one_cpu_have_their_load_and_the_one_that_spins_is_blamed", neighbours)]
}

/// A shell script on the node's last CPU.
fn on_last_cpu(words: &str) -> String {
    format!("exec taskset -c $(($(nproc) - 1)) sh -c '{words}'")
}

fn gauge(page: &Page, name: &str, pod: &str) -> Result<f64> {
    let sample = page.one(name, &[("namespace", namespace::name()), ("pod", pod), ("container", "main")])?;
    Ok(sample.value.parse()?)
}

/// Three spinners of a pod, and a pod that works now and then on their CPU.
fn neighbours() -> Result<()> {
    let agent = Agent::install()?;
    let on_node = |name: &str, words: &str| {
        let mut manifest = script(name, &on_last_cpu(words));
        manifest["spec"]["nodeName"] = agent.node.as_str().into();
        manifest
    };
    let spin = "while :; do :; done";
    let culprit = Pod::start(&on_node("culprit", &format!("({spin}) & ({spin}) & {spin}")))?;
    let work = "while :; do sleep 0.02; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; done";
    let victim = Pod::start(&on_node("victim", work))?;
    Agent::settles(PATIENCE, |page| {
        // Three of them, whoever else wants the CPU.
        let peak = gauge(page, "observer_load_peak", &culprit.name)?;
        ensure!((2.9..3.1).contains(&peak), "three spinners are {peak} active tasks");
        let (load, workload) = (
            gauge(page, "observer_load1", &culprit.name)?,
            page.one("observer_workload_load1", &[("workload", &culprit.name)])?.value.parse::<f64>()?,
        );
        ensure!(load > 0.5 && (load - workload).abs() < 1e-3, "the pod's load is {load}, its workload's {workload}");
        let causes = page.samples(
            "observer_run_queue_wait_caused_seconds_total",
            &[("namespace", namespace::name()), ("pod", &victim.name), ("container", "main")],
        )?;
        let by = |kind: &str| -> Result<f64> {
            let sample = causes.iter().find(|sample| sample.label("by") == kind);
            Ok(sample.map_or(Ok(0.0), |sample| sample.value.parse())?)
        };
        let (other, same) = (by("other_pod")?, by("same_container")?);
        ensure!(other > 1.0 && other > 10.0 * same, "the victim waited {other} s for other pods, {same} s for itself");
        sums(page)
    })
    .with_context(|| format!("pods {} and {}", culprit.name, victim.name))
}

/// All shares and what is left over are the node's load.
fn sums(page: &Page) -> Result<()> {
    let number = |name: &str| -> Result<f64> { Ok(page.one(name, &[])?.value.parse()?) };
    let mut sum = number("observer_node_load1_unattributed")?;
    for sample in page.samples("observer_load1", &[])? {
        sum += sample.value.parse::<f64>()?;
    }
    let load = number("observer_node_load1")?;
    ensure!((sum - load).abs() < 1e-6, "the shares and the rest are {sum}, the node's load {load}");
    Ok(())
}
