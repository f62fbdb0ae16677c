//! A Prometheus that scrapes the DaemonSet by the job of the chart's README: every panel of a dashboard and every rule has data to look
//! at, and the alert for the incident sees a pod whose peak has grown for ten days.

use crate::{
    cluster::PATIENCE,
    installed::{Agent, ITERATING},
    namespace,
    pod::{Pod, Sink, script},
    prometheus::Prometheus,
    trial::{Outcome, once, own_perhaps},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;
use serde_json::{Value, json};
use std::{collections::BTreeSet, thread::sleep, time::Duration};

/// The dashboards, as Grafana gets them.
const DASHBOARDS: [&str; 4] = [
    include_str!("../../../../deploy/dashboards/node.json"),
    include_str!("../../../../deploy/dashboards/workload.json"),
    include_str!("../../../../deploy/dashboards/cluster.json"),
    include_str!("../../../../deploy/dashboards/agent.json"),
];
/// What has to be recorded before a week ago can be made of it: the last in each chain of rules.
const LAST: [&str; 5] = [
    "node_workload:observer_transmit_peak_bytes_per_second:trend",
    "node_workload:observer_load1:trend",
    "node_workload:observer_transmit_bytes:avg1d",
    "node_workload_scope:observer_transmit_bytes:median1d",
    "node:observer_transmit_bytes:rate1h",
];
/// What the incident did: so many days before now, and by so much a peak was larger each day.
const DAYS: u64 = 11;
const A_DAY: f64 = 1.03;
/// Of the hour that a mean is of, the pods have been there for a minute: what they would have had in a whole one, they had in each before.
const WHOLE_HOUR: f64 = 60.0;

pub(super) fn tests() -> Vec<Trial> {
    vec![once(own_perhaps("every_panel_and_every_rule_has_data_in_a_prometheus_that_scrapes_the_daemonset", has_data))]
}

/// Everything that a pod can do and a panel shows: datagrams in bursts, a CPU limit that it meets beside a neighbour, memory with a limit, DNS,
/// connections that are open, refused, cut off, and without an answer.
fn busy(node: &str, sink: &str) -> Result<Value> {
    let (address, _) = sink.rsplit_once(':').context("a sink without a port")?;
    let nobody = address.rsplit_once('.').context("no IPv4 address")?.0.to_owned() + ".250";
    let loops = [
        format!("talk to {sink} 800 1200; sleep 0.3"),
        format!("talk ask {address}:53 5; sleep 1"),
        format!("echo x | nc -w 1 {address} 1; sleep 1"),
        "nc -l -p 7000 -e sleep 0.3".to_owned(),
        "echo x | nc -w 1 127.0.0.1 7000; sleep 0.5".to_owned(),
        format!("nc -w 4 {nobody} 80; sleep 1"),
        ":".to_owned(),
    ];
    let loops = loops.map(|what| format!("(while :; do {what}; done) & ")).concat();
    let mut manifest = script("busy", &format!("{loops} talk sink 9001 & wait"));
    manifest["spec"]["nodeName"] = node.into();
    manifest["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "400m", "memory": "64Mi" } });
    Ok(manifest)
}

fn has_data() -> Result<Outcome> {
    if !Prometheus::is_installed() {
        return Ok(Outcome::Skipped("needs the commands prometheus and promtool".into()));
    }
    let agent = Agent::install()?;
    let on_node = |name: &str, commands: &str| {
        let mut manifest = script(name, commands);
        manifest["spec"]["nodeName"] = agent.node.as_str().into();
        Pod::start(&manifest)
    };
    let sink = Sink::start(&agent.node)?;
    sink.pod.shell("(talk answer 53 >/dev/null 2>&1 &) ; true")?;
    let _neighbour = on_node("neighbour", "for cpu in $(seq $(nproc)); do (while :; do :; done) & done; wait")?;
    let busy = Pod::start(&busy(&agent.node, &sink.address)?)?;
    // What it is sent is its ingress.
    let address = busy.object()?["status"]["podIP"].as_str().context("no address")?.to_owned();
    let _sender = on_node("sender", &format!("while :; do talk to {address}:9001 100 500; sleep 0.2; done"))?;
    let mut prometheus = Prometheus::start(&agent)?;
    for recorded in LAST {
        let is_there = wait_until(PATIENCE, || {
            sleep(Duration::from_millis(500));
            Ok(prometheus.query(recorded)?.iter().any(|series| series.is_of(&busy.name))
                || recorded.starts_with("node:"))
        })?;
        ensure!(is_there, "{recorded} has nothing of {}: {}", busy.name, prometheus.story());
    }
    prometheus.grow_older(DAYS, |name, days_ago| {
        let grows = name.contains("peak") || name.contains("load1");
        match name {
            _ if grows => A_DAY.powf(-days_ago),
            // The mean of a counter's first minute is half of what the minute ends with, and of three days the minute is the least part.
            _ if name.ends_with(":avg3d") => 4.0 * WHOLE_HOUR,
            _ => WHOLE_HOUR,
        }
    })?;
    let unable = iterators_down(&prometheus)?;
    let has = |expression: &str| -> Result<bool> {
        let is_there = prometheus.query(expression)?.iter().any(|series| series.value.is_finite());
        if !is_there {
            sleep(Duration::from_millis(500));
        }
        Ok(is_there)
    };
    // After it was restarted it has to have scraped and recorded again.
    let alert = "ALERTS{alertname=\"ObserverEgressPeakGrows\",alertstate=\"pending\",workload=\"busy\"}";
    ensure!(wait_until(PATIENCE, || has(alert))?, "the incident's alert does not see it: {}", prometheus.story());
    let mut without = Vec::new();
    let mut asked = 0;
    for (panel, expression) in panels(&agent.node, &busy.name)? {
        if unable && expression.contains("observer_network_connections{") {
            println!("not asked here, where the kernel forbids iterators: {panel}");
            continue;
        }
        asked += 1;
        // What is asked or refused once a second may not have come twice yet.
        if !wait_until(Duration::from_secs(10), || has(&expression))? {
            without.push(format!("{panel}: {expression}"));
        }
    }
    for (rule, selector) in prometheus.selectors()? {
        asked += 1;
        if !has(&selector)? {
            without.push(format!("rule {rule}: {selector}"));
        }
    }
    let unhealthy = prometheus.unhealthy()?;
    ensure!(unhealthy.is_empty(), "rules that cannot be evaluated: {unhealthy:?}");
    ensure!(asked > 100, "only {asked} questions were asked");
    ensure!(without.is_empty(), "no data for\n{}\n{}", without.join("\n"), prometheus.story());
    println!("{asked} expressions of panels and rules have data");
    Ok(Outcome::Passed)
}

/// Whether this kernel forbids the iterator that counts open connections: then there is no figure of them, as documented.
fn iterators_down(prometheus: &Prometheus) -> Result<bool> {
    let down = prometheus.query("observer_bpf_program_up == 0")?;
    let names: BTreeSet<_> = down.iter().map(|series| series.label("program").to_owned()).collect();
    let others: Vec<_> = names.iter().filter(|name| !ITERATING.contains(&name.as_str())).collect();
    ensure!(others.is_empty(), "programs that do not run: {others:?}");
    Ok(!names.is_empty())
}

/// Each query of each panel, with what a reader would have chosen at the top of the dashboard.
fn panels(node: &str, workload: &str) -> Result<Vec<(String, String)>> {
    let chosen = [
        ("$__rate_interval", "1m"),
        ("$node", node),
        ("$namespace", namespace::name()),
        ("$workload", workload),
        ("$instance", ".*"),
    ];
    let choose = |text: &str| chosen.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let mut all = Vec::new();
    for dashboard in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(dashboard)?;
        let title = dashboard["title"].as_str().context("a dashboard without a title")?;
        for panel in dashboard["panels"].as_array().context("no panels")? {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().context("a query without an expression")?;
                all.push((format!("{title}, {}", panel["title"]), choose(expression)));
            }
        }
        // What the choices are made of: `label_values(SELECTOR, LABEL)`.
        for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
            let Some(definition) = variable["definition"].as_str() else { continue };
            let inner = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).context("another definition")?;
            all.push((format!("{title}, ${label}"), format!("count by ({label}) ({})", choose(selector))));
        }
    }
    Ok(all)
}
