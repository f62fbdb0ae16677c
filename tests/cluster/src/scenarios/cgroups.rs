//! Where a pod's containers are in the node's cgroup tree: what the agent reads a container's pod and id from, as the kubelets
//! and the runtimes of today lay it out.

use crate::{
    pod::{Pod, script},
    trial::{Outcome, perhaps, test},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

/// A class of pods by what they ask for, and its folder in the tree; guaranteed ones are at the top.
struct Class {
    name: &'static str,
    folder: Option<&'static str>,
    resources: fn() -> Value,
}

const CLASSES: [Class; 3] = [
    Class {
        name: "guaranteed",
        folder: None,
        resources: || json!({ "limits": { "cpu": "100m", "memory": LIMIT.to_string() } }),
    },
    Class { name: "burstable", folder: Some("burstable"), resources: || json!({ "requests": { "cpu": "10m" } }) },
    Class { name: "besteffort", folder: Some("besteffort"), resources: || json!({}) },
];

/// A limit of memory, in bytes.
const LIMIT: u64 = 32 << 20;

pub(super) fn tests() -> Vec<Trial> {
    let class = |class: &'static Class| {
        test(&format!("a_{}_containers_cgroup_names_its_pod_and_its_id", class.name), move || names_pod_and_id(class))
    };
    let mut tests: Vec<_> = CLASSES.iter().map(class).collect();
    tests.push(perhaps("a_limit_is_set_in_the_hierarchy_that_has_the_controller", limit_is_set));
    tests
}

fn names_pod_and_id(class: &Class) -> Result<()> {
    let pod = start(class)?;
    let (uid, id) = identity(&pod)?;
    let scout = scout(&pod)?;
    let expected = places(class, &uid, &id);
    let root = v2_root(&scout)?;
    // Groups of others come and go while it looks.
    let found = scout.shell(&format!("find {root} -type d -name '*{id}*' 2>/dev/null; true"))?;
    let found: Vec<_> = found.lines().filter_map(|path| path.strip_prefix(root.as_str())).collect();
    ensure!(found.len() == 1, "the container {id} is in these cgroups: {found:?}");
    ensure!(expected.iter().any(|place| place == found[0]), "it is in {}, and none of {expected:#?}", found[0]);
    let processes = scout.shell(&format!("cat {root}{}/cgroup.procs", found[0]))?;
    ensure!(!processes.trim().is_empty(), "no process is in {}", found[0]);
    Ok(())
}

fn limit_is_set() -> Result<Outcome> {
    let pod = start(&CLASSES[0])?;
    let (_, id) = identity(&pod)?;
    let scout = scout(&pod)?;
    let files = "find /host -type f -path '*ID*' '(' -name memory.max -o -name memory.limit_in_bytes ')'";
    let limits = scout.shell(&format!("{} -exec cat '{{}}' ';' 2>/dev/null; true", files.replace("ID", &id)))?;
    match limits.lines().collect::<Vec<_>>()[..] {
        [] => Ok(Outcome::Skipped("the hierarchy that the node sees has no memory controller".into())),
        [limit] if limit == LIMIT.to_string() => Ok(Outcome::Passed),
        ref limits => bail!("{LIMIT} bytes were asked for, and set are {limits:?}"),
    }
}

fn start(class: &Class) -> Result<Pod> {
    let mut manifest = script(&format!("of-class-{}", class.name), "sleep 1000");
    manifest["spec"]["containers"][0]["resources"] = (class.resources)();
    Pod::start(&manifest)
}

/// The pod's UID and its container's id, as the API says them.
pub(super) fn identity(pod: &Pod) -> Result<(String, String)> {
    let object = pod.object()?;
    let uid = object["metadata"]["uid"].as_str().context("a pod without a UID")?;
    let id = object["status"]["containerStatuses"][0]["containerID"].as_str().context("a container without an id")?;
    let (_runtime, id) = id.split_once("://").context("an id without its runtime")?;
    Ok((uid.to_owned(), id.to_owned()))
}

/// A pod on the same node that sees its whole cgroup tree.
pub(super) fn scout(pod: &Pod) -> Result<Pod> {
    let node = pod.object()?["spec"]["nodeName"].clone();
    let mut manifest = script("scout", "sleep 1000");
    let spec = &mut manifest["spec"];
    spec["nodeName"] = node;
    spec["volumes"] = json!([{ "name": "cgroups", "hostPath": { "path": "/sys/fs/cgroup" } }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "cgroups", "mountPath": "/host", "readOnly": true }]);
    Pod::start(&manifest)
}

/// Where the v2 hierarchy is in a scout.
fn v2_root(scout: &Pod) -> Result<String> {
    let script = "for root in /host /host/unified; do test -e $root/cgroup.controllers && echo $root; done; true";
    let roots = scout.shell(script)?;
    Ok(roots.lines().next().context("the node has no cgroup v2 hierarchy at /sys/fs/cgroup or below it")?.to_owned())
}

/// The cgroups that a container may have: by the cgroupfs driver, by the systemd driver of containerd and of CRI-O.
fn places(class: &Class, uid: &str, id: &str) -> Vec<String> {
    let folder = class.folder.map(|folder| format!("/{folder}")).unwrap_or_default();
    let dashed = class.folder.map(|folder| format!("-{folder}")).unwrap_or_default();
    let slice = class.folder.map(|_| format!("/kubepods{dashed}.slice")).unwrap_or_default();
    let pod = format!("/kubepods.slice{slice}/kubepods{dashed}-pod{}.slice", uid.replace('-', "_"));
    let mut places = vec![format!("/kubepods{folder}/pod{uid}/{id}")];
    places.extend(["cri-containerd", "crio"].map(|runtime| format!("{pod}/{runtime}-{id}.scope")));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_kubelets_make() {
        let systemd = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-c.scope";
        assert_eq!(places(&CLASSES[1], "1-2", "c")[..2], ["/kubepods/burstable/pod1-2/c", systemd]);
        let systemd = "/kubepods.slice/kubepods-pod1_2.slice/crio-c.scope";
        assert_eq!(places(&CLASSES[0], "1-2", "c")[2], systemd);
    }
}
