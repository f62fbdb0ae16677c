//! `kubectl observer top`: the plugin finds the agents of nodes and forwards to them by itself.

use crate::{
    installed::Agent,
    namespace,
    plugin::Plugin,
    pod::{Pod, script},
    trial::{Outcome, once, perhaps},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: [&str; 6] = ["top", "-b", "-n", "1", "--output", "json"];

pub(super) fn tests() -> Vec<Trial> {
    vec![once(perhaps("kubectl_observer_top_shows_a_node_and_all_nodes_and_says_what_is_wrong", plugin))]
}

fn plugin() -> Result<Outcome> {
    let Some(plugin) = Plugin::install()? else { return Ok(Plugin::skipped()) };
    let agent = Agent::install()?;
    let mut busy = script("busy", "while :; do :; done");
    busy["spec"]["nodeName"] = agent.node.as_str().into();
    let busy = Pod::start(&busy)?;
    let row = |answer: &Value, is_it: &dyn Fn(&Value) -> bool| {
        answer["entities"].as_array().into_iter().flatten().find(|row| is_it(&row["entity"])).cloned()
    };
    let mut last = Value::Null;
    let told = wait_until(PATIENCE, || {
        last = plugin.json(&[&LOOK, &["--node", &*agent.node][..]].concat())?;
        let row = row(&last, &|entity| entity["pod"] == *busy.name && entity["container"] == "main");
        Ok(last["node"] == *agent.node && row.is_some_and(|row| row["active_tasks"].as_f64() > Some(0.5)))
    })?;
    ensure!(told, "the busy pod on its node: {last}");
    let all = plugin.json(&[&LOOK, &["--all-nodes"][..]].concat())?;
    let workload = format!("{}/busy (pod)", namespace::name());
    let merged = row(&all, &|entity| entity["cgroup"] == workload).with_context(|| format!("no {workload}: {all}"))?;
    ensure!(merged["active_tasks"].as_f64() > Some(0.5) && all["node"] == "1 node", "{merged}");
    let table = plugin.run(&["top", "--node", &agent.node, "--batch", "--count", "1"])?;
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    ensure!(table.status.success() && text.contains(&format!("{}/busy/main", namespace::name())), "{text}");
    for (arguments, said) in [
        (["--node", "nowhere"], "no agent runs on the node nowhere"),
        (["--pod", "nobody"], "cannot reach the pod nobody"),
        (["--kubeconfig", "/nonexistent"], "name one with --kubeconfig"),
    ] {
        let node = if arguments[0] == "--kubeconfig" { &["--node", "x"][..] } else { &[] };
        let words = [&["top", "-b", "-n", "1"], &arguments[..], node].concat();
        let output = plugin.run(&words)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && error.contains(said) && error.lines().count() == 1,
            "{arguments:?}: {error}"
        );
    }
    Ok(Outcome::Passed)
}
