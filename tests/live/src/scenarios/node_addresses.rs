//! The node's own addresses, those of the first moment and later ones.

use super::{ends::Ends, node_device::NodeDevice, scopes::datagrams, wire::any_port};
use crate::{
    agent::Agent,
    cgroup::Cgroup,
    machine::wait_until,
    netns::{Offloads, SERVER_PUBLIC_V4, Wire},
    page::Traffic,
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![
        test("an_address_of_this_node_is_node", Place::Both, NEEDS, own_addresses_are_node),
        test("an_address_that_the_node_gets_later_becomes_node", Place::Both, NEEDS, later_addresses_are_node),
    ]
}

fn own_addresses_are_node() -> Result<()> {
    let _device = NodeDevice::make(&["198.51.100.7/32", "2001:db8:77::7/128"])?;
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&[])?;
    for (name, address) in [("v4", "198.51.100.7"), ("v6", "2001:db8:77::7")] {
        let (client, server) = (folder.child(format!("client-{name}"))?, folder.child(format!("server-{name}"))?);
        let sink = Worker::start(Seat::in_cgroup(&server), ["udp-sink", "--bind", &any_port(address)?, "--echo"])?;
        let mut talk = Worker::start(Seat::in_cgroup(&client), ["udp-talk", "--to", &sink.greeting, "--size", "100"])?;
        talk.ask("send 30")?;
        std::thread::sleep(Duration::from_millis(200));
        let page = agent.scrape()?;
        let expected = datagrams(30, 100, name == "v6");
        for cgroup in [&client, &server] {
            let scoped = page.scoped_traffic(&cgroup.label, "node")?;
            ensure!(scoped == expected, "{}: {scoped}, not {expected}\n{}", cgroup.label, agent.log_text());
        }
    }
    Ok(())
}

/// Another namespace talks to an address that this node gets while the agent runs: seen from there the node is `node`,
/// since it is an address of this node; so the same socket changes its scope.
fn later_addresses_are_node() -> Result<()> {
    let wire = Wire::direct(Offloads::Off)?;
    let mut ends = Ends::new(wire, &[])?;
    let to = ends.serve_udp(SERVER_PUBLIC_V4)?;
    let mut talk = ends.client_worker(&["udp-talk", "--to", &to, "--size", "100"])?;
    talk.ask("send 10")?;
    let (page, ..) = ends.still_page()?;
    let as_internet = page.scoped_traffic(&ends.client.label, "internet")?;
    ensure!(as_internet == datagrams(10, 100, false), "before: {as_internet}");
    let _device = NodeDevice::make(&[&format!("{SERVER_PUBLIC_V4}/32")])?;
    // The agent learns of it at one of its next samples.
    let mut sent = 10;
    let learned = wait_until(Duration::from_secs(15), || {
        talk.ask("send 10")?;
        sent += 10;
        std::thread::sleep(Duration::from_millis(200));
        Ok(ends.agent.scrape()?.scoped_traffic(&ends.client.label, "node")? != Traffic::default())
    })?;
    ensure!(learned, "{SERVER_PUBLIC_V4} never became an address of the node");
    let (page, ..) = ends.still_page()?;
    let all = page.traffic(&ends.client.label)?;
    ensure!(all == datagrams(sent, 100, false), "{all} after {sent} datagrams");
    Ok(())
}
