//! Traffic of known shape, made by workers in network namespaces of their own.

use crate::{
    cpu::{self, Cpus, thread_ns},
    worker::Worker,
};
use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{setsockopt, sockopt},
};
use std::{
    io::{BufRead as _, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
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

/// One end of a veth pair. `up ADDRESS` names the end of the pair that was put into this namespace; `receive` opens a
/// UDP and a TCP port and answers with them; `udp ADDRESS MS` and `tcp ADDRESS MS` send for so long and answer with the
/// packets or bytes per second.
pub(crate) fn end() -> Result<()> {
    own_namespace()?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let reply = match words.as_slice() {
            ["up", address] => {
                ip(&format!("addr add {address} dev {DEVICE}"))?;
                ip(&format!("link set {DEVICE} up"))?;
                "up".to_owned()
            }
            ["receive"] => receive()?,
            ["udp", to, ms] => send_udp(to, Duration::from_millis(ms.parse()?))?.to_string(),
            ["tcp", to, ms] => send_tcp(to, Duration::from_millis(ms.parse()?))?.to_string(),
            _ => bail!("an end does not know how to {line}"),
        };
        println!("{reply}");
    }
    Ok(())
}

/// What the device of a pair is called, at both ends.
const DEVICE: &str = "bench0";

/// Two workers that a veth pair joins; each pair ends with its workers.
#[derive(Debug)]
pub(crate) struct Pair {
    sender: Worker,
    _receiver: Worker,
    udp: String,
    tcp: String,
}

impl Pair {
    /// Starts both ends in a cgroup, each on a CPU of its own if there are two.
    pub(crate) fn start(cpus: &Cpus, cgroup: &Path) -> Result<Self> {
        let (one, other) = cpus.two();
        cpu::pin_to(one)?;
        let mut sender = Worker::start(&["end"], Some(cgroup))?;
        cpu::pin_to(other)?;
        let mut receiver = Worker::start(&["end"], Some(cgroup))?;
        cpus.unpin()?;
        sender.hear()?;
        receiver.hear()?;
        let (near, far) = (sender.pid(), receiver.pid());
        ip(&format!("link add {DEVICE} netns {near} type veth peer name {DEVICE} netns {far}"))?;
        sender.ask("up 10.98.76.1/30")?;
        receiver.ask("up 10.98.76.2/30")?;
        let ports = receiver.ask("receive")?;
        let (udp, tcp) = ports.split_once(' ').context("two ports")?;
        let [udp, tcp] = [udp, tcp].map(|port| format!("10.98.76.2:{port}"));
        Ok(Self { sender, _receiver: receiver, udp, tcp })
    }

    /// UDP packets of 64 bytes per second.
    pub(crate) fn packets_per_second(&mut self, milliseconds: u32) -> Result<f64> {
        Ok(self.sender.ask(&format!("udp {} {milliseconds}", self.udp))?.parse()?)
    }

    /// TCP payload bytes per second.
    pub(crate) fn bytes_per_second(&mut self, milliseconds: u32) -> Result<f64> {
        Ok(self.sender.ask(&format!("tcp {} {milliseconds}", self.tcp))?.parse()?)
    }
}

/// Takes in whatever comes, on threads of their own.
fn receive() -> Result<String> {
    let udp = UdpSocket::bind("0.0.0.0:0")?;
    let tcp = TcpListener::bind("0.0.0.0:0")?;
    let ports = format!("{} {}", udp.local_addr()?.port(), tcp.local_addr()?.port());
    thread::spawn(move || while udp.recv(&mut [0; 2 * SMALL]).is_ok() {});
    thread::spawn(move || {
        let mut buffer = vec![0; WRITE];
        for mut stream in tcp.incoming().flatten() {
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
        }
    });
    Ok(ports)
}

/// Bytes of one write to a TCP socket, as iperf3 does.
const WRITE: usize = 128 * 1024;

fn send_udp(to: &str, time: Duration) -> Result<f64> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    let (start, mut packets) = (Instant::now(), 0u32);
    while start.elapsed() < time {
        for _ in 0..100 {
            socket.send(&[0; SMALL])?;
        }
        packets += 100;
    }
    Ok(f64::from(packets) / start.elapsed().as_secs_f64())
}

/// The other end closes when it has read everything: so nothing that still waits in a buffer is counted too early.
fn send_tcp(to: &str, time: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    let (start, mut bytes, block) = (Instant::now(), 0, vec![0; WRITE]);
    while start.elapsed() < time {
        stream.write_all(&block)?;
        bytes += WRITE;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
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
