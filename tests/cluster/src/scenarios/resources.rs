//! What a pod asks for, what it may use, and what becomes of it at its limits: by its spec, and by the files of its cgroup.

use super::cgroups::{identity, scout};
use crate::{
    cluster::PATIENCE,
    installed::Agent,
    namespace,
    pod::{Pod, script},
    trial::{Outcome, once, perhaps, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::{page::Page, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// How long a quota above a container, or a working set, may take to be read anew, and the page to be asked for.
const A_ROUND: Duration = Duration::from_secs(100);

pub(super) fn tests() -> Vec<Trial> {
    vec![
        once(test("requests_and_limits_of_a_pod_are_on_the_page_in_base_units", requests_and_limits)),
        perhaps("a_pod_at_its_limits_is_throttled_and_uses_memory_as_its_cgroup_says", at_its_limits),
    ]
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

fn at_its_limits() -> Result<Outcome> {
    let agent = Agent::install()?;
    let resources = json!({ "limits": { "cpu": "100m", "memory": "64Mi" } });
    // Memory that stays, a while of work at the limit, then rest.
    let commands = "dd if=/dev/zero of=/dev/shm/held bs=1M count=20; i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; \
                    touch /tmp/done; exec sleep 1000";
    let pod = Pod::start(&limited("narrow", &agent, commands, resources))?;
    let (_, id) = identity(&pod)?;
    let scout = scout(&pod)?;
    let find = |name: &str, line: &str| -> Result<Option<String>> {
        let files =
            format!("find /host -type f -path '*{id}*' -name {name} -exec grep -l '{line}' '{{}}' ';' 2>/dev/null");
        Ok(scout.shell(&format!("{files}; true"))?.lines().min_by_key(|path| path.len()).map(str::to_owned))
    };
    let (Some(cpu), Some(memory)) = (find("cpu.stat", "nr_throttled")?, find("memory.stat", "inactive_file")?) else {
        return Ok(Outcome::Skipped("the hierarchy that the node sees lacks the cpu or the memory controller".into()));
    };
    let labels = [("namespace", namespace::name()), ("pod", &*pod.name), ("container", "main")];
    // Whoever asks in the pod runs under its quota, and adds periods: not while the figures are compared.
    let rests = wait_until(A_ROUND, || Ok(pod.shell("test -e /tmp/done").is_ok()))?;
    ensure!(rests, "the pod is still at work after {A_ROUND:?}");
    Agent::settles(A_ROUND, |page| {
        let text = scout.shell(&format!("cat {cpu}"))?;
        ensure!(figure(&text, "nr_throttled")? > 0, "never throttled: {text}");
        throttled_as(page, &labels, &text)
    })?;
    Agent::settles(A_ROUND, |page| {
        let directory = memory.trim_end_matches("memory.stat");
        let read = |names: &str| scout.shell(&format!("cd {directory}; cat {names} 2>/dev/null; true"));
        let stat = read("memory.stat")?;
        let inactive = figure(&stat, "total_inactive_file").or_else(|_| figure(&stat, "inactive_file"))?;
        let used = read("memory.current memory.usage_in_bytes")?.trim().parse::<u64>()? - inactive;
        let shown = page.one("observer_memory_working_set_bytes", &labels)?.integer()?;
        ensure!(shown.abs_diff(used) <= MIB && shown >= 20 * MIB, "{shown} bytes on the page, {used} by the cgroup");
        let limit = page.one("observer_memory_limit_bytes", &labels)?.integer()?;
        ensure!(limit == 64 * MIB, "a limit of {limit} bytes");
        ensure!(page.one("observer_memory_oom_kills_total", &labels)?.value == "0", "nobody was killed");
        Ok(())
    })?;
    // The kubelet sets a quota on the pod's cgroup too, where all of its containers have one.
    let above = cpu.replace("/cpu.stat", "/../cpu.stat");
    let of_pod = [("namespace", namespace::name()), ("pod", &*pod.name), ("container", "")];
    Agent::settles(A_ROUND, |page| {
        let text = scout.shell(&format!("cat {above}"))?;
        if figure(&text, "nr_periods")? == 0 {
            return Ok(());
        }
        throttled_as(page, &of_pod, &text)
    })?;
    Ok(Outcome::Passed)
}

/// An error unless the page has the figures of a cpu.stat.
fn throttled_as(page: &Page, labels: &[(&str, &str)], text: &str) -> Result<()> {
    for (name, figure_name) in
        [("observer_cpu_periods_total", "nr_periods"), ("observer_cpu_throttled_periods_total", "nr_throttled")]
    {
        let (shown, truth) = (page.one(name, labels)?.integer()?, figure(text, figure_name)?);
        ensure!(shown == truth, "{name} with {labels:?} is {shown}, and its cgroup says {truth}");
    }
    let nanoseconds =
        figure(text, "throttled_time").or_else(|_| Ok::<_, anyhow::Error>(figure(text, "throttled_usec")? * 1000))?;
    let shown = page.one("observer_cpu_throttled_seconds_total", labels)?.nanoseconds()?;
    ensure!(shown == nanoseconds, "throttled for {shown} ns with {labels:?}, and its cgroup says {nanoseconds}");
    Ok(())
}

/// The number in a line `NAME NUMBER`.
fn figure(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.trim().parse()?)
}
