//! The cluster itself: that it is one, and that its parts can be taken away and come back.

use crate::{
    cluster::{PATIENCE, ask},
    kubectl::{get, kubectl},
    pod::{Pod, script},
    trial::{once, own, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::wait_until;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("a_node_is_ready_and_says_its_kubelet_and_its_runtime", node_is_ready),
        once(own("the_api_server_goes_and_comes_back_and_pods_go_on", api_server_goes_and_comes_back)),
    ]
}

fn node_is_ready() -> Result<()> {
    let nodes = get(&["nodes"])?;
    let nodes = nodes["items"].as_array().context("no list of nodes")?;
    let ready = nodes.iter().find(|node| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
    });
    let about = &ready.context("no node is Ready")?["status"]["nodeInfo"];
    for fact in ["kubeletVersion", "containerRuntimeVersion", "kernelVersion"] {
        ensure!(about[fact].as_str().is_some_and(|text| !text.is_empty()), "the node does not say its {fact}: {about}");
    }
    Ok(())
}

fn api_server_goes_and_comes_back() -> Result<()> {
    let pod = Pod::start(&script("survivor", "sleep 1000"))?;
    let before = pod.object()?;
    ask("stop", "kube-apiserver")?;
    let gone = kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]);
    ask("start", "kube-apiserver")?;
    ensure!(gone.is_err(), "the API server answered after it was stopped");
    let back = wait_until(PATIENCE, || Ok(kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|answer| answer == "ok")))?;
    ensure!(back, "the API server did not come back in {PATIENCE:?}");
    let after = pod.object()?;
    let id = "/status/containerStatuses/0/containerID";
    ensure!(before.pointer(id) == after.pointer(id), "the pod's container is another one:\n{before}\n{after}");
    pod.shell("true").context("exec in the pod that was there before")?;
    Ok(())
}
