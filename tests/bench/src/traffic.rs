//! Traffic of known shape, made by workers in network namespaces of their own.

use crate::cpu::thread_ns;
use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{setsockopt, sockopt},
};
use std::{
    io::{BufRead as _, Write as _},
    net::UdpSocket,
    process::Command,
    time::Instant,
};

/// Payload of a small packet, as the goals name it.
const SMALL: usize = 64;

/// Moves this process into a new network namespace with its loopback up; the namespace ends with the process.
fn own_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (root is needed)")?;
    ip("link set lo up")
}

/// Runs iproute2's `ip`.
pub(crate) fn ip(arguments: &str) -> Result<()> {
    let done = Command::new("ip").args(arguments.split(' ')).output().context("run ip (package iproute2)")?;
    if !done.status.success() {
        bail!("ip {arguments}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// Sends packets to a socket whose buffer is full: each passes both hooks, and nothing is woken or copied that would
/// make one packet dearer than the next. A line asks for that many packets; the answer is the nanoseconds
/// they took, by the wall clock and of this thread's CPU time.
pub(crate) fn flood() -> Result<()> {
    own_namespace()?;
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    setsockopt(&receiver, sockopt::RcvBuf, &1024).context("shrink the receive buffer")?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(receiver.local_addr()?)?;
    answer(|packets: u32| {
        let (start, start_cpu_ns) = (Instant::now(), thread_ns()?);
        for _ in 0..packets {
            sender.send(&[0; SMALL])?;
        }
        Ok(format!("{} {}", start.elapsed().as_nanos(), thread_ns()? - start_cpu_ns))
    })
}

/// Answers each number on stdin with a line on stdout, until stdin ends.
fn answer(mut work: impl FnMut(u32) -> Result<String>) -> Result<()> {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let number = line?.parse().context("a number of packets")?;
        writeln!(output, "{}", work(number)?)?;
        output.flush()?;
    }
    Ok(())
}
