//! kubectl: what users have, so what the tests use. Its errors are theirs.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    io::Write as _,
    process::{Child, Command, Stdio},
};

/// By these a client is sent through a proxy, which knows no way to a cluster on this machine.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// kubectl with arguments, in the tests' namespace.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("OBSERVER_KUBECTL").unwrap_or_else(|| "kubectl".into()));
    if crate::cluster::xtask().is_some() {
        for variable in PROXIES {
            command.env_remove(variable);
        }
    }
    command.args(["--namespace", crate::namespace::name(), "--request-timeout=90s"]).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end; what it prints.
pub(crate) fn kubectl(arguments: &[&str]) -> Result<String> {
    let output = command(arguments).output().context("run kubectl")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An object, or a list of them.
pub(crate) fn get(arguments: &[&str]) -> Result<Value> {
    let text = kubectl(&[&["get", "--output=json"], arguments].concat())?;
    serde_json::from_str(&text).with_context(|| format!("what kubectl says of {}", arguments.join(" ")))
}

/// Makes objects, or changes them to be so.
pub(crate) fn apply(manifest: &Value) -> Result<()> {
    read(&["apply", "--filename=-"], &manifest.to_string()).map(drop)
}

/// Runs it with something to read; what it prints.
pub(crate) fn read(arguments: &[&str], input: &str) -> Result<String> {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run kubectl")?;
    let mut stdin = child.stdin.take().context("kubectl's input")?;
    stdin.write_all(input.as_bytes()).context("hand something to kubectl")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for kubectl")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A kubectl that runs until it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
