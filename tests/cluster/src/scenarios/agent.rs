//! The agent's image, in a pod.

use crate::{
    cluster::{PATIENCE, agent_image, wait_until},
    kubectl::kubectl,
    pod::{Pod, script},
    trial::{Outcome, perhaps},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;

pub(super) fn tests() -> Vec<Trial> {
    vec![perhaps("the_agents_image_runs_with_nothing_in_it_but_the_agent", image_runs)]
}

fn image_runs() -> Result<Outcome> {
    let mut manifest = script("agent-version", "");
    let container = &mut manifest["spec"]["containers"][0];
    container["image"] = agent_image().into();
    container["imagePullPolicy"] = "Never".into();
    // The entry point is the image's.
    container["command"].take();
    container["args"] = json!(["--version"]);
    let pod = Pod::make(&manifest)?;
    let mut state = json!(null);
    let settled = wait_until(PATIENCE, || {
        let object = pod.object()?;
        state = object["status"]["containerStatuses"][0]["state"].clone();
        Ok(state["terminated"].is_object() || state["waiting"]["reason"] == "ErrImageNeverPull")
    })?;
    ensure!(settled, "the agent's pod does not run: {state}");
    if state["waiting"].is_object() {
        return Ok(Outcome::Skipped(format!("the cluster does not have the image {}", agent_image())));
    }
    ensure!(state["terminated"]["exitCode"] == 0, "the agent's pod ended so: {state}");
    let said = kubectl(&["logs", &pod.name])?;
    let version = said.trim().strip_prefix("observer ").context("it does not say its name")?;
    // The commit is behind it.
    let version = version.split(' ').next().unwrap_or_default();
    ensure!(version == env!("CARGO_PKG_VERSION"), "the image {} holds version {version}", agent_image());
    Ok(Outcome::Passed)
}
