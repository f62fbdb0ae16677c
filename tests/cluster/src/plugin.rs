//! The program as a plugin of kubectl: `kubectl observer …`.

use crate::{kubectl::command, namespace, trial::Outcome};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    ffi::OsStr,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// A directory in which kubectl finds it.
pub(crate) struct Plugin(tempfile::TempDir);

impl Plugin {
    /// None where nobody says where the program is.
    pub(crate) fn install() -> Result<Option<Self>> {
        let Some(program) = std::env::var_os("OBSERVER_BIN") else { return Ok(None) };
        let directory = tempfile::tempdir()?;
        symlink(program, directory.path().join("kubectl-observer"))?;
        Ok(Some(Self(directory)))
    }

    /// What a test says then.
    pub(crate) fn skipped() -> Outcome {
        Outcome::Skipped("needs the agent's program, by OBSERVER_BIN".into())
    }

    /// `kubectl observer SUBCOMMAND …`, of the agents in the tests' namespace.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.prepared(command(&[]).get_program());
        command.arg("observer").args(arguments).args(["--namespace", namespace::name()]);
        command.output().context("run kubectl observer")
    }

    /// The same on a terminal of its own, of which all that is written goes to a file.
    pub(crate) fn on_terminal(&self, arguments: &[&str], written: &Path) -> Result<Terminal> {
        let kubectl = command(&[]).get_program().to_string_lossy().into_owned();
        let line = format!(
            "stty cols 100 rows 30; exec {kubectl} observer {} --namespace {}",
            arguments.join(" "),
            namespace::name()
        );
        let mut command = self.prepared("script".as_ref());
        command.args(["--quiet", "--return", "--flush", "--command", &line]).arg(written);
        command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().map(Terminal).context("run script, of util-linux")
    }

    /// A program that finds the cluster and the plugin.
    fn prepared(&self, program: &OsStr) -> Command {
        // Of kubectl's own, a plugin gets none.
        let plain = command(&[]);
        let mut command = Command::new(program);
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.0.path().display()));
        command
    }

    /// What it prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).with_context(|| format!("what {} prints", arguments.join(" ")))
    }
}

/// A program on a terminal of its own, which goes when this is dropped; the program hangs up with it.
pub(crate) struct Terminal(pub(crate) Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
