//! What runs: which parts, in which versions, and whether the node is Ready.

use super::{
    layout::{Layout, NODE},
    node,
    parts::Part,
    record::{self, Record, Step},
    say,
};
use crate::workspace::Workspace;
use std::{
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// True when a cluster came up and the process that holds it together lives.
pub(super) fn is_up(record: &Record) -> bool {
    let came_up = record.boot == record::this_boot() && record::steps().last() == Some(&Step::Ready);
    came_up && record::processes().get(node::NAME).is_some_and(super::process::Process::is_alive)
}

/// The parts that do not run.
pub(super) fn ended() -> Vec<Part> {
    let processes = record::processes();
    let runs = |part: &Part| processes.get(part.name()).is_some_and(super::process::Process::is_alive);
    Part::ALL.into_iter().filter(|part| !runs(part)).collect()
}

/// Says it. True when all of it runs and the node is Ready.
pub(super) fn print(workspace: &Workspace) -> bool {
    let layout = Layout::of(workspace);
    let Some(record) = Record::read() else {
        say("cluster: nothing is up");
        return false;
    };
    let up = is_up(&record);
    let age =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().saturating_sub(record.started));
    let age = crate::progress::seconds(Duration::from_secs(age));
    let foreign = if record.directory == layout.run() { "" } else { ", of another checkout" };
    say(&format!("cluster: {} ({}{foreign}), for {age}", if up { "up" } else { "in pieces" }, record.mode.name()));
    for line in parts(&layout, &record) {
        say(&line);
    }
    let kubeconfig = record.directory.join("kubeconfig");
    let ready = is_ready(&layout, &kubeconfig);
    say(&format!("  kubeconfig  {}", kubeconfig.display()));
    say(&format!("  node        {NODE} {}", if ready { "Ready" } else { "not Ready, or the API server does not say" }));
    if !up {
        say("  `cargo xtask cluster up` takes it down and brings it up again");
    }
    up && ready && ended().is_empty()
}

/// A line for each part.
fn parts(layout: &Layout, record: &Record) -> Vec<String> {
    let processes = record::processes();
    let line = |part: Part| {
        let version = record.versions.get(part.name()).map_or("", String::as_str);
        let state = match processes.get(part.name()) {
            None => "was not started".to_owned(),
            Some(process) if process.is_alive() => format!("pid {}", process.pid),
            Some(process) => format!("pid {} has ended: {}", process.pid, layout.log(part).display()),
        };
        format!("  {:<24} {version:<10} {state}", part.name())
    };
    Part::ALL.map(line).into()
}

fn is_ready(layout: &Layout, kubeconfig: &std::path::Path) -> bool {
    let mut kubectl = Command::new(layout.program("kubectl"));
    kubectl
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--request-timeout=3s", "get", "node", NODE, "-o"])
        .arg("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}");
    super::without_proxies(&mut kubectl);
    let output = kubectl.stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout == b"True")
}
