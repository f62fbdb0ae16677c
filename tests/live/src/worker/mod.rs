//! What the tests run as processes of their own, inside a network namespace and a cgroup: `observer-live worker …`.
//!
//! A worker says `ready …` on stdout when it is in its place, then answers each line on stdin with one line. The end of
//! stdin ends it, and so does the death of the tests (of the guard only the former).

pub(crate) mod connections;
pub(crate) mod dns;
mod guard;
mod handle;
mod handover;
mod icmp;
mod memory;
mod namespace;
mod privileges;
mod short_lived;
mod storm;
mod tasks;
mod tcp;
mod udp;

pub(crate) use handle::{Priority, Seat, Worker};

use crate::agent::Agent;
use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::Pid,
};
use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead as _, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

#[derive(Parser)]
struct Options {
    /// Join the network namespace of this process.
    #[arg(long)]
    netns: Option<u32>,
    /// Join this cgroup, before any socket is made.
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Stay on this CPU.
    #[arg(long)]
    cpu: Option<usize>,
    /// Be treated so by the scheduler.
    #[arg(long)]
    priority: Option<Priority>,
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Make a network namespace and keep it.
    Namespace(namespace::Namespace),
    /// Count the frames that belong to no socket.
    Census(namespace::Census),
    /// Turn the offloads of a device on or off.
    Offloads(namespace::Offloads),
    /// Drop part of what devices receive.
    Lose(namespace::Lose),
    /// Become another program.
    Exec(Exec),
    /// Serve TCP connections.
    TcpServe(tcp::Serve),
    /// Serve TCP connections that another process accepted.
    TcpHandle(tcp::Handle),
    /// Open a TCP connection.
    TcpTalk(tcp::Talk),
    /// Open many TCP connections.
    Connections(connections::Connections),
    /// Receive datagrams.
    UdpSink(udp::Sink),
    /// Send datagrams.
    UdpTalk(udp::Talk),
    /// Serve DNS.
    DnsServe(dns::Serve),
    /// Ask a DNS server.
    DnsAsk(dns::Ask),
    /// Send echo requests.
    Ping(icmp::Ping),
    /// Keep a CPU busy.
    Spin,
    /// Sleep and work in turns.
    Nap,
    /// Hold memory.
    Hold,
    /// Wait in uninterruptible sleep for children.
    Vfork,
    /// Start and end processes, or switch between two, as fast as it goes.
    Storm,
    /// Live in one short-lived cgroup after the other.
    ShortLived(short_lived::ShortLived),
    /// Run a program where parts of the system are hidden.
    Hide(namespace::Hide),
    /// Become a program that has no capabilities but these.
    Bound(privileges::Bound),
    /// End what the tests leave when they are killed.
    Guard,
    /// Start an agent as the tests do, and keep it.
    Agent,
}

#[derive(clap::Args)]
struct Exec {
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Becomes the worker that the command line asks for.
pub(crate) fn run() -> ExitCode {
    match work(Options::parse_from(std::env::args_os().skip(1))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(options: Options) -> Result<()> {
    if !matches!(options.job, Job::Guard) {
        set_pdeathsig(Signal::SIGKILL)?;
    }
    if let Some(pid) = options.netns {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).with_context(|| format!("namespace of {pid}"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("join the network namespace")?;
    }
    if let Some(path) = options.cgroup {
        crate::cgroup::join(&path, 0)?;
    }
    if let Some(cpu) = options.cpu {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &set).context("stay on one CPU")?;
    }
    if let Some(priority) = options.priority {
        match priority {
            Priority::High => crate::syscalls::set_niceness(-10),
            Priority::Idle => crate::syscalls::set_policy(libc::SCHED_IDLE, 0),
            Priority::Realtime => crate::syscalls::set_policy(libc::SCHED_FIFO, 10),
            Priority::Foremost => crate::syscalls::set_policy(libc::SCHED_FIFO, 50),
        }
        .context("change the priority")?;
    }
    match options.job {
        Job::Namespace(job) => job.run(),
        Job::Census(job) => job.run(),
        Job::Offloads(job) => job.run(),
        Job::Lose(job) => job.run(),
        Job::Exec(job) => job.run(),
        Job::TcpServe(job) => job.run(),
        Job::TcpHandle(job) => job.run(),
        Job::TcpTalk(job) => job.run(),
        Job::Connections(job) => job.run(),
        Job::UdpSink(job) => job.run(),
        Job::UdpTalk(job) => job.run(),
        Job::DnsServe(job) => job.run(),
        Job::DnsAsk(job) => job.run(),
        Job::Ping(job) => job.run(),
        Job::Spin => tasks::spin(),
        Job::Nap => tasks::nap(),
        Job::Hold => memory::hold(),
        Job::Vfork => tasks::vfork(),
        Job::Storm => storm::storm(),
        Job::ShortLived(job) => job.run(),
        Job::Hide(job) => job.run(),
        Job::Bound(job) => job.run(),
        Job::Guard => guard::guard(),
        Job::Agent => agent(),
    }
}

impl Exec {
    fn run(self) -> Result<()> {
        become_program(&self.command)
    }
}

fn become_program(command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no program")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("become {}", program.display()))
}

/// Says the agent's pid.
fn agent() -> Result<()> {
    let agent = Agent::start(&[])?;
    converse(&format!("ready {}", agent.pid()), not_understood)
}

/// Says a line to the test.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// The next line of the test; `None` when it wants no more.
fn listen() -> Result<Option<String>> {
    let mut line = String::new();
    let bytes = std::io::stdin().lock().read_line(&mut line)?;
    Ok((bytes > 0).then(|| line.trim_end().to_owned()))
}

/// Says `ready` and answers each line until there are no more.
fn converse(ready: &str, mut answer: impl FnMut(&[&str]) -> Result<String>) -> Result<()> {
    say(ready)?;
    while let Some(line) = listen()? {
        let words: Vec<&str> = line.split(' ').collect();
        let reply = if let ["join", path] = words.as_slice() {
            crate::cgroup::join(path.as_ref(), 0)?;
            "joined".to_owned()
        } else {
            answer(&words).with_context(|| format!("asked to {line:?}"))?
        };
        say(&reply)?;
    }
    Ok(())
}

fn not_understood<T>(words: &[&str]) -> Result<T> {
    bail!("{words:?} is not understood")
}
