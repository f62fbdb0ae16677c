//! Connections whose far end the node translates, as it does for services: their packets go elsewhere than they are told to.

use super::ends::Ends;
use crate::{
    netns::{Offloads, SERVER_PUBLIC_V4, SERVER_V4, Wire},
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Command("iptables")];
    vec![test(
        "a_translated_connection_has_the_scope_of_where_its_packets_go_in_both_directions",
        Place::Host,
        NEEDS,
        one_scope,
    )]
}

/// Told to go to the internet, sent to the intranet. What comes back carries the address of the internet again when the
/// programs see it.
fn one_scope() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let serve = ends.serve_tcp(SERVER_V4)?;
    let port = serve.rsplit(':').next().context("a server without a port")?;
    translate(&ends, SERVER_PUBLIC_V4, SERVER_V4)?;
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

fn translate(ends: &Ends, from: &str, to: &str) -> Result<()> {
    let rule = ["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", from, "-j", "DNAT", "--to-destination", to];
    let words: Vec<_> = ["exec", "iptables"].iter().chain(&rule).collect();
    let output = ends.wire.client.seat().command(words).output().context("start iptables")?;
    ensure!(output.status.success(), "iptables: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
