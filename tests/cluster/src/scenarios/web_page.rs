//! The web page, through `kubectl port-forward`, in a real browser.

use crate::{
    installed::Agent,
    namespace,
    pod::{Pod, Sink, script},
    trial::{Outcome, once, perhaps},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::browser;
use serde_json::json;
use std::{path::PathBuf, time::Duration};

/// For a forwarded page on a machine that runs a cluster beside the browser.
const PATIENCE: Duration = Duration::from_mins(2);

pub(super) fn tests() -> Vec<Trial> {
    vec![once(perhaps("a_browser_shows_the_heavy_pod_first_and_its_flow_with_the_far_ends_name", in_a_browser))]
}

fn in_a_browser() -> Result<Outcome> {
    let Some(chromium) = find("chromium") else {
        return Ok(Outcome::Skipped("needs the command chromium".into()));
    };
    if browser::directory().is_none() || find("node").is_none() {
        return Ok(Outcome::Skipped("needs node, and what npm brings for the tests of the page".into()));
    }
    let agent = Agent::install()?;
    let on_node = |name: &str, start: &str| {
        let mut manifest = script(name, start);
        manifest["spec"]["nodeName"] = agent.node.as_str().into();
        Pod::start(&manifest)
    };
    let sink = Sink::start(&agent.node)?;
    let sender = on_node("sender", &format!("while :; do talk to {} 400 1200; sleep 0.1; done", sink.address))?;
    let busy = on_node("busy", "for i in 1 2 3 4 5 6; do while :; do :; done & done; wait")?;
    let entity = |pod: &Pod| format!("{}/{}/main", namespace::name(), pod.name);
    let forwarded = Agent::forward()?;
    let seen = browser::drive(&json!({
        "url": format!("http://{}/", forwarded.address), "among": namespace::name(),
        "busy": entity(&busy), "busy_layer": format!("{}/{}", namespace::name(), busy.name), "sender": entity(&sender), "far_end": format!("pod {}/{}", namespace::name(), sink.pod.name),
        "browser": chromium, "patience_ms": PATIENCE.as_millis(),
        "screenshots": std::env::var_os("OBSERVER_SCREENSHOTS").map(PathBuf::from),
    }))?;
    let label = seen["label"].as_str().unwrap_or_default();
    ensure!(label.contains(&format!("{}/busy ", namespace::name())), "the load by workload: {label}");
    Ok(Outcome::Passed)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
