//! Network namespaces, and the wires between them: two ends on one wire, or two ends with a router between them.

use crate::{
    census,
    page::Traffic,
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    io::{Seek as _, Write as _},
    time::Duration,
};

/// A network namespace; gone when dropped.
pub(crate) struct Netns {
    holder: Worker,
}

impl Netns {
    /// One with its loopback up.
    pub(crate) fn make() -> Result<Self> {
        Self::with(&["namespace"])
    }

    /// One that forwards.
    pub(crate) fn make_router() -> Result<Self> {
        Self::with(&["namespace", "--router"])
    }

    fn with(job: &[&str]) -> Result<Self> {
        let netns = Self { holder: Worker::start(Seat::default(), job)? };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The process whose namespace it is.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.pid()
    }

    pub(crate) fn seat(&self) -> Seat<'static> {
        Seat { netns: Some(self.pid()), ..Seat::default() }
    }

    /// Runs `ip` with these words in it.
    pub(crate) fn ip(&self, words: &str) -> Result<()> {
        self.ip_lines(&[words.to_owned()])
    }

    /// Runs `ip` once with many lines of words: a process each takes long where everything is emulated.
    fn ip_lines(&self, lines: &[String]) -> Result<()> {
        let mut batch = tempfile::tempfile()?;
        writeln!(batch, "{}", lines.join("\n"))?;
        batch.rewind()?;
        let output = self.seat().command(["exec", "ip", "-batch", "-"]).stdin(batch).output().context("start ip")?;
        ensure!(output.status.success(), "ip {lines:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// A device in a namespace, with a count of what on it belongs to no socket.
pub(crate) struct Port {
    pid: u32,
    device: &'static str,
    census: Worker,
}

impl Port {
    fn open(netns: &Netns, device: &'static str) -> Result<Self> {
        let census = Worker::start(netns.seat(), ["census", "--device", device])?;
        Ok(Self { pid: netns.pid(), device, census })
    }

    /// What the device counted, link headers included, and everything on it.
    pub(crate) fn raw(&self) -> Result<Traffic> {
        truth::device(self.pid, self.device)
    }

    /// L3 traffic of sockets: the device's count without link headers and without ARP, neighbour and group talk.
    pub(crate) fn traffic(&mut self) -> Result<Traffic> {
        for _ in 0..20 {
            let before = self.raw()?;
            let noise = census::parse(&self.census.ask("count")?)?;
            if self.raw()? == before {
                return Ok(truth::without_link_headers(before) - noise);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} is never quiet", self.device)
    }
}

/// Which offloads the devices of a wire have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offloads {
    /// None: the devices count what a wire carries.
    Off,
    /// All.
    On,
    /// The client's side has them, the far side of the router has none.
    NearSide,
}

/// A client and a server, and what is between them.
pub(crate) struct Wire {
    pub(crate) client: Netns,
    pub(crate) server: Netns,
    router: Option<Netns>,
    /// The client's device.
    pub(crate) near: Port,
    /// The server's device.
    pub(crate) far: Port,
}

const CLIENT_MAC: &str = "02:00:00:00:07:01";
const SERVER_MAC: &str = "02:00:00:00:07:02";
const NEAR_ROUTER_MAC: &str = "02:00:00:00:07:03";
const FAR_ROUTER_MAC: &str = "02:00:00:00:07:04";

/// The client's addresses: private and public ones.
pub(crate) const CLIENT_V4: &str = "10.7.1.2";
pub(crate) const CLIENT_V6: &str = "fd07:1::2";
/// The server's.
pub(crate) const SERVER_V4: &str = "10.7.2.2";
pub(crate) const SERVER_V6: &str = "fd07:2::2";
pub(crate) const SERVER_PUBLIC_V4: &str = "203.0.113.2";
pub(crate) const SERVER_PUBLIC_V6: &str = "2001:db8:7::2";
pub(crate) const SERVER_SHARED_V4: &str = "100.64.7.2";
pub(crate) const SERVER_LINK_LOCAL_V4: &str = "169.254.7.2";

impl Wire {
    /// A veth pair between two namespaces.
    pub(crate) fn direct(offloads: Offloads) -> Result<Self> {
        let (client, server) = (Netns::make()?, Netns::make()?);
        link(&client, "client", CLIENT_MAC, &server, "server", SERVER_MAC)?;
        let (near, far) = (Port::open(&client, "client")?, Port::open(&server, "server")?);
        let on = offloads == Offloads::On;
        raise(&client, "client", on)?;
        raise(&server, "server", on)?;
        let wire = Self { client, server, router: None, near, far };
        wire.give_addresses(SERVER_MAC, CLIENT_MAC)?;
        Ok(wire)
    }

    /// A router between two veth pairs.
    pub(crate) fn routed(offloads: Offloads) -> Result<Self> {
        let (client, server, router) = (Netns::make()?, Netns::make()?, Netns::make_router()?);
        link(&client, "client", CLIENT_MAC, &router, "near", NEAR_ROUTER_MAC)?;
        link(&router, "far", FAR_ROUTER_MAC, &server, "server", SERVER_MAC)?;
        let (near, far) = (Port::open(&client, "client")?, Port::open(&server, "server")?);
        for (netns, device, on) in [
            (&client, "client", offloads != Offloads::Off),
            (&router, "near", offloads != Offloads::Off),
            (&router, "far", offloads == Offloads::On),
            (&server, "server", offloads == Offloads::On),
        ] {
            raise(netns, device, on)?;
        }
        let wire = Self { client, server, router: Some(router), near, far };
        wire.give_addresses(NEAR_ROUTER_MAC, FAR_ROUTER_MAC)?;
        wire.route()?;
        Ok(wire)
    }

    fn give_addresses(&self, clients_next: &str, servers_next: &str) -> Result<()> {
        // Every far address is a neighbour whose link address is known: the wire carries nothing but the test.
        let ends = [
            (&self.client, "client", CLIENT_ADDRESSES.as_slice(), SERVER_ADDRESSES.as_slice(), clients_next),
            (&self.server, "server", SERVER_ADDRESSES.as_slice(), CLIENT_ADDRESSES.as_slice(), servers_next),
        ];
        for (netns, device, own, others, next) in ends {
            let mut lines: Vec<String> = own.iter().map(|address| own_address(device, address)).collect();
            lines.extend(others.iter().flat_map(|address| neighbour(device, address, next)));
            netns.ip_lines(&lines)?;
        }
        Ok(())
    }

    fn route(&self) -> Result<()> {
        let router = self.router.as_ref().context("a routed wire")?;
        let near = CLIENT_ADDRESSES.iter().flat_map(|address| neighbour("near", address, CLIENT_MAC));
        let far = SERVER_ADDRESSES.iter().flat_map(|address| neighbour("far", address, SERVER_MAC));
        router.ip_lines(&near.chain(far).collect::<Vec<_>>())
    }

    /// From now on, one packet of `one_in` is lost between the ends, in each direction, until the worker ends.
    pub(crate) fn lose_one_in(&self, one_in: u32) -> Result<Worker> {
        let router = self.router.as_ref().context("only a wire with a router can lose")?;
        let one_in = one_in.to_string();
        Worker::start(router.seat(), ["lose", "--device", "near", "--device", "far", "--one-in", &one_in])
    }

    /// What stands between the ends of a routed wire.
    pub(crate) fn router(&self) -> Result<&Netns> {
        self.router.as_ref().context("a wire with a router")
    }

    /// Gives the server of a direct wire another address, from which it talks to the client from now on.
    pub(crate) fn move_server_to(&self, address: &str) -> Result<()> {
        let client = if address.contains(':') { CLIENT_V6 } else { CLIENT_V4 };
        self.client.ip_lines(&neighbour("client", address, SERVER_MAC))?;
        self.server
            .ip_lines(&[own_address("server", address), format!("route replace {client} dev server src {address}")])
    }

    /// Makes the server answer for a whole range of addresses.
    pub(crate) fn serve_range(&self, range: &str) -> Result<()> {
        self.server.ip(&format!("route add local {range} dev lo"))
    }
}

const CLIENT_ADDRESSES: [&str; 2] = [CLIENT_V4, CLIENT_V6];
const SERVER_ADDRESSES: [&str; 6] =
    [SERVER_V4, SERVER_V6, SERVER_PUBLIC_V4, SERVER_PUBLIC_V6, SERVER_SHARED_V4, SERVER_LINK_LOCAL_V4];

fn own_address(device: &str, address: &str) -> String {
    if address.contains(':') {
        format!("address add {address}/128 dev {device} nodad")
    } else {
        format!("address add {address}/32 dev {device}")
    }
}

fn link(left: &Netns, name: &str, mac: &str, right: &Netns, far_name: &str, far_mac: &str) -> Result<()> {
    left.ip(&format!(
        "link add {name} address {mac} type veth peer name {far_name} address {far_mac} netns {}",
        right.pid()
    ))
    .context("make a veth pair")
}

fn raise(netns: &Netns, device: &str, offloads: bool) -> Result<()> {
    let switch = if offloads { &["--on"][..] } else { &[] };
    netns.seat().run(["offloads", "--device", device].iter().chain(switch))?;
    netns.ip(&format!("link set {device} up"))
}

/// A route to one address over a device, and the link address to send to.
fn neighbour(device: &str, address: &str, mac: &str) -> [String; 2] {
    [
        format!("route add {address} dev {device}"),
        format!("neighbour add {address} lladdr {mac} dev {device} nud permanent"),
    ]
}
