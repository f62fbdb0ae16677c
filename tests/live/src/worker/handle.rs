//! The test's end of a worker.

use crate::{cgroup::Cgroup, machine::patience};
use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

/// Where a worker runs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seat<'a> {
    /// A process in the network namespace to join.
    pub(crate) netns: Option<u32>,
    pub(crate) cgroup: Option<&'a Cgroup>,
    pub(crate) cpu: Option<usize>,
    pub(crate) priority: Option<Priority>,
}

/// How the scheduler is to treat a worker.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Priority {
    /// Before nearly everybody else.
    High,
    /// When nobody else wants the CPU.
    Idle,
    /// Before all but those of the next kind, for as long as it likes.
    Realtime,
    /// Before all.
    Foremost,
}

impl<'a> Seat<'a> {
    /// In a cgroup, in the network namespace of the tests.
    pub(crate) fn in_cgroup(cgroup: &'a Cgroup) -> Self {
        Self { cgroup: Some(cgroup), ..Self::default() }
    }

    /// The command that runs a worker there.
    pub(crate) fn command<S: AsRef<OsStr>>(self, job: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg("worker");
        if let Some(pid) = self.netns {
            command.arg(format!("--netns={pid}"));
        }
        if let Some(cgroup) = self.cgroup {
            command.arg("--cgroup").arg(cgroup.path());
        }
        if let Some(cpu) = self.cpu {
            command.arg(format!("--cpu={cpu}"));
        }
        if let Some(name) = self.priority.as_ref().and_then(ValueEnum::to_possible_value) {
            command.arg(format!("--priority={}", name.get_name()));
        }
        command.args(job);
        command
    }

    /// Runs a job that ends by itself.
    pub(crate) fn run<S: AsRef<OsStr>>(self, job: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = self.command(job);
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A running worker; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Locked by nobody: so that tests in several threads may share what a worker keeps up.
    lines: Mutex<Receiver<String>>,
    /// What it said after `ready`.
    pub(crate) greeting: String,
    job: String,
}

impl Worker {
    /// Starts a worker and waits until it is in its place.
    pub(crate) fn start<S: AsRef<OsStr>>(seat: Seat<'_>, job: impl IntoIterator<Item = S>) -> Result<Self> {
        let job: Vec<_> = job.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let name = job.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = seat.command(job);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let stdout = child.stdout.take().context("a worker without stdout")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        let mut worker = Self { child, stdin, lines: Mutex::new(lines), greeting: String::new(), job: name };
        let line = worker.line(Duration::from_secs(20))?;
        worker.greeting = line.strip_prefix("ready").with_context(|| format!("{line:?} is not ready"))?.trim().into();
        Ok(worker)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says a line without waiting for the answer.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the worker was told to end")?;
        writeln!(stdin, "{line}").with_context(|| format!("tell {} to {line}", self.job))?;
        Ok(())
    }

    /// Says a line and waits for the answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line)?;
        self.line(Duration::from_mins(2))
    }

    /// The next line it says.
    pub(crate) fn line(&mut self, limit: Duration) -> Result<String> {
        let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        match lines.recv_timeout(patience(limit)) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("the worker {} said nothing for {limit:?}", self.job),
            Err(RecvTimeoutError::Disconnected) => {
                self.stdin = None;
                let status = self.child.wait()?;
                let mut stderr = String::new();
                if let Some(mut pipe) = self.child.stderr.take() {
                    pipe.read_to_string(&mut stderr)?;
                }
                bail!("the worker {} ended ({status}): {stderr}", self.job)
            }
        }
    }

    /// Ends it and waits until it is gone.
    pub(crate) fn end(mut self) -> Result<()> {
        self.stdin = None;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the worker {} ended with {status}", self.job);
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
