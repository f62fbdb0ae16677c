//! How the agent lives with the system: what it keeps after the attach, how many there are, and with whom it ends.

use crate::{
    agent::{Agent, command, kernel_objects, left_behind, run_to_end},
    cgroup::Cgroup,
    machine::{patience, wait_until},
    syscalls::BpfKind,
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, net::TcpListener, time::Duration};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("a_second_agent_is_refused_with_the_first_ones_pid", Place::Both, &[Need::Root], second_is_refused),
        test(
            "a_second_agent_on_the_same_port_is_refused_with_the_first_ones_pid",
            Place::Both,
            &[Need::Root],
            second_on_the_same_port,
        ),
        test(
            "after_the_attach_it_is_nobody_without_a_capability_and_goes_on_reading",
            Place::Both,
            &[Need::Root],
            is_nobody,
        ),
        test("killed_tests_leave_no_agent", Place::Both, &[Need::Root], killed_tests_leave_none),
        test("told_to_keep_its_user_it_still_drops_every_capability", Place::Both, &[Need::Root], keeps_its_user),
    ]
}

fn second_is_refused() -> Result<()> {
    refuses_another(&Agent::start(&[])?, "127.0.0.1:0")
}

/// As two agents of one package are: the port is the same and taken, but that is not what the second is to say.
fn second_on_the_same_port() -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let first = command(&["agent", "--metrics-listen", &address, "--node-name", "live"])?;
    refuses_another(&Agent::start_command(first)?, &address)
}

fn refuses_another(first: &Agent, address: &str) -> Result<()> {
    let second = run_to_end(command(&["agent", "--metrics-listen", address])?, patience(Duration::from_secs(10)))?;
    ensure!(second.code == Some(1), "{second:?}");
    ensure!(second.stderr.contains(&format!("pid {}", first.pid())), "no pid {} in: {}", first.pid(), second.stderr);
    ensure!(second.stderr.trim_end().lines().count() == 1, "more than a line: {}", second.stderr);
    ensure!(first.get("/readyz")?.status == 200, "the first one minds");
    Ok(())
}

/// The tests' own promise: what they start ends with them, however they end.
fn killed_tests_leave_none() -> Result<()> {
    let tests = Worker::start(Seat::default(), ["agent"])?;
    let agent: u32 = tests.greeting.parse()?;
    ensure!(
        status_field(agent, "Uid")?.starts_with("65534"),
        "the agent has not changed its user: this proves nothing"
    );
    let objects = kernel_objects(agent)?;
    ensure!(objects.iter().any(|(kind, _)| *kind == BpfKind::Link), "no link among {objects:?}");
    kill(Pid::from_raw(tests.pid().cast_signed()), Signal::SIGKILL)?;
    let limit = patience(Duration::from_secs(1));
    let ended = wait_until(limit, || Ok(truth::state(agent).map_or(true, |state| state == 'Z')))?;
    if !ended {
        kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL)?;
        bail!("the agent is there {limit:?} after the tests that started it");
    }
    let left = left_behind(&objects, patience(Duration::from_secs(2)))?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// A field of /proc/PID/status.
fn status_field(pid: u32, name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {name} in the status of {pid}"))?.trim().to_owned())
}

/// On kernels before 5.19 with unprivileged bpf(2) switched off, reading maps needs this one.
const CAP_BPF_ONLY: &str = "0000008000000000";

fn drops_capabilities(agent: &Agent) -> Result<()> {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let value = status_field(agent.pid(), set)?;
        let old = crate::machine::kernel() < (5, 19) && matches!(set, "CapPrm" | "CapEff");
        let allowed = value.bytes().all(|digit| digit == b'0') || (old && value == CAP_BPF_ONLY);
        ensure!(allowed, "{set} is {value}");
    }
    for task in fs::read_dir(format!("/proc/{}/task", agent.pid()))? {
        let tid: u32 = task?.file_name().to_string_lossy().parse()?;
        let value = status_field(tid, "CapEff")?;
        ensure!(value == status_field(agent.pid(), "CapEff")?, "thread {tid} has {value}");
    }
    Ok(())
}

/// Traffic and scrapes go on, and the books with them.
fn goes_on_reading(agent: &Agent) -> Result<()> {
    let folder = Cgroup::for_test()?;
    let sink = Worker::start(Seat::in_cgroup(&folder), ["udp-sink", "--bind", "127.0.0.1:0"])?;
    for round in 0..3 {
        // A new cgroup each time: names are learnt without privileges too.
        let cgroup = folder.child(format!("round{round}"))?;
        let mut talk = Worker::start(Seat::in_cgroup(&cgroup), ["udp-talk", "--to", &sink.greeting, "--size", "72"])?;
        talk.ask("send 10")?;
        std::thread::sleep(Duration::from_millis(1100));
        let sent = agent.scrape()?.traffic(&cgroup.label)?.transmit;
        ensure!(sent.bytes == 1000 && sent.packets == 10, "round {round}: {sent}");
    }
    Ok(())
}

fn is_nobody() -> Result<()> {
    let agent = Agent::start(&[])?;
    for field in ["Uid", "Gid"] {
        let ids = status_field(agent.pid(), field)?;
        ensure!(ids.split_whitespace().all(|id| id == "65534"), "{field}: {ids}");
    }
    ensure!(status_field(agent.pid(), "Groups")?.is_empty(), "groups: {}", status_field(agent.pid(), "Groups")?);
    drops_capabilities(&agent)?;
    goes_on_reading(&agent)?;
    drops_capabilities(&agent)
}

fn keeps_its_user() -> Result<()> {
    let agent = Agent::start(&["--user", "keep"])?;
    let ids = status_field(agent.pid(), "Uid")?;
    ensure!(ids.split_whitespace().all(|id| id == "0"), "Uid: {ids}");
    drops_capabilities(&agent)?;
    goes_on_reading(&agent)
}
