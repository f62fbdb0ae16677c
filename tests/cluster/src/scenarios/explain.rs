//! `kubectl observer explain`: the one command that answers the incident's question.

use crate::{
    installed::Agent,
    namespace,
    plugin::Plugin,
    pod::{Pod, Sink, script},
    trial::{Outcome, once, perhaps},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use serde_json::{Value, json};
use std::{thread::sleep, time::Duration};

const PATIENCE: Duration = Duration::from_mins(1);

pub(super) fn tests() -> Vec<Trial> {
    vec![once(perhaps("kubectl_observer_explain_names_who_sends_and_where_to_and_who_makes_the_load", explains))]
}

fn explains() -> Result<Outcome> {
    let Some(plugin) = Plugin::install()? else { return Ok(Plugin::skipped()) };
    let agent = Agent::install()?;
    let on_node = |name: &str, commands: &str| {
        let mut manifest = script(name, commands);
        manifest["spec"]["nodeName"] = agent.node.as_str().into();
        Pod::start(&manifest)
    };
    let sink = Sink::start(&agent.node)?;
    let _sender = on_node("sender", &format!("while :; do talk to {} 400 1200; sleep 0.1; done", sink.address))?;
    let _busy = on_node("busy", "for i in 1 2 3; do while :; do :; done & done; wait")?;
    let name = |pod: &str| format!("{}/{pod}", namespace::name());
    let words = ["explain", "--node", &*agent.node, "--top", "10"];
    let mut last = Ok(());
    let right = wait_until(PATIENCE, || {
        let told = plugin.json(&[&words[..], &["--output", "json"]].concat())?;
        last = is_right(&told, [&name("sender"), &name("busy")], &sink.pod.name);
        if last.is_err() {
            sleep(Duration::from_secs(1));
        }
        Ok(last.is_ok())
    })?;
    if !right {
        last?;
    }
    let output = plugin.run(&words)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let to = format!("pod {}", name(&sink.pod.name));
    for told in [&*name("sender"), &name("busy"), &to, "growth is told from five days on", "of the node's", "seen by"] {
        ensure!(text.contains(told), "no {told:?} in\n{text}");
    }
    Ok(Outcome::Passed)
}

/// The sender's bytes go to the sink, and the busy one has most of the load and stands in others' way.
fn is_right(told: &Value, [sender, busy]: [&str; 2], sink: &str) -> Result<()> {
    let suspect = |name: &str| {
        told["suspects"].as_array().into_iter().flatten().find(|one| one["name"] == name).cloned().unwrap_or_default()
    };
    let (sender, busy) = (suspect(sender), suspect(busy));
    let first = &sender["destinations"][0];
    ensure!(first["remote"]["name"] == sink && first["share"].as_f64() > Some(0.9), "the sender's bytes: {sender}");
    ensure!(sender["workload_type"] == json!("pod") && sender["now"]["transmit_bytes_per_second"].as_f64() > Some(1e5));
    ensure!(busy["now"]["load1"].as_f64() > Some(0.3), "the busy one's load: {busy}");
    ensure!(busy["caused_wait_seconds"].as_f64() > Some(0.5) && !busy["sufferer"].is_null(), "in the way: {busy}");
    Ok(())
}
