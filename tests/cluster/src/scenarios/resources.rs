//! What a pod asks for and what it may use, by its spec.

use crate::{
    cluster::PATIENCE,
    installed::Agent,
    namespace,
    pod::{Pod, script},
    trial::test,
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub(super) fn tests() -> Vec<Trial> {
    vec![test("requests_and_limits_of_a_pod_are_on_the_page_in_base_units", requests_and_limits)]
}

/// A pod on the agent's node whose only container has these resources.
fn limited(name: &str, agent: &Agent, commands: &str, resources: Value) -> Value {
    let mut manifest = script(name, commands);
    manifest["spec"]["nodeName"] = agent.node.as_str().into();
    manifest["spec"]["containers"][0]["resources"] = resources;
    manifest
}

fn requests_and_limits() -> Result<()> {
    let agent = Agent::install()?;
    let resources =
        json!({ "requests": { "cpu": "50m", "memory": "32Mi" }, "limits": { "cpu": "1500m", "memory": "64M" } });
    let mut manifest = limited("bounded", &agent, "sleep 1000", resources);
    let mut free = manifest["spec"]["containers"][0].clone();
    (free["name"], free["resources"]) = ("free".into(), json!({}));
    manifest["spec"]["containers"].as_array_mut().context("containers")?.push(free);
    let pod = Pod::start(&manifest)?;
    Agent::settles(PATIENCE, |page| {
        for (family, resource, unit, expected) in [
            ("requests", "cpu", "core", "0.05"),
            ("requests", "memory", "byte", "33554432"),
            ("limits", "cpu", "core", "1.5"),
            ("limits", "memory", "byte", "64000000"),
        ] {
            let family = format!("observer_pod_container_resource_{family}");
            let all =
                page.samples(&family, &[("namespace", namespace::name()), ("pod", &pod.name), ("resource", resource)])?;
            ensure!(all.len() == 1, "{family} of {resource}: {all:?}");
            let sample = &all[0];
            ensure!(sample.label("container") == "main" && sample.label("unit") == unit, "{:?}", sample.labels);
            ensure!(sample.value == expected, "{family} of {resource} is {}, not {expected}", sample.value);
        }
        Ok(())
    })
}
