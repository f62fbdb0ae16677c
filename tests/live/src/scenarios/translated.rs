//! Connections whose far end the node translates, as it does for services: their packets go elsewhere than they are told to.

use super::ends::Ends;
use crate::{
    netns::{Netns, Offloads, SERVER_PUBLIC_V4, SERVER_V4, Wire},
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Command("iptables")];
    vec![
        test(
            "a_translated_connection_has_the_scope_of_where_its_packets_go_in_both_directions",
            Place::Host,
            NEEDS,
            one_scope,
        ),
        test("what_a_pod_sends_to_a_services_address_is_in_the_scope_service", Place::Host, NEEDS, service),
    ]
}

/// Told to go to the internet, sent to the intranet. What comes back carries the address of the internet again when the
/// programs see it.
fn one_scope() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let serve = ends.serve_tcp(SERVER_V4)?;
    let port = serve.rsplit(':').next().context("a server without a port")?;
    translate(&ends.wire.client, "OUTPUT", SERVER_PUBLIC_V4, SERVER_V4)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &format!("{SERVER_PUBLIC_V4}:{port}")])?;
    talk.ask("upload 3000000 write")?;
    talk.ask("download 2000000")?;
    talk.ask("upload 1000000 write")?;
    talk.ask("close")?;
    let (page, near, _) = ends.still_page()?;
    let (all, intranet) = (page.traffic(&ends.client.label)?, page.scoped_traffic(&ends.client.label, "intranet")?);
    ensure!(all == near, "all scopes: {all}; the device: {near}");
    ensure!(all.transmit.bytes > 4_000_000 && all.receive.bytes > 2_000_000, "{all}");
    ensure!(intranet == all, "of {all}, {intranet} is intranet, where all of it went");
    Ok(())
}

/// The node translates what leaves the pod's namespace, where the programs have seen it already: the far end is the service for whoever
/// asks it, and for whoever answers the one that asked.
fn service() -> Result<()> {
    let wire = Wire::routed(Offloads::Off)?;
    translate(wire.router()?, "PREROUTING", SERVER_PUBLIC_V4, SERVER_V4)?;
    let mut ends = Ends::new(wire, &["--service-cidr", "203.0.113.0/24", "--cluster-cidr", "10.7.0.0/16"])?;
    let serve = ends.serve_tcp(SERVER_V4)?;
    let port = serve.rsplit(':').next().context("a server without a port")?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &format!("{SERVER_PUBLIC_V4}:{port}")])?;
    talk.ask("upload 3000000 write")?;
    talk.ask("download 2000000")?;
    talk.ask("close")?;
    let (page, near, far) = ends.still_page()?;
    let (asks, answers) =
        (page.scoped_traffic(&ends.client.label, "service")?, page.scoped_traffic(&ends.server.label, "cluster")?);
    ensure!(asks == near, "the one that asks: {asks}; its device: {near}");
    ensure!(answers == far, "the one that answers: {answers}; its device: {far}");
    Ok(())
}

fn translate(netns: &Netns, chain: &str, from: &str, to: &str) -> Result<()> {
    let rule = ["-t", "nat", "-A", chain, "-p", "tcp", "-d", from, "-j", "DNAT", "--to-destination", to];
    let words: Vec<_> = ["exec", "iptables"].iter().chain(&rule).collect();
    let output = netns.seat().command(words).output().context("start iptables")?;
    ensure!(output.status.success(), "iptables: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
