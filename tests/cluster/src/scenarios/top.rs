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
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use observer_test_kit::wait_until;
use serde_json::{Value, json};
use std::{fs, time::Duration};

const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: [&str; 6] = ["top", "-b", "-n", "1", "--output", "json"];

pub(super) fn tests() -> Vec<Trial> {
    vec![
        once(perhaps("kubectl_observer_top_shows_a_node_and_all_nodes_and_says_what_is_wrong", plugin)),
        once(perhaps("kubectl_observer_top_gives_the_terminal_back_when_it_is_ended", ended)),
    ]
}

/// It forwards by threads of its own, which a signal must not reach before the terminal is whole again.
fn ended() -> Result<Outcome> {
    const TAKEN: &str = "\x1b[?1049h";
    const GIVEN_BACK: &str = "\x1b[?1049l";
    let Some(plugin) = Plugin::install()? else { return Ok(Plugin::skipped()) };
    let agent = Agent::install()?;
    let directory = tempfile::tempdir()?;
    for (arguments, signal) in [
        (&["top", "--node", &*agent.node][..], Signal::SIGTERM),
        (&["top", "--all-nodes"], Signal::SIGHUP),
        (&["top", "--node", &agent.node], Signal::SIGINT),
    ] {
        let path = directory.path().join("written");
        let mut terminal = plugin.on_terminal(arguments, &path)?;
        let written = || String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        let is_drawn = wait_until(PATIENCE, || Ok(written().contains(TAKEN) && written().contains("LOAD1")))?;
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", terminal.0.id()))?;
        let top = children.split_whitespace().next().context("nothing runs on the terminal")?.parse()?;
        kill(Pid::from_raw(top), signal)?;
        let has_ended = wait_until(PATIENCE, || Ok(terminal.0.try_wait()?.is_some()))?;
        if !has_ended {
            terminal.0.kill()?;
        }
        let status = terminal.0.wait()?;
        let text = written();
        ensure!(is_drawn && has_ended && status.success(), "{arguments:?}, {signal}: {status}\n{text}");
        ensure!(text.contains(GIVEN_BACK), "{arguments:?}, {signal}: the terminal is still taken");
        fs::remove_file(&path)?;
    }
    Ok(Outcome::Passed)
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
    let workload = json!({ "namespace": namespace::name(), "workload": "busy", "workload_type": "pod" });
    let merged = row(&all, &|entity| *entity == workload).with_context(|| format!("no {workload}: {all}"))?;
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
