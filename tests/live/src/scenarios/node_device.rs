//! A device of the tests among the node's own, with addresses that nobody else has; and a hole behind it, into which the
//! tests alone send.

use crate::{
    netns::Netns,
    worker::{Seat, Worker},
};
use anyhow::Result;
use std::sync::atomic::{AtomicU32, Ordering};

/// Gone with the namespace at its other end, where it is called `end`.
pub(super) struct NodeDevice {
    netns: Netns,
}

impl NodeDevice {
    /// One that is up and has these addresses, each with its length.
    pub(super) fn make(addresses: &[&str]) -> Result<Self> {
        // The kernel takes devices away in its own time: no two have the same name.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ol{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let netns = Netns::make()?;
        ip(&format!("link add {name} type veth peer name end netns {}", netns.pid()))?;
        ip(&format!("link set {name} up"))?;
        netns.ip("link set end up")?;
        for address in addresses {
            let flags = if address.contains(':') { " nodad" } else { "" };
            ip(&format!("address add {address} dev {name}{flags}"))?;
        }
        Ok(Self { netns })
    }
}

fn ip(words: &str) -> Result<()> {
    Seat::default().run(["exec", "ip"].into_iter().chain(words.split(' '))).map(drop)
}

/// Takes every datagram and answers none. It is an address of the node, so what goes there has the scope `node`, and
/// that has nothing of anybody but the tests.
pub(super) struct Hole {
    device: NodeDevice,
}

const HOLE: &str = "198.51.100.9";
const BEFORE_THE_HOLE: &str = "198.51.100.10";
/// Nobody's link address: the node's device drops what comes for it.
const NOWHERE: &str = "02:00:00:00:07:99";

impl Hole {
    /// One that an agent started from now on knows for an address of its node.
    pub(super) fn dig() -> Result<Self> {
        let device = NodeDevice::make(&[&format!("{HOLE}/32")])?;
        for words in [
            format!("address add {BEFORE_THE_HOLE}/32 dev end"),
            format!("route add {HOLE} dev end"),
            format!("neighbour add {HOLE} lladdr {NOWHERE} dev end nud permanent"),
        ] {
            device.netns.ip(&words)?;
        }
        Ok(Self { device })
    }

    /// A worker that sends datagrams of 200 bytes into it, 228 on the wire.
    pub(super) fn sender(&self, seat: Seat<'_>) -> Result<Worker> {
        self.sender_of(seat, &["--size", "200"])
    }

    /// A worker that sends other ones.
    pub(super) fn sender_of(&self, seat: Seat<'_>, datagrams: &[&str]) -> Result<Worker> {
        let seat = Seat { netns: Some(self.device.netns.pid()), ..seat };
        Worker::start(seat, [&["udp-talk", "--to", &format!("{HOLE}:7")], datagrams].concat())
    }
}
