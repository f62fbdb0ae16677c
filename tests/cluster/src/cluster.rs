//! The cluster under test, as far as it is known beforehand.

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

/// How long a pod may take to be what it is to be.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The image of the tests' pods.
pub(crate) fn test_image() -> String {
    std::env::var("OBSERVER_TEST_IMAGE").unwrap_or_else(|_| "localhost/observer-test:1".into())
}

/// The xtask whose cluster it is; none when it is somebody else's.
pub(crate) fn xtask() -> Option<PathBuf> {
    std::env::var_os("OBSERVER_CLUSTER_XTASK").map(PathBuf::from)
}

/// Asks for a part of the cluster to be stopped or started: `stop kube-apiserver`.
pub(crate) fn ask(verb: &str, part: &str) -> Result<()> {
    let xtask = xtask().context("the cluster is somebody else's")?;
    let output =
        Command::new(xtask).args(["cluster", verb, part]).stdin(Stdio::null()).output().context("run xtask")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cluster {verb} {part}: {}", errors.trim());
    Ok(())
}

/// A program in the node's network and with its files, which takes the place of the process that is started.
pub(crate) fn in_node_command(words: &[&str]) -> Result<Command> {
    let mut command = Command::new(xtask().context("the cluster is somebody else's")?);
    command.args(["cluster", "exec", "--"]).args(words).stdin(Stdio::null());
    Ok(command)
}

/// Runs a program there; what it prints.
pub(crate) fn in_node(words: &[&str]) -> Result<String> {
    let output = in_node_command(words)?.output().context("run xtask")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "in the node, {}: {}", words.join(" "), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where an own node's network is, as the agent sees it: the node is a network namespace of this machine. None when the node is somebody
/// else's.
pub(crate) fn net_path() -> Result<Option<String>> {
    if xtask().is_none() {
        return Ok(None);
    }
    // A machine may run a containerd of its own, and other nodes.
    let nodes = in_node(&["readlink", "/proc/self/ns/net"])?;
    let is_containerd = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim_end() == "containerd")
            && fs::read_link(entry.path().join("ns/net")).is_ok_and(|link| link.to_string_lossy() == nodes.trim_end())
    };
    let mut processes = fs::read_dir("/proc").context("read /proc")?.flatten();
    let process = processes.find(is_containerd).context("no containerd runs in the node's network")?;
    Ok(Some(format!("/host/proc/{}/net", process.file_name().display())))
}

/// A manifest in the directory where the kubelet looks for pods; gone when dropped.
pub(crate) struct StaticPod(PathBuf);

impl StaticPod {
    /// Has the kubelet run a pod that the API server was not asked for.
    pub(crate) fn make(manifest: &serde_json::Value) -> Result<Self> {
        let directory = std::env::var_os("OBSERVER_CLUSTER_STATIC_PODS").context("no directory of static pods")?;
        let name = manifest["metadata"]["name"].as_str().context("a pod without a name")?;
        let path = PathBuf::from(directory).join(format!("{name}.json"));
        fs::write(&path, manifest.to_string()).with_context(|| format!("write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for StaticPod {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
