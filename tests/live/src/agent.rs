//! The agent under test: started as a user starts it, asked over HTTP, ended by signals or with the tests. What it wrote
//! is shown when a test fails.

use crate::{
    http::{self, Answer},
    machine::{self, patience, wait_until},
    page::Page,
    syscalls::{self, BpfKind},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use observer_test_kit::listening_on;
use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tempfile::NamedTempFile;

/// A running agent; killed when dropped, or kept for the next test where to start one takes long.
pub(crate) struct Agent {
    /// Gone when it was handed on.
    child: Option<Child>,
    /// It was started as most are, and nobody ended it.
    is_usual: bool,
    pub(crate) address: SocketAddr,
    /// Without a name: nobody would remove it if the tests were killed.
    log: File,
    /// Just before the process was made.
    pub(crate) started: Instant,
    /// When /readyz first said yes.
    pub(crate) ready: Instant,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Where the agent's executable is.
pub(crate) fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OBSERVER_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    [folder.join("observer"), folder.join("../release/observer")]
        .into_iter()
        .find(|path| path.is_file())
        .context("no agent: set OBSERVER_BIN, or run `cargo xtask build`")
}

/// The agent with arguments, its environment clean of its own variables.
pub(crate) fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OBSERVER_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").args(arguments);
    Ok(command)
}

/// The process that ends agents when this one is gone; the end of its stdin tells it.
static GUARD: Mutex<Option<Worker>> = Mutex::new(None);

/// Starts a command that ends with this process, whatever becomes of it and whoever the command becomes.
fn start_guarded(command: &mut Command) -> Result<Child> {
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.is_none() {
        *guard = Some(Worker::start(Seat::default(), ["guard"])?);
    }
    // Until the guard knows of it.
    syscalls::die_with_parent(command);
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let watched = guard.as_mut().map(|guard| guard.ask(&format!("watch {}", child.id())));
    if let Some(Err(error)) = watched {
        child.kill()?;
        child.wait()?;
        return Err(error);
    }
    Ok(child)
}

/// Runs a command to its end, or kills it when the time is up.
pub(crate) fn run_to_end(mut command: Command, limit: Duration) -> Result<Ended> {
    end_kept();
    let (stdout, stderr) = (NamedTempFile::new()?, NamedTempFile::new()?);
    let mut child = start_guarded(command.stdin(Stdio::null()).stdout(stdout.reopen()?).stderr(stderr.reopen()?))?;
    let status = wait_for(&mut child, limit)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let (stdout, stderr) = (fs::read_to_string(stdout.path())?, fs::read_to_string(stderr.path())?);
    let Some(status) = status else { bail!("{command:?} did not end in {limit:?}\n{stdout}{stderr}") };
    Ok(Ended { code: status.code(), stdout, stderr })
}

fn wait_for(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut status = None;
    wait_until(limit, || {
        status = child.try_wait()?;
        Ok(status.is_some())
    })?;
    Ok(status)
}

/// An agent without arguments that the last test has left. In a guest the verifier, which is emulated there, takes longer than a test.
static KEPT: Mutex<Option<Agent>> = Mutex::new(None);

/// Takes the one that is kept: a node holds one agent.
fn take_kept() -> Option<Agent> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Ends the one that is kept.
pub(crate) fn end_kept() {
    if let Some(mut agent) = take_kept() {
        agent.is_usual = false;
    }
}

/// Whether an agent with these arguments is kept for the next test.
fn is_handed_on(arguments: &[&str]) -> bool {
    arguments.is_empty() && machine::is_guest() && !machine::has_time()
}

impl Agent {
    /// Starts it on a free port and waits until it is ready. In a guest with few tests it may be the one of the test before.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        if !is_handed_on(arguments) {
            return Self::start_anew(arguments);
        }
        let kept = take_kept().filter(|agent| agent.get("/readyz").is_ok_and(|answer| answer.status == 200));
        let mut agent = kept.map_or_else(|| Self::start_anew(arguments), Ok)?;
        agent.is_usual = true;
        Ok(agent)
    }

    /// The same, and nobody has asked it before; who comes after may have it.
    pub(crate) fn start_anew(arguments: &[&str]) -> Result<Self> {
        let mut command = command(&["agent", "--metrics-listen", "127.0.0.1:0", "--node-name", "live"])?;
        command.args(["--debug-listen", "127.0.0.1:0"]);
        command.args(arguments);
        let mut agent = Self::start_command(command)?;
        agent.is_usual = is_handed_on(arguments);
        Ok(agent)
    }

    /// Waits until a command that is an agent is ready.
    pub(crate) fn start_command(mut command: Command) -> Result<Self> {
        end_kept();
        let log = tempfile::tempfile()?;
        let started = Instant::now();
        let child = start_guarded(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?))?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut agent = Self { child: Some(child), is_usual: false, address, log, started, ready: started };
        agent.become_ready().with_context(|| format!("{command:?} said:\n{}", agent.log_text()))?;
        Ok(agent)
    }

    fn become_ready(&mut self) -> Result<()> {
        // The verifier, emulated, beside spinners that the test has started already: 36 s were seen.
        let limit = patience(Duration::from_secs(30));
        let found = wait_until(limit, || {
            ensure!(self.child()?.try_wait()?.is_none(), "the agent ended");
            Ok(listening_on(&self.log_text(), "/metrics").map(|address| self.address = address).is_some())
        })?;
        ensure!(found, "no line with http://ADDRESS/metrics in {limit:?}");
        let ready = wait_until(limit, || {
            ensure!(self.child()?.try_wait()?.is_none(), "the agent ended");
            Ok(http::get(self.address, "/readyz").is_ok_and(|answer| answer.status == 200))
        })?;
        ensure!(ready, "/readyz did not say yes in {limit:?}");
        self.ready = Instant::now();
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn child(&mut self) -> Result<&mut Child> {
        self.child.as_mut().context("the agent was handed on")
    }

    /// What it wrote so far.
    pub(crate) fn log_text(&self) -> String {
        let mut bytes = vec![0; self.log.metadata().map_or(0, |facts| facts.len() as usize)];
        let read = self.log.read_at(&mut bytes, 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// Where its debug listener is.
    pub(crate) fn debug_address(&self) -> Result<SocketAddr> {
        listening_on(&self.log_text(), "/api/v1").with_context(|| format!("no API in:\n{}", self.log_text()))
    }

    /// GET of a path.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        http::get(self.address, path).with_context(|| format!("the agent said:\n{}", self.log_text()))
    }

    /// The metrics now.
    pub(crate) fn scrape(&self) -> Result<Page> {
        let answer = self.get("/metrics")?;
        ensure!(answer.status == 200, "/metrics answered {}", answer.status);
        Ok(Page { text: answer.text()?.to_owned() })
    }

    /// The kernel objects that it holds descriptors of.
    pub(crate) fn kernel_objects(&self) -> Result<Vec<(BpfKind, u32)>> {
        kernel_objects(self.pid())
    }

    /// Sends a signal and waits for the end. Returns how it ended and how long that took.
    pub(crate) fn end(mut self, signal: Signal) -> Result<(ExitStatus, Duration, String)> {
        self.is_usual = false;
        let sent = Instant::now();
        kill(Pid::from_raw(self.pid().cast_signed()), signal)?;
        let status = wait_for(self.child()?, patience(Duration::from_secs(10)))?;
        let took = sent.elapsed();
        let status = status.with_context(|| format!("{signal} did not end the agent:\n{}", self.log_text()))?;
        Ok((status, took, self.log_text()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if self.is_usual
            && matches!(child.try_wait(), Ok(None))
            && let Ok(log) = self.log.try_clone()
        {
            let (address, started, ready) = (self.address, self.started, self.ready);
            let kept = Self { child: Some(child), is_usual: false, address, log, started, ready };
            *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
            return;
        }
        let _ = child.kill();
        let _ = child.wait();
        if std::env::var_os("OBSERVER_SHOW_LOG").is_some() {
            eprintln!("--- the agent said:\n{}", self.log_text());
        }
    }
}

/// The kernel objects that a process holds descriptors of.
pub(crate) fn kernel_objects(pid: u32) -> Result<Vec<(BpfKind, u32)>> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let kind = match key {
                "prog_id" => BpfKind::Program,
                "map_id" => BpfKind::Map,
                "link_id" => BpfKind::Link,
                _ => continue,
            };
            objects.push((kind, value.trim().parse()?));
        }
    }
    objects.sort_unstable();
    objects.dedup();
    Ok(objects)
}

/// Those of the objects that the kernel still has after some patience: it frees them behind our back.
pub(crate) fn left_behind(objects: &[(BpfKind, u32)], limit: Duration) -> Result<Vec<(BpfKind, u32)>> {
    let mut left = objects.to_vec();
    wait_until(limit, || {
        let mut still = Vec::new();
        for &(kind, id) in &left {
            if syscalls::bpf_object_exists(kind, id)? {
                still.push((kind, id));
            }
        }
        left = still;
        Ok(left.is_empty())
    })?;
    Ok(left)
}

/// Shows the agent's log when the test fails.
pub(crate) fn explain<T>(agent: &Agent, outcome: Result<T>) -> Result<T> {
    outcome.with_context(|| {
        let log = agent.log_text();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        format!("(the agent said last:\n{}\n)", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    })
}
