//! A wire with a cgroup at each end and an agent that watches: what most tests of traffic start from.

use super::{run_queue::last_cpu, wire::any_port};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::{self, wait_until},
    netns::Wire,
    page::{Counted, Page, Traffic},
    worker::{Seat, Worker},
};
use anyhow::{Result, bail, ensure};
use std::time::Duration;

pub(super) struct Ends {
    pub(super) agent: Agent,
    pub(super) wire: Wire,
    pub(super) client: Cgroup,
    pub(super) server: Cgroup,
    /// Workers that serve until the test is over.
    serving: Vec<Worker>,
    start: (Traffic, Traffic),
    /// What the listeners of the client's end and of the server's end sent past the programs.
    unseen: (Counted, Counted),
    // Last: what is in it has to go first.
    pub(super) folder: Cgroup,
}

impl Ends {
    /// Starts an agent with `arguments` on top of the usual ones.
    pub(super) fn new(mut wire: Wire, arguments: &[&str]) -> Result<Self> {
        let folder = Cgroup::for_test()?;
        let (client, server) = (folder.child("client")?, folder.child("server")?);
        let agent = Agent::start(arguments)?;
        let start = (wire.near.traffic()?, wire.far.traffic()?);
        Ok(Self { agent, wire, client, server, serving: Vec::new(), start, unseen: Default::default(), folder })
    }

    pub(super) fn client_seat<'a>(&self, cgroup: &'a Cgroup) -> Seat<'a> {
        Seat { cgroup: Some(cgroup), ..self.wire.client.seat() }
    }

    pub(super) fn client_worker(&self, job: &[&str]) -> Result<Worker> {
        Worker::start(self.client_seat(&self.client), job)
    }

    pub(super) fn server_worker(&self, job: &[&str]) -> Result<Worker> {
        Worker::start(Seat { cgroup: Some(&self.server), ..self.wire.server.seat() }, job)
    }

    /// Three spinners on the last CPU, in a cgroup of their own, for as long as they are there.
    pub(super) fn spinners(&self) -> Result<(Cgroup, Vec<Worker>)> {
        let busy = self.folder.child("busy")?;
        let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(&busy) };
        let mut spinners = (0..3).map(|_| Worker::start(seat, ["spin"])).collect::<Result<Vec<_>>>()?;
        spinners.iter_mut().try_for_each(|worker| worker.tell("spin 600000"))?;
        Ok((busy, spinners))
    }

    /// A TCP server at the far end; returns where it listens.
    pub(super) fn serve_tcp(&mut self, address: &str) -> Result<String> {
        self.unseen.1 += unseen_answer(address);
        self.serve(&["tcp-serve", "--bind", &any_port(address)?])
    }

    /// A TCP server at the near end, for one connection.
    pub(super) fn client_serves_tcp(&mut self, address: &str) -> Result<Worker> {
        self.unseen.0 += unseen_answer(address);
        self.client_worker(&["tcp-serve", "--bind", &any_port(address)?])
    }

    /// One more connection is made to a server that [`serve_tcp`](Self::serve_tcp) started.
    pub(super) fn unseen_once_more(&mut self, address: &str) {
        self.unseen.1 += unseen_answer(address);
    }

    /// A UDP server at the far end that sends everything back; returns where it listens.
    pub(super) fn serve_udp(&mut self, address: &str) -> Result<String> {
        self.serve(&["udp-sink", "--bind", &any_port(address)?, "--echo"])
    }

    pub(super) fn serve(&mut self, job: &[&str]) -> Result<String> {
        let worker = self.server_worker(job)?;
        let address = worker.greeting.clone();
        self.serving.push(worker);
        Ok(address)
    }

    /// Waits until the wire carries nothing any more.
    pub(super) fn await_echoes(&mut self) -> Result<()> {
        let raw = |ends: &Self| -> Result<_> { Ok((ends.wire.near.raw()?, ends.wire.far.raw()?)) };
        let mut last = raw(self)?;
        let mut quiet = 0;
        let still = wait_until(Duration::from_secs(10), || {
            std::thread::sleep(Duration::from_millis(60));
            let now = raw(self)?;
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
            Ok(quiet == 3)
        })?;
        ensure!(still, "the wire does not come to rest");
        Ok(())
    }

    /// What the sockets' traffic on both devices came to since the start.
    pub(super) fn devices(&mut self) -> Result<(Traffic, Traffic)> {
        Ok((self.wire.near.traffic()? - self.start.0, self.wire.far.traffic()? - self.start.1))
    }

    /// A page that was read while nothing moved, with the devices' figures of that moment.
    pub(super) fn still_page(&mut self) -> Result<(Page, Traffic, Traffic)> {
        self.await_echoes()?;
        for _ in 0..20 {
            let before = self.devices()?;
            let page = self.agent.scrape()?;
            if self.devices()? == before {
                return Ok((page, before.0, before.1));
            }
        }
        bail!("the wire does not come to rest")
    }

    /// The client's books, the server's books (both with what no program sees), the client's device, the server's device.
    pub(super) fn settled(&mut self) -> Result<(Traffic, Traffic, Traffic, Traffic)> {
        let (page, near, far) = self.still_page()?;
        let (mut client, mut server) = (page.traffic(&self.client.label)?, page.traffic(&self.server.label)?);
        client.transmit += self.unseen.0;
        server.transmit += self.unseen.1;
        Ok((client, server, near, far))
    }

    /// Holds both ends' books against the devices; returns the client's.
    pub(super) fn equal_devices(&mut self) -> Result<Traffic> {
        let (client, server, near, far) = self.settled()?;
        let compare = || {
            ensure!(client == near, "the client's books: {client}\nits device:         {near}");
            ensure!(server == far, "the server's books: {server}\nits device:         {far}");
            Ok(client)
        };
        explain(&self.agent, compare())
    }

    /// Holds the client's books against its device.
    pub(super) fn client_equals_device(&mut self) -> Result<Traffic> {
        let (client, _, near, _) = self.settled()?;
        explain(
            &self.agent,
            if client == near { Ok(client) } else { Err(anyhow::anyhow!("books: {client}\ndevice: {near}")) },
        )
    }
}

/// What a listener at `address` sends past the programs for one connection. Before 6.6 the kernel runs none on the answer to an
/// IPv6 SYN: 80 bytes with the options that Linux sends. docs/kernel.md tells users.
pub(super) fn unseen_answer(address: &str) -> Counted {
    if address.contains(':') && machine::kernel() < (6, 6) {
        Counted { bytes: 80, packets: 1 }
    } else {
        Counted::default()
    }
}
