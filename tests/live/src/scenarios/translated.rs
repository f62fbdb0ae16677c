//! Connections whose far end the node translates, as it does for services: their packets go elsewhere than they are told to.

use super::{
    dns::{at_port_53, server},
    ends::Ends,
    flows::port,
};
use crate::{
    agent::explain,
    dns::Dns,
    flows::{Flows, whois},
    netns::{
        CLIENT_V4, CLIENT_V6, Netns, Offloads, SERVER_PUBLIC_V4, SERVER_PUBLIC_V6, SERVER_SHARED_V4, SERVER_V4,
        SERVER_V6, Wire,
    },
    trial::{Need, Place, test},
    worker::{Worker, dns::SLOW},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Command("iptables")];
    vec![
        test(
            "a_translated_connection_has_the_scope_of_where_its_packets_go_in_both_directions",
            Place::Host,
            NEEDS,
            one_scope,
        ),
        test("a_dns_server_behind_a_service_answers_as_the_service", Place::Host, NEEDS, dns_service),
        test("where_the_node_follows_no_packets_whoever_answers_dns_counts", Place::Host, NEEDS, dns_not_followed),
        test("what_a_pod_sends_to_a_services_address_is_in_the_scope_service", Place::Host, NEEDS, service),
        test(
            "who_stands_behind_a_service_is_told_by_the_nodes_connections_and_counted_once",
            Place::Host,
            NEEDS,
            behind,
        ),
        test("without_the_nodes_table_of_connections_it_is_told_what_is_missing", Place::Host, NEEDS, no_table),
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

/// What is asked of a service leaves for its server, and what comes back comes from the service again, to sockets of every kind.
fn dns_service() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let mut servers = Vec::new();
    for (service, address, other) in
        [(SERVER_PUBLIC_V4, SERVER_V4, CLIENT_V4), (SERVER_PUBLIC_V6, SERVER_V6, CLIENT_V6)]
    {
        servers.push(server(&ends, address)?.0);
        translate(&ends.wire.client, "OUTPUT", service, address)?;
        let mut ask = ends.client_worker(&["dns-ask", "--to", &at_port_53(service)?])?;
        for line in ["udp a.example.org 3", "stranger a.example.org 4", "tcp a.example.org 2"] {
            ask.ask(line)?;
        }
        // Before the service, somebody whom nobody asked.
        ask.ask(&format!("interrupted slow.example.org 2 {}", at_port_53(other)?))?;
    }
    let mapped = at_port_53(&format!("::ffff:{SERVER_PUBLIC_V4}"))?;
    ends.client_worker(&["dns-ask", "--to", &mapped])?.ask("stranger a.example.org 3")?;
    ensure!((servers[0].ask("count")?, servers[1].ask("count")?) == ("14 14".into(), "11 11".into()));
    let (dns, _) = Dns::after(&ends.agent, &ends.client.label, 25, 25)?;
    let outcome = || {
        ensure!((dns.queries, dns.answered(), dns.unasked, dns.unanswered) == (25, 25, 4, 0), "{dns:?}");
        ensure!(dns.waited_ns >= 4 * SLOW.as_nanos() as u64, "not the services' answers were timed: {dns:?}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

/// Where the node is told not to follow packets, somebody else may translate them: nobody knows who was asked.
fn dns_not_followed() -> Result<()> {
    const FORGED: &str = "203.0.113.66";
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let _server = server(&ends, SERVER_V4)?;
    iptables(&ends.wire.client, &["-t", "raw", "-A", "OUTPUT", "-p", "udp", "-j", "NOTRACK"])?;
    let mut ask = ends.client_worker(&["dns-ask", "--to", &at_port_53(SERVER_V4)?])?;
    ask.ask(&format!("interrupted slow.example.org 3 {}", at_port_53(CLIENT_V4)?))?;
    let (dns, _) = Dns::after(&ends.agent, &ends.client.label, 3, 3)?;
    let outcome = || {
        ensure!((dns.queries, dns.answered(), dns.unasked, dns.unanswered) == (3, 3, 3, 0), "{dns:?}");
        let told = whois(&ends.agent, FORGED)?;
        ensure!(told["looked_up"][0]["name"] == "slow.example.org", "{told}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

/// The node translates what leaves the pod's namespace, where the programs have seen it already: the far end is the service for whoever
/// asks it, and for whoever answers the one that asked.
fn service() -> Result<()> {
    let wire = Wire::routed(Offloads::Off)?;
    translate(wire.router()?, "PREROUTING", SERVER_PUBLIC_V4, SERVER_V4)?;
    let mut ends = Ends::new(wire, &SERVICES)?;
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

const SERVICES: [&str; 4] = ["--service-cidr", "203.0.113.0/24,100.64.7.0/24", "--cluster-cidr", "10.7.0.0/16"];

/// Two programs speak to a service, one of them in two connections, and one of them to another service, too.
fn behind() -> Result<()> {
    let wire = Wire::routed(Offloads::Off)?;
    translate(wire.router()?, "PREROUTING", SERVER_PUBLIC_V4, SERVER_V4)?;
    translate(wire.router()?, "PREROUTING", SERVER_SHARED_V4, SERVER_V4)?;
    let network = format!("/proc/{}/net", wire.router()?.pid());
    let mut ends = Ends::new(wire, &[&SERVICES[..], &["--net-path", &network]].concat())?;
    let (one, two) = (port(&ends.serve_tcp(SERVER_V4)?)?, port(&ends.serve_tcp(SERVER_V4)?)?);
    let other = ends.folder.child("other")?;
    for (cgroup, to, bytes) in [
        (&ends.client, format!("{SERVER_PUBLIC_V4}:{one}"), 3_000_000),
        (&ends.client, format!("{SERVER_PUBLIC_V4}:{one}"), 1_000_000),
        (&ends.client, format!("{SERVER_SHARED_V4}:{two}"), 2_000_000),
        (&other, format!("{SERVER_PUBLIC_V4}:{two}"), 1_000_000),
    ] {
        let mut talk = Worker::start(ends.client_seat(cgroup), ["tcp-talk", "--to", &to])?;
        talk.ask(&format!("upload {bytes} write"))?;
        talk.ask("close")?;
    }
    let (flows, page) = Flows::at_rest(&ends.agent, &ends.client.label)?;
    let (sum, books) = (flows.sum(), page.traffic(&ends.client.label)?);
    ensure!(sum == books, "the flows: {sum}\nthe books: {books}");
    let others = Flows::at_rest(&ends.agent, &other.label)?.0;
    for (flows, to, port, connections) in
        [(&flows, SERVER_PUBLIC_V4, one, 2), (&flows, SERVER_SHARED_V4, two, 1), (&others, SERVER_PUBLIC_V4, two, 1)]
    {
        let flow = flows.only(|flow| flow.text("remote_address") == to && flow.number("remote_port") == port)?;
        let expected = json!([{ "address": SERVER_V4, "port": port, "connections": connections }]);
        ensure!(*flow.of("behind") == expected, "{flow:?}");
    }
    let answering = Flows::at_rest(&ends.agent, &ends.server.label)?.0;
    ensure!(answering.all.iter().all(|flow| flow.of("behind").is_null()), "{:#?}", answering.all);
    let row = |port, connections| json!({ "address": SERVER_V4, "port": port, "connections": connections });
    let told = whois(&ends.agent, SERVER_PUBLIC_V4)?;
    ensure!(told["behind"] == json!([row(one, 2), row(two, 1)]), "{told}");
    let told = whois(&ends.agent, &format!("{SERVER_PUBLIC_V4}:{two}"))?;
    ensure!(told["behind"] == json!([row(two, 1)]), "{told}");
    let told = whois(&ends.agent, SERVER_V4)?;
    ensure!(told["behind"].is_null(), "{told}");
    Ok(())
}

/// The first process's network has no such file where this one's is not that, and a directory without it is like a kernel without it.
fn no_table() -> Result<()> {
    let empty = tempfile::tempdir()?;
    std::fs::write(empty.path().join("dev"), "")?;
    std::fs::write(empty.path().join("fib_trie"), "")?;
    let path = empty.path().to_str().context("a path")?;
    let wire = Wire::routed(Offloads::Off)?;
    translate(wire.router()?, "PREROUTING", SERVER_PUBLIC_V4, SERVER_V4)?;
    let mut ends = Ends::new(wire, &[&SERVICES[..], &["--net-path", path]].concat())?;
    let port = port(&ends.serve_tcp(SERVER_V4)?)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &format!("{SERVER_PUBLIC_V4}:{port}")])?;
    talk.ask("upload 1000000 write")?;
    talk.ask("close")?;
    let flows = Flows::at_rest(&ends.agent, &ends.client.label)?.0;
    let flow = flows.only(|flow| flow.text("remote_address") == SERVER_PUBLIC_V4)?;
    ensure!(flow.of("behind").is_null(), "{flow:?}");
    let missing = flows.behind_missing.as_deref().unwrap_or_default();
    ensure!(missing.contains("nf_conntrack") && missing.contains("CONFIG_NF_CONNTRACK_PROCFS"), "{missing}");
    Ok(())
}

/// Has a node send what is for one address to another.
pub(super) fn translate(netns: &Netns, chain: &str, from: &str, to: &str) -> Result<()> {
    for protocol in ["tcp", "udp"] {
        iptables(netns, &["-t", "nat", "-A", chain, "-p", protocol, "-d", from, "-j", "DNAT", "--to-destination", to])?;
    }
    Ok(())
}

/// For IPv6, if a word is an address of it.
fn iptables(netns: &Netns, words: &[&str]) -> Result<()> {
    let program = if words.iter().any(|word| word.contains(':')) { "ip6tables" } else { "iptables" };
    let output = netns.seat().command(["exec", program].iter().chain(words)).output()?;
    ensure!(output.status.success(), "{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
