//! Datagrams: a sink, which may send each one back, and a sender, connected or not.

use super::{converse, handover, not_understood};
use crate::syscalls::disconnect;
use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Understands `count`: how many datagrams came so far.
#[derive(clap::Args)]
pub(super) struct Sink {
    #[arg(long)]
    bind: SocketAddr,
    /// Send each datagram back.
    #[arg(long)]
    echo: bool,
}

impl Sink {
    pub(super) fn run(self) -> Result<()> {
        let socket = UdpSocket::bind(self.bind).with_context(|| format!("bind {}", self.bind))?;
        // The counters under test count before the buffer; the sink's own count should miss nothing either.
        setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
        let ready = format!("ready {}", socket.local_addr()?);
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        std::thread::spawn(move || -> Result<()> {
            let mut buffer = vec![0; 65536];
            loop {
                let (bytes, from) = socket.recv_from(&mut buffer)?;
                if self.echo {
                    socket.send_to(&buffer[..bytes], from)?;
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        converse(&ready, |words| match words {
            ["count"] => Ok(count.load(Ordering::Relaxed).to_string()),
            other => not_understood(other),
        })
    }
}

/// Understands `send COUNT` (to each peer), `turn ADDRESS COUNT` (to whom it connects anew), `leave ADDRESS COUNT` (by name, connected to nobody any more), `pace COUNT PER_SECOND` and `give SOCKET`; a
/// closed port counts as sent.
#[derive(clap::Args)]
pub(super) struct Talk {
    /// The peers. One: the socket is connected, unless `--unconnected`.
    #[arg(long)]
    to: Vec<SocketAddr>,
    #[arg(long)]
    unconnected: bool,
    /// Connect the socket to this peer; what goes to another is sent there by name.
    #[arg(long)]
    connect: Option<SocketAddr>,
    /// Payload of a datagram.
    #[arg(long)]
    size: usize,
    /// Let the kernel cut what is sent into datagrams of this size.
    #[arg(long)]
    segment: Option<i32>,
    /// Receive the socket from another worker instead of making one.
    #[arg(long)]
    take: Option<PathBuf>,
    #[arg(long)]
    bind: Option<SocketAddr>,
}

impl Talk {
    pub(super) fn run(self) -> Result<()> {
        let socket = self.socket()?;
        if let Some(size) = self.segment {
            setsockopt(&socket, sockopt::UdpGsoSegment, &size)?;
        }
        let mut socket = Some(socket);
        let payload = vec![0x5a; self.size];
        converse("ready", |words| {
            match words {
                ["send", count] => {
                    let open = socket.as_ref().context("the socket was given away")?;
                    self.send(open, &payload, count.parse()?)?;
                }
                ["turn", to, count] => {
                    let open = socket.as_ref().context("the socket was given away")?;
                    open.connect(to).with_context(|| format!("connect to {to}"))?;
                    for _ in 0..count.parse()? {
                        open.send(&payload)?;
                    }
                }
                ["leave", to, count] => {
                    let open = socket.as_ref().context("the socket was given away")?;
                    disconnect(open).context("connect to nobody")?;
                    for _ in 0..count.parse()? {
                        open.send_to(&payload, to)?;
                    }
                }
                ["pace", count, per_second] => {
                    let open = socket.as_ref().context("the socket was given away")?;
                    self.pace(open, &payload, count.parse()?, per_second.parse()?)?;
                }
                ["give", path] => {
                    let given = socket.take().context("the socket was given away")?;
                    handover::give(path.as_ref(), given)?;
                }
                other => return not_understood(other),
            }
            Ok("done".into())
        })
    }

    /// Whom the socket is connected to.
    fn connected(&self) -> Option<SocketAddr> {
        let only = self.to.first().copied().filter(|_| self.to.len() == 1 && !self.unconnected);
        self.connect.or(only)
    }

    fn socket(&self) -> Result<UdpSocket> {
        if let Some(path) = &self.take {
            let door = UnixListener::bind(path)?;
            super::say("ready")?;
            return Ok(handover::take(&door)?.into());
        }
        let peer = self.to.first().context("no peer")?;
        let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(self.bind.unwrap_or(any.parse()?))?;
        if let Some(connected) = self.connected() {
            socket.connect(connected)?;
        }
        Ok(socket)
    }

    fn send(&self, socket: &UdpSocket, payload: &[u8], count: u64) -> Result<()> {
        for round in 0..count {
            for (index, peer) in self.to.iter().enumerate() {
                self.send_one(socket, payload, peer)?;
                // A backlog holds a thousand packets: leave the receiver's softirq room.
                if (round as usize * self.to.len() + index) % 64 == 63 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        }
        Ok(())
    }

    fn send_one(&self, socket: &UdpSocket, payload: &[u8], peer: &SocketAddr) -> Result<()> {
        let is_connected = self.connected() == Some(*peer);
        let sent = if is_connected { socket.send(payload) } else { socket.send_to(payload, peer) };
        let sent = sent.with_context(|| format!("send to {peer}"))?;
        ensure!(sent == payload.len(), "sent {sent} bytes of {}", payload.len());
        Ok(())
    }

    /// Sends evenly, against absolute times, so that the rate does not drift.
    fn pace(&self, socket: &UdpSocket, payload: &[u8], count: u64, per_second: u64) -> Result<()> {
        let start = Instant::now();
        let peer = self.to.first().context("no peer")?;
        for index in 0..count {
            let due = start + Duration::from_nanos(index * 1_000_000_000 / per_second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.send_one(socket, payload, peer)?;
        }
        Ok(())
    }
}
