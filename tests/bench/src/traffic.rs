//! Traffic of known shape, made by workers in network namespaces of their own.

use crate::{
    cpu::{self, Cpus, Taken},
    worker::Worker,
};
use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{setsockopt, sockopt},
};
use std::{
    fs,
    io::{BufRead as _, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    thread,
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
/// make one packet dearer than the next. A line asks for that many packets; the answer is what they
/// took.
pub(crate) fn flood() -> Result<()> {
    own_namespace()?;
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    setsockopt(&receiver, sockopt::RcvBuf, &1024).context("shrink the receive buffer")?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(receiver.local_addr()?)?;
    answer(|packets: u32| {
        let taken = Taken::by(|| send(&sender, packets))?;
        Ok(taken.to_string())
    })
}

/// One end of a veth pair. `up ADDRESS` names the end of the pair that was put into this namespace; `receive` opens a
/// UDP and a TCP port and answers with them; `udp ADDRESS N` sends so many packets and answers with what they took; `tcp
/// ADDRESS MIB` sends so much over a connection of its own and answers when all of it was read.
pub(crate) fn end() -> Result<()> {
    own_namespace()?;
    // What one connection learnt about the path must not make the next one slower or faster.
    fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1").context("set tcp_no_metrics_save")?;
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
            ["udp", to, packets] => send_udp(to, packets.parse()?)?.to_string(),
            ["tcp", to, mebibytes] => send_tcp(to, mebibytes.parse()?)?.to_string(),
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
    receiver: Worker,
    udp: String,
    tcp: String,
}

impl Pair {
    /// Starts both ends in a cgroup, the sender on one CPU and the receiver on the other.
    pub(crate) fn start(cpus: &Cpus, (one, other): (usize, usize), cgroup: &Path) -> Result<Self> {
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
        Ok(Self { sender, receiver, udp, tcp })
    }

    /// Sends UDP packets of 64 bytes.
    pub(crate) fn send_packets(&mut self, packets: u32) -> Result<Taken> {
        self.sender.ask(&format!("udp {} {packets}", self.udp))?.parse()
    }

    /// Sends so much over TCP until all of it was read. The CPU time is that of both ends.
    pub(crate) fn send_mebibytes(&mut self, mebibytes: u32) -> Result<Taken> {
        let used = |pair: &Self| {
            Ok::<_, anyhow::Error>(cpu::process_ns(pair.sender.pid())? + cpu::process_ns(pair.receiver.pid())?)
        };
        let before = used(self)?;
        let taken: Taken = self.sender.ask(&format!("tcp {} {mebibytes}", self.tcp))?.parse()?;
        Ok(taken.with_task_ns(used(self)? - before))
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

fn send_udp(to: &str, packets: u32) -> Result<Taken> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    Taken::by(|| send(&socket, packets))
}

fn send(socket: &UdpSocket, packets: u32) -> Result<()> {
    for _ in 0..packets {
        socket.send(&[0; SMALL])?;
    }
    Ok(())
}

/// The other end closes when it has read everything: so nothing that still waits in a buffer is counted too early.
fn send_tcp(to: &str, mebibytes: usize) -> Result<Taken> {
    let block = vec![0; WRITE];
    Taken::by(|| {
        let mut stream = TcpStream::connect(to)?;
        for _ in 0..mebibytes * 1024 * 1024 / WRITE {
            stream.write_all(&block)?;
        }
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
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
