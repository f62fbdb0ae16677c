//! The cluster under test, as far as it is known beforehand.

use anyhow::{Context as _, Result, ensure};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long a pod may take to be what it is to be.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The image of the tests' pods.
pub(crate) fn test_image() -> String {
    std::env::var("OBSERVER_TEST_IMAGE").unwrap_or_else(|_| "localhost/observer-test:1".into())
}

/// The agent's image.
pub(crate) fn agent_image() -> String {
    format!("localhost/observer:{}", env!("CARGO_PKG_VERSION"))
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

/// Asks ten times a second until the answer is yes; false when it did not come in time.
pub(crate) fn wait_until(limit: Duration, mut answer: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        if answer()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
