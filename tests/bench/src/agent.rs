//! The real agent, as a user starts it: up to its first answer, scraped, and ended.

use crate::{
    api_server::{ApiServer, NODE},
    scrape::Client,
    worker,
};
use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use observer::{cgroup::mount, kernel::lock::NodeLock};
use observer_test_kit::listening_on;
use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// A running agent. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    /// Where it tells its metrics, and where the rest.
    addresses: [SocketAddr; 2],
    started: Instant,
}

/// How long a start and an end may take before they are failures.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long another agent may have the node.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(30);

impl Agent {
    /// Starts the agent in a cgroup and waits until it says where it listens. Another agent may run for a moment, on a
    /// machine where somebody tests: that is waited for.
    ///
    /// With an API server, pods have their names from there.
    pub(crate) fn start(observer: &Path, cgroup: &Path, api: Option<&ApiServer>) -> Result<Self> {
        let root = mount::locate(None)?.path;
        let deadline = Instant::now() + PATIENCE_WITH_OTHERS;
        while let Err(error) = NodeLock::take(&root, Path::new("/proc")) {
            if Instant::now() > deadline {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Self::start_alone(observer, cgroup, api)
    }

    fn start_alone(observer: &Path, cgroup: &Path, api: Option<&ApiServer>) -> Result<Self> {
        let binary = observer.to_str().context("the agent's path as text")?;
        let listen = ["--metrics-listen", "127.0.0.1:0", "--debug-listen", "127.0.0.1:0"];
        let mut role =
            ["become", binary, "agent"].into_iter().chain(listen).chain(["--node-name", NODE]).collect::<Vec<_>>();
        let kubeconfig = api.map(ApiServer::kubeconfig);
        if let Some(path) = &kubeconfig {
            role.extend(["--kubeconfig", path.to_str().context("the kubeconfig's path as text")?]);
        }
        let started = Instant::now();
        let mut child = worker::command(&role, Some(cgroup))?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", observer.display()))?;
        let log = child.stderr.take().expect("stderr is a pipe");
        let (sender, receiver) = channel();
        thread::spawn(move || follow(log, &sender));
        let addresses = listening(&receiver).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self { child, addresses, started })
    }

    /// Starts the agent and waits until it is ready.
    pub(crate) fn start_ready(observer: &Path, cgroup: &Path, api: Option<&ApiServer>) -> Result<Self> {
        let agent = Self::start(observer, cgroup, api)?;
        let deadline = Instant::now() + PATIENCE;
        while agent.client().and_then(|mut client| client.get("/readyz", false))?.status != 200 {
            if Instant::now() > deadline {
                bail!("the agent was not ready after {PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(agent)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When its process was about to be made.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// A new connection to its metrics listener.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.addresses[0])
    }

    /// A new connection to its debug listener.
    pub(crate) fn debug_client(&self) -> Result<Client> {
        Client::connect(self.addresses[1])
    }

    /// Ends it as a service manager does, and tells if it did not end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).context("end the agent")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() { Ok(()) } else { Err(anyhow!("the agent ended with {status}")) };
            }
            thread::sleep(Duration::from_millis(2));
        }
        bail!("the agent did not end within {PATIENCE:?} of SIGTERM")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log to its end, so that the agent never waits for us; hands each line on while somebody listens.
fn follow(log: ChildStderr, lines: &Sender<String>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let _ = lines.send(line);
    }
}

/// The addresses of its metrics page and its API, once its log tells them.
fn listening(lines: &Receiver<String>) -> Result<[SocketAddr; 2]> {
    let deadline = Instant::now() + PATIENCE;
    let mut log = String::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        log += &line;
        log.push('\n');
        if let (Some(metrics), Some(api)) = (listening_on(&log, "/metrics"), listening_on(&log, "/api/v1")) {
            return Ok([metrics, api]);
        }
    }
    bail!("the agent did not start to listen:\n{log}")
}
