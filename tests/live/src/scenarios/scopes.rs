//! Where the far end is: every scope, and what is on the loopback.

use super::{
    ends::{Ends, unseen_answer},
    node_device::NodeDevice,
    wire::any_port,
};
use crate::{
    agent::Agent,
    cgroup::Cgroup,
    netns::{
        CLIENT_V4, CLIENT_V6, Offloads, SERVER_LINK_LOCAL_V4, SERVER_PUBLIC_V4, SERVER_PUBLIC_V6, SERVER_SHARED_V4,
        SERVER_V4, SERVER_V6, Wire,
    },
    page::{Counted, Traffic},
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::{net::Ipv6Addr, time::Duration};

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![
        test(
            "on_the_loopback_the_client_sends_what_the_server_receives",
            Place::Both,
            &[Need::Root],
            loopback_is_symmetric,
        ),
        test(
            "private_shared_and_link_local_peers_are_intranet_and_the_rest_internet",
            Place::Both,
            NEEDS,
            peers_by_range,
        ),
        test("a_range_given_on_the_command_line_is_intranet", Place::Both, NEEDS, a_given_range_is_intranet),
        test("each_byte_is_in_its_scope_whoever_made_the_connection_in_both_families", Place::Both, NEEDS, every_scope),
        test(
            "an_unconnected_socket_with_1000_peers_is_booked_by_the_scope_of_each",
            Place::Both,
            NEEDS,
            thousand_peers,
        ),
        test("an_address_made_to_look_like_another_is_booked_by_its_own_scope", Place::Both, NEEDS, who_looks_alike),
        test(
            "a_connection_that_was_accepted_has_a_scope_of_its_own",
            Place::Both,
            NEEDS,
            accepted_connections_have_scopes,
        ),
    ]
}

fn loopback_is_symmetric() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&[])?;
    for address in ["127.0.0.1", "::1"] {
        let name = address.replace(':', "_");
        let (client, server) = (folder.child(format!("client{name}"))?, folder.child(format!("server{name}"))?);
        let serve = Worker::start(Seat::in_cgroup(&server), ["tcp-serve", "--bind", &any_port(address)?])?;
        let mut talk = Worker::start(Seat::in_cgroup(&client), ["tcp-talk", "--to", &serve.greeting])?;
        talk.ask("upload 4000000 write")?;
        talk.ask("download 3000000")?;
        talk.ask("close")?;
        let sink = Worker::start(Seat::in_cgroup(&server), ["udp-sink", "--bind", &any_port(address)?, "--echo"])?;
        let mut talk = Worker::start(Seat::in_cgroup(&client), ["udp-talk", "--to", &sink.greeting, "--size", "1000"])?;
        talk.ask("send 500")?;
        std::thread::sleep(Duration::from_millis(300));
        let page = agent.scrape()?;
        let (asked, mut answered) = (page.traffic(&client.label)?, page.traffic(&server.label)?);
        answered.transmit += unseen_answer(address);
        ensure!(asked == answered.mirrored(), "{address}: the client {asked}; the server {answered}");
        ensure!(asked.transmit.bytes > 4_500_000 && asked.receive.bytes > 3_500_000, "{address}: {asked}");
        let scoped = page.scoped_traffic(&client.label, "loopback")?;
        ensure!(scoped == asked, "{address}: only {scoped} of {asked} is loopback");
    }
    Ok(())
}

/// Datagrams to `to` out of a cgroup of their own, which come back. Returns what is to be on its books.
fn send_to(ends: &Ends, name: &str, to: &str, count: u64) -> Result<Sender> {
    let cgroup = ends.folder.child(name)?;
    let mut talk = Worker::start(ends.client_seat(&cgroup), ["udp-talk", "--to", to, "--size", "100"])?;
    talk.ask(&format!("send {count}"))?;
    Ok(Sender { _talk: talk, cgroup, expected: datagrams(count, 100, to.starts_with('[')) })
}

/// A worker that has sent, and still takes what comes back.
struct Sender {
    _talk: Worker,
    cgroup: Cgroup,
    expected: Traffic,
}

/// Datagrams that are sent and come back.
pub(super) fn datagrams(count: u64, size: u64, v6: bool) -> Traffic {
    let mut traffic = Traffic::default();
    traffic.transmit.packets = count;
    traffic.transmit.bytes = count * (size + 8 + if v6 { 40 } else { 20 });
    traffic.receive = traffic.transmit;
    traffic
}

fn peers_by_range() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let mut expected = Vec::new();
    for (index, (address, scope)) in [
        (SERVER_V4, "intranet"),
        (SERVER_V6, "intranet"),
        (SERVER_SHARED_V4, "intranet"),
        (SERVER_LINK_LOCAL_V4, "intranet"),
        (SERVER_PUBLIC_V4, "internet"),
        (SERVER_PUBLIC_V6, "internet"),
    ]
    .into_iter()
    .enumerate()
    {
        let to = ends.serve_udp(address)?;
        expected.push((address, scope, send_to(&ends, &format!("to{index}"), &to, 50 + index as u64)?));
    }
    let (page, ..) = ends.still_page()?;
    for (address, scope, Sender { cgroup, expected: traffic, .. }) in &expected {
        let scoped = page.scoped_traffic(&cgroup.label, scope)?;
        ensure!(scoped == *traffic, "{address} as {scope}: {scoped}, not {traffic}");
        ensure!(page.traffic(&cgroup.label)? == *traffic, "{address} has another scope beside {scope}");
    }
    Ok(())
}

fn a_given_range_is_intranet() -> Result<()> {
    let arguments = ["--intranet-cidr", "203.0.113.0/24", "--intranet-cidr", "2001:db8::/32"];
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &arguments)?;
    let mut expected = Vec::new();
    for (name, address) in [("v4", SERVER_PUBLIC_V4), ("v6", SERVER_PUBLIC_V6)] {
        let to = ends.serve_udp(address)?;
        expected.push(send_to(&ends, name, &to, 40)?);
    }
    let (page, ..) = ends.still_page()?;
    for Sender { cgroup, expected: traffic, .. } in &expected {
        let scoped = page.scoped_traffic(&cgroup.label, "intranet")?;
        ensure!(scoped == *traffic, "{}: {scoped}, not {traffic}", cgroup.label);
    }
    Ok(())
}

/// Far ends in every scope but the loopback: connections to them and from them, and datagrams; an IPv4 address in IPv6's clothes as well.
fn every_scope() -> Result<()> {
    const FAR_ENDS: [(&str, &str); 10] = [
        ("node", "198.51.100.9"),
        ("node", "2001:db8:99::9"),
        ("cluster", "10.77.1.9"),
        ("cluster", "fd77:1::9"),
        ("service", "10.77.2.9"),
        ("service", "2001:db8:96::9"),
        ("intranet", "10.78.0.9"),
        ("intranet", "fd78::9"),
        ("internet", "203.0.113.9"),
        ("internet", "2001:db8:7::9"),
    ];
    let _device = NodeDevice::make(&["198.51.100.9/32", "2001:db8:99::9/128"])?;
    let mut arguments = Vec::new();
    for (flag, ranges) in [
        ("--cluster-cidr", "10.77.0.0/16,fd77:1::/48"),
        ("--service-cidr", "10.77.2.0/24,2001:db8:96::/108"),
        ("--intranet-cidr", "10.0.0.0/8"),
    ] {
        arguments.extend([flag, ranges]);
    }
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &arguments)?;
    let mut cgroups = Vec::new();
    for (index, (scope, address)) in FAR_ENDS.into_iter().enumerate() {
        ends.wire.move_server_to(address)?;
        let cgroup = ends.folder.child(format!("to-{index}"))?;
        let unseen = exchange(&mut ends, &cgroup, address)?;
        cgroups.push((scope, address, cgroup, unseen));
    }
    let (page, near, _) = ends.still_page()?;
    let mut sum = Traffic::default();
    for (scope, address, cgroup, unseen) in &cgroups {
        let (all, mut scoped) = (page.traffic(&cgroup.label)?, page.scoped_traffic(&cgroup.label, scope)?);
        ensure!(scoped == all, "{address}: of {all}, {scoped} is {scope}\n{}", ends.agent.log_text());
        scoped.transmit += *unseen;
        sum = sum + scoped;
    }
    ensure!(sum == near, "all far ends: {sum}; the device: {near}");
    Ok(())
}

/// Datagrams, a connection to the server and one from it, all of the client's cgroup. Returns what the client's listener sent unseen.
fn exchange(ends: &mut Ends, cgroup: &Cgroup, address: &str) -> Result<Counted> {
    let (udp, tcp) = (ends.serve_udp(address)?, ends.serve_tcp(address)?);
    let mapped =
        |to: &str| to.rsplit_once(':').map_or_else(String::new, |(host, port)| format!("[::ffff:{host}]:{port}"));
    let mut to = vec![tcp.clone()];
    if !address.contains(':') {
        to.push(mapped(&tcp));
    }
    let mut talk = Worker::start(ends.client_seat(cgroup), ["udp-talk", "--to", &udp, "--size", "100"])?;
    talk.ask("send 20")?;
    ends.await_echoes()?;
    for to in to {
        let mut talk = Worker::start(ends.client_seat(cgroup), ["tcp-talk", "--to", &to])?;
        talk.ask("upload 100000 write")?;
        talk.ask("download 50000")?;
        talk.ask("close")?;
    }
    let own = if address.contains(':') { CLIENT_V6 } else { CLIENT_V4 };
    let serve = Worker::start(ends.client_seat(cgroup), ["tcp-serve", "--bind", &any_port(own)?])?;
    let mut talk = ends.server_worker(&["tcp-talk", "--to", &serve.greeting])?;
    talk.ask("upload 70000 write")?;
    talk.ask("download 30000")?;
    talk.ask("close")?;
    ends.await_echoes()?;
    Ok(unseen_answer(own))
}

fn thousand_peers() -> Result<()> {
    let wire = Wire::direct(Offloads::Off)?;
    // The server answers for whole ranges.
    for range in ["10.77.0.0/22", "198.51.100.0/24"] {
        wire.serve_range(range)?;
        wire.client.ip(&format!("route add {range} via inet {SERVER_V4} dev client onlink"))?;
    }
    let mut ends = Ends::new(wire, &[])?;
    let far = ends.serve(&["udp-sink", "--bind", "0.0.0.0:7007"])?;
    ensure!(far == "0.0.0.0:7007");
    let near = Worker::start(ends.wire.client.seat(), ["udp-sink", "--bind", "0.0.0.0:7007"])?;
    let mut peers: Vec<String> = Vec::new();
    for index in 0..500u32 {
        peers.push(format!("10.77.{}.{}:7007", index / 250, index % 250 + 1));
    }
    for index in 1..=250u32 {
        peers.push(format!("198.51.100.{index}:7007"));
        peers.push(format!("127.0.7.{index}:7007"));
    }
    let mut job = vec!["udp-talk", "--size", "100"];
    for peer in &peers {
        job.extend(["--to", peer]);
    }
    let mut talk = ends.client_worker(&job)?;
    talk.ask("send 3")?;
    let (page, ..) = ends.still_page()?;
    for (scope, expected) in [("intranet", 1500), ("internet", 750), ("loopback", 750)] {
        let sent = page.scoped_traffic(&ends.client.label, scope)?.transmit;
        ensure!(sent.packets == expected && sent.bytes == expected * 128, "{scope}: {sent}, not {expected} packets");
    }
    ensure!(page.traffic(&ends.client.label)?.transmit.packets == 3000);
    ensure!(page.scoped_traffic(&ends.server.label, "intranet")?.receive.packets == 2250, "the server's own books");
    drop(near);
    Ok(())
}

/// One socket sends to a far end of the intranet and to one of the internet, whose address is made so that a multiplicative hash that
/// anybody knows takes it for the first.
fn who_looks_alike() -> Result<()> {
    const KNOWN: u64 = 0x9e37_79b9_7f4a_7c15;
    let halves = |address: &str| -> Result<[u64; 2]> {
        let octets = address.parse::<Ipv6Addr>()?.octets();
        let (high, low) = octets.split_at(8);
        Ok([u64::from_ne_bytes(high.try_into()?), u64::from_ne_bytes(low.try_into()?)])
    };
    let ([high, low], [other, _]) = (halves(SERVER_V6)?, halves("2001:db8:88::")?);
    let alike = high.wrapping_mul(KNOWN) ^ low ^ other.wrapping_mul(KNOWN);
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&other.to_ne_bytes());
    octets[8..].copy_from_slice(&alike.to_ne_bytes());
    let alike = Ipv6Addr::from(octets);

    let wire = Wire::direct(Offloads::Off)?;
    wire.serve_range(&format!("{alike}/128"))?;
    wire.client.ip(&format!("route add {alike}/128 via {SERVER_V6} dev client onlink"))?;
    let mut ends = Ends::new(wire, &[])?;
    let far = ends.serve(&["udp-sink", "--bind", "[::]:7007"])?;
    ensure!(far == "[::]:7007", "{far}");
    let to = [format!("[{SERVER_V6}]:7007"), format!("[{alike}]:7007")];
    let mut talk = ends.client_worker(&["udp-talk", "--size", "100", "--to", &to[0], "--to", &to[1]])?;
    talk.ask("send 10")?;
    let (page, ..) = ends.still_page()?;
    for scope in ["intranet", "internet"] {
        let sent = page.scoped_traffic(&ends.client.label, scope)?.transmit;
        ensure!(sent == datagrams(10, 100, true).transmit, "{alike}: {sent} to {scope}");
    }
    Ok(())
}

/// One listener, connections from two scopes: the scope is the connection's, not the listener's.
fn accepted_connections_have_scopes() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let serve = ends.client_worker(&["tcp-serve", "--bind", "0.0.0.0:7008"])?;
    let mut inside = Worker::start(ends.wire.client.seat(), ["tcp-talk", "--to", "127.0.0.1:7008"])?;
    inside.ask("download 100000")?;
    inside.ask("close")?;
    let (page, ..) = ends.still_page()?;
    let loopback = page.scoped_traffic(&ends.client.label, "loopback")?;
    let mut outside = ends.server_worker(&["tcp-talk", "--to", &format!("{CLIENT_V4}:7008")])?;
    outside.ask("download 200000")?;
    outside.ask("close")?;
    let (page, near, _) = ends.still_page()?;
    ensure!(loopback.transmit.bytes > 100_000, "{loopback}");
    let later = page.scoped_traffic(&ends.client.label, "loopback")?;
    ensure!(later == loopback, "the loopback's books went from {loopback} to {later}");
    let intranet = page.scoped_traffic(&ends.client.label, "intranet")?;
    ensure!(intranet == near, "intranet: {intranet}; the device: {near}");
    drop(serve);
    Ok(())
}
