//! Processes that a measurement needs beside it: this binary again, in a role of its own, in a cgroup of the arena.
//! A worker ends with the process that started it, whatever becomes of that.

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use nix::sys::{
    prctl,
    signal::{SigSet, Signal},
};
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::{connections, tenants, traffic};

/// What a worker does.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// Sends every byte back.
    Pong,
    /// Sends UDP to a full socket of its own, in a network namespace of its own.
    Flood,
    /// One end of a veth pair, in a network namespace of its own.
    End,
    /// A pod: waits, runs and talks.
    Tenant {
        /// Milliseconds from one talk to the next.
        every: u64,
    },
    /// Both ends of many connections on the loopback; `turns MILLISECONDS` sends a byte to and fro on one.
    Connections {
        /// How many.
        count: u32,
    },
    /// Becomes another program.
    Become {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

impl Role {
    /// Runs the role; the other end of stdin ends it.
    pub(crate) fn run(self, cgroup: Option<&Path>) -> Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL).context("tie the worker to its parent")?;
        // Inherited from a parent that takes its signals by waiting for them; the agent wants to be told by SIGTERM.
        SigSet::all().thread_unblock().context("unblock signals")?;
        if let Some(cgroup) = cgroup {
            fs::write(cgroup.join("cgroup.procs"), "0").with_context(|| format!("join {}", cgroup.display()))?;
        }
        match self {
            Self::Pong => pong(),
            Self::Flood => traffic::flood(),
            Self::End => traffic::end(),
            Self::Tenant { every } => tenants::live(Duration::from_millis(every)),
            Self::Connections { count } => connections::hold(count),
            Self::Become { command } => {
                let [program, arguments @ ..] = command.as_slice() else { bail!("no program given") };
                Err(Command::new(program).args(arguments).exec()).with_context(|| format!("run {program}"))
            }
        }
    }
}

fn pong() -> Result<()> {
    let mut input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        output.write_all(&byte)?;
    }
    Ok(())
}

/// A command that starts this binary in a role.
pub(crate) fn command(role: &[&str], cgroup: Option<&Path>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("find this binary")?);
    command.arg("worker");
    if let Some(cgroup) = cgroup {
        command.arg("--cgroup").arg(PathBuf::from(cgroup));
    }
    command.args(role);
    Ok(command)
}

/// A running worker that answers a line with a line. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one.
    pub(crate) fn start(role: &[&str], cgroup: Option<&Path>) -> Result<Self> {
        let mut child = command(role, cgroup)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().expect("stdin is a pipe");
        let output = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Ok(Self { child, input, output })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("a worker ended early")
    }

    /// Reads a line.
    pub(crate) fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("a worker ended early: {}", self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }

    /// Sends a line and reads the answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line)?;
        self.hear()
    }

    /// Sends one byte to a [`Role::Pong`] and waits for it to come back, `times` times.
    pub(crate) fn ping_pong(&mut self, times: u32) -> Result<()> {
        let mut byte = [0];
        for _ in 0..times {
            self.input.write_all(&byte)?;
            self.output.get_mut().read_exact(&mut byte)?;
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
