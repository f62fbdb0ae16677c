//! How the agent ends by a signal, whatever its clients are doing: within a second, with everything detached.

use crate::{
    agent::{Agent, left_behind},
    cgroup::Cgroup,
    machine::patience,
    syscalls::BpfKind,
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::{
    signal::Signal,
    socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt},
};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("sigterm_ends_it_within_a_second_with_everything_detached", Place::Both, &[Need::Root], || {
            ends_in_time(Agent::start(&[])?, Signal::SIGTERM)
        }),
        test("sigint_ends_it_within_a_second_with_everything_detached", Place::Both, &[Need::Root], || {
            ends_in_time(Agent::start(&[])?, Signal::SIGINT)
        }),
        test("sigterm_ends_it_within_a_second_beside_connections_that_say_nothing", Place::Both, &[Need::Root], idle),
        test("sigterm_ends_it_within_a_second_during_a_scrape_that_is_not_read", Place::Both, &[Need::Root], in_flight),
        test("kill_9_leaves_nothing_attached", Place::Both, &[Need::Root], kill_leaves_nothing),
    ]
}

/// Ends it and holds it to its second: the process is gone and no link is left.
fn ends_in_time(agent: Agent, signal: Signal) -> Result<()> {
    let objects = agent.kernel_objects()?;
    let links: Vec<_> = objects.iter().copied().filter(|(kind, _)| *kind == BpfKind::Link).collect();
    ensure!(!links.is_empty(), "no link among {objects:?}");
    let limit = patience(Duration::from_secs(1));
    let (status, took, log) = agent.end(signal)?;
    ensure!(status.code() == Some(0), "{status}\n{log}");
    ensure!(took <= limit, "took {took:?}\n{log}");
    let attached = left_behind(&links, limit.saturating_sub(took))?;
    ensure!(attached.is_empty(), "ended after {took:?}, but attached after {limit:?}: {attached:?}");
    // The kernel frees what nobody uses any more in its own time.
    let left = left_behind(&objects, patience(Duration::from_secs(2)))?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

fn kill_leaves_nothing() -> Result<()> {
    let agent = Agent::start(&[])?;
    let objects = agent.kernel_objects()?;
    ensure!(objects.iter().any(|(kind, _)| *kind == BpfKind::Link), "no link among {objects:?}");
    agent.end(Signal::SIGKILL)?;
    let left = left_behind(&objects, patience(Duration::from_secs(5)))?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    // And the next one starts as if nothing had been.
    Agent::start(&[]).map(drop)
}

/// Ten of each: never said a word, stopped in the middle of one, had an answer and stayed.
fn idle() -> Result<()> {
    let agent = Agent::start(&[])?;
    let mut open = Vec::new();
    for words in ["", "GET /metrics HT", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"] {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(agent.address)?;
            stream.set_read_timeout(Some(patience(Duration::from_secs(5))))?;
            stream.write_all(words.as_bytes())?;
            if words.ends_with("\r\n\r\n") {
                let mut start = [0; 15];
                stream.read_exact(&mut start).context("the answer of /healthz")?;
                ensure!(start == *b"HTTP/1.1 200 OK", "{}", String::from_utf8_lossy(&start));
            }
            open.push(stream);
        }
    }
    ends_in_time(agent, Signal::SIGTERM)
}

fn in_flight() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&[])?;
    let _cgroups = fill_page(&folder)?;
    let mut reader = slow_reader(agent.address)?;
    reader.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    ensure!(reader.peek(&mut [0])? == 1, "no answer has begun");
    ends_in_time(agent, Signal::SIGTERM)?;
    let mut came = Vec::new();
    // Cut off with a reset, perhaps.
    let _ = reader.read_to_end(&mut came);
    let head = came.windows(4).position(|four| four == b"\r\n\r\n").context("no whole head came")?;
    let body = came.len() - head - 4;
    let head = String::from_utf8_lossy(&came[..head]).to_lowercase();
    let whole: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .context("an answer without its length")?
        .trim()
        .parse()?;
    ensure!(body < whole, "all {whole} bytes had gone: nothing was in flight");
    Ok(())
}

/// Two hundred cgroups, each with a wait: 345 kB of page, of which some 90 kB go into the buffers of such a connection.
fn fill_page(folder: &Cgroup) -> Result<Vec<Cgroup>> {
    let mut worker = Worker::start(Seat::in_cgroup(folder), ["spin"])?;
    let mut cgroups = Vec::new();
    for number in 0..200 {
        let cgroup = folder.child(format!("page{number}"))?;
        worker.ask(&format!("join {}", cgroup.path().display()))?;
        worker.ask("spin 0")?;
        cgroups.push(cgroup);
    }
    Ok(cgroups)
}

/// A connection that holds little between the ends.
fn slow_reader(address: SocketAddr) -> Result<TcpStream> {
    let SocketAddr::V4(address) = address else { bail!("{address} is not of version 4") };
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::RcvBuf, &4096)?;
    // The sender's buffer follows from it.
    setsockopt(&socket, sockopt::TcpMaxSeg, &536)?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience(Duration::from_secs(5))))?;
    Ok(stream)
}
