//! An agent for as long as somebody looks: where none listens, and this process may start one.

use crate::{
    cgroup::mount,
    kernel::lock::{self, Holder},
};
use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use std::{
    fs::File,
    io::{Read as _, Seek as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Longer than the verifier takes on a slow machine.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// A stop takes a second where the history is written.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// Where this machine's processes are.
const PROC: &str = "/proc";
/// Nothing is said of what takes less.
const SILENCE: Duration = Duration::from_secs(1);

/// The agent; it ends when this is dropped, or with this process, whatever ends that.
#[derive(Debug)]
pub(super) struct OwnAgent {
    child: Child,
    address: String,
}

impl OwnAgent {
    /// Starts one, unless somebody listens at the usual address.
    ///
    /// # Errors
    /// When there is none and this process may not start one, or it does not start.
    pub(super) fn unless_there_is_one(usual: &str) -> anyhow::Result<Option<Self>> {
        let address: SocketAddr = usual.parse().context("the usual address")?;
        if TcpStream::connect_timeout(&address, CONNECTED_WITHIN).is_ok() {
            return Ok(None);
        }
        if !geteuid().is_root() {
            bail!(
                "no agent listens on {usual}, and only root may start one: start `observer agent`, run this through sudo, or \
                 reach a node's agent by `kubectl -n observer port-forward POD 9811`"
            );
        }
        if let Some(holder) =
            mount::locate(None).ok().and_then(|root| lock::holder(&root.path, Path::new(PROC)).ok()?)
        {
            bail!("{}", elsewhere(usual, &holder));
        }
        Self::start().map(Some)
    }

    fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut log = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(std::env::temp_dir())
            .with_context(|| format!("make a file for the agent's log in {}", std::env::temp_dir().display()))?;
        let mut command = Command::new(program);
        command.args([
            "agent",
            "--metrics-listen",
            "127.0.0.1:0",
            "--debug-listen",
            "127.0.0.1:0",
            "--until-stdin-closes",
        ]);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        let mut own = Self { child: command.spawn().context("start an agent")?, address: String::new() };
        let (begun, mut said) = (Instant::now(), false);
        loop {
            let mut text = String::new();
            log.rewind().and_then(|()| log.read_to_string(&mut text)).context("read the agent's log")?;
            if let Some(address) = listening_on(&text) {
                own.address = address;
                return Ok(own);
            }
            if let Some(status) = own.child.try_wait().context("look after the agent")? {
                // What it says last is why, and it says so itself whose word that is.
                let last = text.lines().last().unwrap_or("it said nothing").trim_start_matches("observer: ");
                bail!(
                    "no agent listens on this machine, and the one that was started for this ended ({status}): {last}"
                );
            }
            if begun.elapsed() > READY_WITHIN {
                bail!("the agent that was started does not listen after {} s: {text}", READY_WITHIN.as_secs());
            }
            if begun.elapsed() > SILENCE && !said {
                said = true;
                super::super::complain(
                    "no agent listens on this machine; starting one for as long as it is looked at ...",
                );
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Where it answers.
    pub(super) fn address(&self) -> String {
        self.address.clone()
    }
}

/// There is an agent already, and it is not where it was looked for.
fn elsewhere(usual: &str, Holder { pid, command }: &Holder) -> String {
    format!(
        "no agent listens on {usual}, but pid {pid} ({command}) counts on this node already, and there can be one only: name its \
         debug listener with --agent http://ADDRESS:PORT, or the node that it counts for with --node"
    )
}

/// The address of the API in what the agent logs when it serves.
fn listening_on(log: &str) -> Option<String> {
    let (before, _) = log.split_once("/api/v1")?;
    before.rsplit_once("http://").map(|(_, address)| address.to_owned())
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let until = Instant::now() + ENDED_WITHIN;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_api() {
        let log = "INFO metrics on http://127.0.0.1:5/metrics\nINFO the web page on http://127.0.0.1:7/, the API on http://127.0.0.1:7/api/v1\n";
        assert_eq!(listening_on(log).as_deref(), Some("127.0.0.1:7"));
        assert_eq!(listening_on("INFO metrics on http://127.0.0.1:5/metrics\n"), None);
    }
}
