//! Echo requests from a raw socket, each answered before the next goes out.

use super::{converse, not_understood};
use anyhow::{Context as _, Result, bail};
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv, send, setsockopt,
        socket, sockopt,
    },
    time::TimeVal,
};
use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
};

const HEADER: usize = 8;

/// Understands `ping COUNT`.
#[derive(clap::Args)]
pub(super) struct Ping {
    #[arg(long)]
    to: IpAddr,
    /// Payload of a request.
    #[arg(long)]
    size: usize,
}

impl Ping {
    pub(super) fn run(self) -> Result<()> {
        let (family, protocol) = match self.to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).context("open a raw socket")?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(20, 0))?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(self.to, 0)))?;
        converse("ready", |words| match words {
            ["ping", count] => {
                for sequence in 0..count.parse()? {
                    send(socket.as_raw_fd(), &self.request(sequence), MsgFlags::empty())?;
                    self.await_reply(socket.as_raw_fd(), sequence)?;
                }
                Ok("done".into())
            }
            other => not_understood(other),
        })
    }

    fn request(&self, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x42; HEADER + self.size];
        packet[..HEADER].fill(0);
        packet[0] = if self.to.is_ipv4() { 8 } else { 128 };
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        if self.to.is_ipv4() {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    fn await_reply(&self, socket: i32, sequence: u16) -> Result<()> {
        let mut buffer = [0; 2048];
        for _ in 0..64 {
            let length = recv(socket, &mut buffer, MsgFlags::empty()).context("no reply")?;
            // A raw IPv4 socket hands over the IP header too.
            let start = if self.to.is_ipv4() { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
            let reply = buffer.get(start..length).unwrap_or_default();
            let kind = if self.to.is_ipv4() { 0 } else { 129 };
            if reply.first() == Some(&kind) && reply.get(6..8) == Some(&sequence.to_be_bytes()) {
                return Ok(());
            }
        }
        bail!("no reply among 64 packets")
    }
}

fn checksum(packet: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in packet.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
