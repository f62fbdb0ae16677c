//! The frames on a device that belong to no socket of a test: ARP, and what ICMP of version 6 and IGMP say about
//! neighbours, routers and groups. Devices count them; the books of a test's cgroup do not.

use crate::{
    page::{Counted, Traffic},
    syscalls::{self, FilterStep},
    truth::LINK_HEADER,
};
use anyhow::{Context as _, Result};
use std::os::fd::{AsFd as _, OwnedFd};

const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ABOVE: u16 = 0x35;
const RETURN: u16 = 0x06;
const ACCEPT: u32 = 0x4_0000;

/// ARP; IPv4 that is IGMP; IPv6 with a hop-by-hop header (listener reports), or ICMP of version 6 of type 130 and above.
const FILTER: [FilterStep; 12] = [
    (LOAD_HALF, 0, 0, 12),
    (JUMP_EQUAL, 9, 0, 0x0806),
    (JUMP_EQUAL, 0, 2, 0x0800),
    (LOAD_BYTE, 0, 0, 23),
    (JUMP_EQUAL, 6, 7, 2),
    (JUMP_EQUAL, 0, 6, 0x86dd),
    (LOAD_BYTE, 0, 0, 20),
    (JUMP_EQUAL, 3, 0, 0),
    (JUMP_EQUAL, 0, 3, 58),
    (LOAD_BYTE, 0, 0, 54),
    (JUMP_ABOVE, 0, 1, 130),
    (RETURN, 0, 0, ACCEPT),
];
const REFUSE: FilterStep = (RETURN, 0, 0, 0);

/// Counts from when it was opened.
pub(crate) struct Census {
    socket: OwnedFd,
    seen: Traffic,
}

impl Census {
    /// Opens it for a device of the current namespace.
    pub(crate) fn open(device: &str) -> Result<Self> {
        let index = nix::net::if_::if_nametoindex(device).with_context(|| format!("find {device}"))?;
        let filter: Vec<FilterStep> = FILTER.into_iter().chain([REFUSE]).collect();
        Ok(Self { socket: syscalls::packet_socket(index, &filter)?, seen: Traffic::default() })
    }

    /// L3 bytes and packets sent and received so far, as four numbers.
    pub(crate) fn count(&mut self) -> Result<String> {
        while let Some(frame) = syscalls::next_frame(self.socket.as_fd())? {
            let counted = Counted { bytes: frame.bytes - LINK_HEADER, packets: 1 };
            if frame.outgoing {
                self.seen.transmit += counted;
            } else {
                self.seen.receive += counted;
            }
        }
        let Traffic { transmit, receive } = self.seen;
        Ok(format!("{} {} {} {}", transmit.bytes, transmit.packets, receive.bytes, receive.packets))
    }
}

/// What [`Census::count`] said.
pub(crate) fn parse(line: &str) -> Result<Traffic> {
    let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [sent, sent_packets, received, received_packets] = numbers[..] else {
        anyhow::bail!("{line:?} is not four numbers");
    };
    Ok(Traffic {
        transmit: Counted { bytes: sent, packets: sent_packets },
        receive: Counted { bytes: received, packets: received_packets },
    })
}
