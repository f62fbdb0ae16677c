//! Where the bytes go: each flow by its far end, and all of them together are what their entity carried.

use super::{ends::Ends, wire::any_port};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    flows::{Flow, Flows},
    machine::is_guest,
    netns::{CLIENT_V4, CLIENT_V6, Offloads, SERVER_V4, SERVER_V6, Wire},
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker, connections},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_ebpf::flows::HEAVY_FLOW_BYTES;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    // Open sockets tell of themselves by an iterator; those that close do without.
    const OPEN: &[Need] = &[Need::Root, Need::Iterators];
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Iterators];
    const LOSS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Kernel(6, 6), Need::Iterators];
    const CLOSED: &[Need] = &[Need::Root, Need::Command("ip"), Need::Kernel(6, 6)];
    vec![
        test("flows_of_both_protocols_and_families_add_up_to_the_devices", Place::Both, NEEDS, add_up),
        test("what_is_on_its_way_when_a_socket_is_closed_is_its_flows", Place::Both, CLOSED, on_its_way),
        test("segments_sent_again_are_as_many_as_the_namespace_counts", Place::Both, LOSS, sent_again),
        test("each_peer_of_a_socket_without_connection_has_a_flow_of_its_own", Place::Both, OPEN, peers),
        test(
            "of_short_connections_by_the_thousand_the_heaviest_are_named_and_the_sum_is_whole",
            Place::Both,
            OPEN,
            short,
        ),
        test("who_speaks_to_thousands_takes_no_far_ends_of_others", Place::Both, &[Need::Root], beside_a_scanner),
        test("the_heaviest_of_many_far_ends_of_one_socket_has_its_name", Place::Both, OPEN, heavy_among_many),
        test("a_rate_is_that_of_the_last_seconds_and_what_is_quiet_comes_last", Place::Both, OPEN, rates),
    ]
}

/// One TCP connection that stays, one that is closed, and datagrams, to two addresses of a server.
fn add_up() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let mut talkers = Vec::new();
    let mut ports = Vec::new();
    for address in [SERVER_V4, SERVER_V6] {
        let (tcp, udp) = (ends.serve_tcp(address)?, ends.serve_udp(address)?);
        let mut stays = ends.client_worker(&["tcp-talk", "--to", &tcp])?;
        stays.ask("upload 3000000 write")?;
        let mut closed = ends.client_worker(&["tcp-talk", "--to", &tcp])?;
        // The listener's unseen answer is counted once for each connection.
        ends.unseen_once_more(address);
        closed.ask("download 2000000")?;
        closed.ask("close")?;
        let mut datagrams = ends.client_worker(&["udp-talk", "--to", &udp, "--size", "700"])?;
        datagrams.ask("send 300")?;
        ports.push((address, port(&tcp)?, port(&udp)?));
        talkers.extend([stays, closed, datagrams]);
    }
    ends.equal_devices()?;
    let mut sides = Vec::new();
    for cgroup in [&ends.client, &ends.server] {
        let (flows, page) = Flows::at_rest(&ends.agent, &cgroup.label)?;
        let (sum, books) = (flows.sum(), page.traffic(&cgroup.label)?);
        ensure!(sum == books, "{}: the flows: {sum}\nthe books: {books}", cgroup.label);
        ensure!(flows.all.iter().all(|flow| flow.text("scope") == "intranet"), "{:#?}", flows.all);
        ensure!((flows.more, flows.forgotten) == (0, 0));
        sides.push(flows);
    }
    let [client, server] = &sides[..] else { unreachable!("two sides") };
    ensure!(client.all.len() == 4, "{:#?}", client.all);
    for (at, (address, tcp, udp)) in ports.into_iter().enumerate() {
        let near = [CLIENT_V4, CLIENT_V6][at];
        let outbound = |protocol: &'static str, port: u64| {
            client.only(move |flow| {
                (flow.text("remote_address"), flow.number("remote_port"), flow.text("protocol"))
                    == (address, port, protocol)
                    && flow.text("direction") == "outbound"
            })
        };
        let inbound = |protocol: &'static str, port: u64| {
            server.only(move |flow| {
                (flow.text("remote_address"), flow.number("local_port"), flow.text("protocol"))
                    == (near, port, protocol)
                    && flow.text("direction") == "inbound"
            })
        };
        let (one, other) = (outbound("tcp", tcp)?, inbound("tcp", tcp)?);
        for flow in [one, other] {
            ensure!((flow.number("connections"), flow.number("open_connections")) == (2, 1), "{flow:?}");
            ensure!(flow.number("failed_connections") == 0 && flow.rate("round_trip_seconds") > 0.0, "{flow:?}");
        }
        ensure!(one.traffic().transmit.bytes > 3_000_000 && one.traffic().receive.bytes > 2_000_000, "{one:?}");
        let (one, other) = (outbound("udp", udp)?.traffic(), inbound("udp", udp)?.traffic());
        ensure!(one == other.mirrored() && one.transmit.packets == 300, "{one}; {other}");
    }
    drop(talkers);
    Ok(())
}

pub(super) fn port(address: &str) -> Result<u64> {
    Ok(address.rsplit_once(':').context("no port")?.1.parse()?)
}

/// A program writes a megabyte to a slow line, closes, and is done.
fn on_its_way() -> Result<()> {
    let mut ends = Ends::new(Wire::routed(Offloads::Off)?, &[])?;
    // What is lost is sent again after the end, too.
    let loss = ends.wire.lose_one_in(30)?;
    let to = ends.serve_tcp(SERVER_V4)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &to])?;
    talk.ask("leave 1000000")?;
    let waits = std::time::Instant::now();
    ends.await_echoes()?;
    drop(loss);
    ends.await_echoes()?;
    let (flows, page) = Flows::at_rest(&ends.agent, &ends.client.label)?;
    let (sum, books) = (flows.sum(), page.traffic(&ends.client.label)?);
    ensure!(books.transmit.bytes > 1_000_000, "{books} after {:?}", waits.elapsed());
    ensure!(sum == books, "the flows: {sum}\nthe books: {books}");
    Ok(())
}

fn sent_again() -> Result<()> {
    let mut ends = Ends::new(Wire::routed(Offloads::Off)?, &[])?;
    let loss = ends.wire.lose_one_in(40)?;
    let to = ends.serve_tcp(SERVER_V4)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &to])?;
    talk.ask("upload 2000000 write")?;
    let (open, page) = Flows::at_rest(&ends.agent, &ends.client.label)?;
    let (told, truth) = (open.total("retransmits"), truth::tcp(talk.pid(), "RetransSegs")?);
    ensure!(told == truth && truth > 0, "{told} segments were sent again, and the namespace says {truth}");
    let counter = page.sample_of("observer_tcp_retransmits_total", &ends.client.label)?;
    ensure!(counter == truth, "the counter is {counter}, and the namespace says {truth}");
    drop(loss);
    let before = open.total("retransmits");
    talk.ask("close")?;
    let closed = Flows::at_rest(&ends.agent, &ends.client.label)?.0;
    ensure!(closed.total("retransmits") == before, "{:#?}", closed.all);
    Ok(())
}

fn peers() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (client, server) = (folder.child("client")?, folder.child("server")?);
    let _sink = Worker::start(Seat::in_cgroup(&server), ["udp-sink", "--bind", "0.0.0.0:7008"])?;
    let agent = Agent::start(&[])?;
    let addresses: Vec<_> = (1..=40).map(|number| format!("127.2.0.{number}")).collect();
    let mut job = vec!["udp-talk".to_owned(), "--size".into(), "100".into()];
    job.extend(addresses.iter().flat_map(|address| ["--to".into(), format!("{address}:7008")]));
    let mut talk = Worker::start(Seat::in_cgroup(&client), job.iter().map(String::as_str))?;
    talk.ask("send 5")?;
    let flows = Flows::at_rest(&agent, &client.label)?.0;
    ensure!(flows.all.len() == addresses.len(), "{:#?}", flows.all);
    for address in &addresses {
        let flow = flows.only(|flow| flow.text("remote_address") == address)?;
        let sent = flow.traffic().transmit;
        ensure!((sent.packets, sent.bytes) == (5, 5 * 128), "{flow:?}");
        ensure!(flow.number("remote_port") == 7008 && flow.text("direction") == "outbound", "{flow:?}");
    }
    // Whom the server heard: the same sender by one address.
    let heard = Flows::at_rest(&agent, &server.label)?.0;
    let received: u64 = heard.all.iter().map(|flow| flow.traffic().receive.packets).sum();
    ensure!(received == 5 * addresses.len() as u64, "{:#?}", heard.all);
    ensure!(heard.all.iter().all(|flow| flow.number("local_port") == 7008), "{:#?}", heard.all);
    Ok(())
}

/// Thousands of far ends with a little each, ten with more, and room for a few hundred.
fn short() -> Result<()> {
    const KEPT: usize = 200;
    const HEAVY: u32 = 10;
    const HEAVY_BYTES: u64 = 20_000;
    let (light, rounds) = if is_guest() { (500, 3) } else { (10_000, 10) };
    let folder = Cgroup::for_test()?;
    let (client, server) = (folder.child("client")?, folder.child("server")?);
    let serve = Worker::start(Seat::in_cgroup(&server), ["tcp-serve", "--bind", &any_port("0.0.0.0")?])?;
    let agent = Agent::start(&["--max-flows", &KEPT.to_string()])?;
    let port = port(&serve.greeting)?.to_string();
    let mut many = Worker::start(Seat::in_cgroup(&client), ["connections", "--port", &port])?;
    // Each round has other light ones and the same heavy ones. Nobody looks meanwhile: what is told of in two parts is lighter.
    for round in 0..rounds {
        many.ask(&format!("open {} {light} 100", 1000 + round * light))?;
        many.ask(&format!("open 1 {HEAVY} {HEAVY_BYTES}"))?;
        // A second later the kernel has room again for those that come first.
        std::thread::sleep(Duration::from_millis(1200));
    }
    let (flows, page) = Flows::at_rest(&agent, &client.label)?;
    let outcome = || {
        let (sum, books) = (flows.sum(), page.traffic(&client.label)?);
        ensure!(sum == books, "the flows: {sum}\nthe books: {books}");
        let connections = u64::from((light + HEAVY) * rounds);
        ensure!(flows.total("connections") == connections, "{} of {connections}", flows.total("connections"));
        ensure!(flows.total("open_connections") + flows.total("failed_connections") == 0, "not all have closed");
        ensure!(flows.forgotten > 0, "nothing had to be forgotten");
        ensure!(flows.all.len() <= KEPT, "{} flows are kept", flows.all.len());
        let mut named: Vec<&Flow> = flows.all.iter().filter(|flow| !flow.text("remote_address").is_empty()).collect();
        named.sort_by_key(|flow| std::cmp::Reverse(flow.traffic().transmit.bytes));
        // So many far ends in a second are more than the kernel's table names of those with little.
        ensure!(is_guest() || page.dropped("flow_table")? > 0, "the table had room for all");
        ensure!(page.dropped("flow_lost")? == 0, "something is in no flow");
        let whole = u64::from(rounds);
        for flow in &named[..HEAVY as usize] {
            let is_heavy =
                (1..=HEAVY).any(|number| flow.text("remote_address") == connections::address(number).to_string());
            ensure!(is_heavy && flow.number("connections") == whole, "{flow:?}");
            ensure!(flow.traffic().transmit.bytes > whole * HEAVY_BYTES, "{flow:?}");
        }
        let taken = Flows::at_rest(&agent, &server.label)?.0;
        let (sum, books) = (taken.sum(), agent.scrape()?.traffic(&server.label)?);
        ensure!(sum == books, "the server's flows: {sum}\nits books: {books}");
        ensure!(taken.total("connections") == connections, "{:#?}", taken.all);
        Ok(())
    };
    explain(&agent, outcome())
}

/// One sends to thousands of addresses all the time, another to three hundred now and then: all of those are told of.
fn beside_a_scanner() -> Result<()> {
    const FEW: u64 = 300;
    let folder = Cgroup::for_test()?;
    let (many, few) = (folder.child("many")?, folder.child("few")?);
    let agent = Agent::start(&[])?;
    let talk = |cgroup: &Cgroup, network: u64, count: u64| -> Result<Worker> {
        let peers: Vec<_> = (0..count).map(|at| format!("127.{network}.{}.{}:9", at / 250, at % 250 + 1)).collect();
        let mut job = vec!["udp-talk", "--size", "10"];
        for peer in &peers {
            job.extend(["--to", peer]);
        }
        Worker::start(Seat::in_cgroup(cgroup), &job)
    };
    let (mut scanner, mut other) = (talk(&many, 71, 12_000)?, talk(&few, 72, FEW)?);
    let outcome = || {
        // More than the seconds that the other one takes.
        scanner.tell("send 100")?;
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            other.ask("send 1")?;
        }
        drop(other);
        let flows = Flows::at_rest(&agent, &few.label)?.0;
        let named = flows.all.iter().filter(|flow| flow.text("remote_address").starts_with("127.72.")).count() as u64;
        ensure!(
            (named, flows.all.len() as u64) == (FEW, FEW),
            "{named} of {FEW}, and {}",
            flows.all.len() as u64 - named
        );
        ensure!(flows.all.iter().all(|flow| flow.number("transmit_packets") == 3), "{:#?}", flows.all);
        ensure!(agent.scrape()?.dropped("flow_table")? > 0, "the other one is no scanner");
        Ok(())
    };
    explain(&agent, outcome())
}

/// One socket sends a little to thousands, and then much to one, for whom there is no room any more.
fn heavy_among_many() -> Result<()> {
    const ROUNDS: u64 = 3;
    const PACKETS: u64 = 3000;
    const HEAVY: &str = "127.73.200.9";
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&[])?;
    let peers: Vec<_> = (0..9000).map(|at| format!("127.73.{}.{}:9", at / 250, at % 250 + 1)).collect();
    let mut job = vec!["udp-talk", "--size", "100"];
    for peer in &peers {
        job.extend(["--to", peer]);
    }
    let mut talk = Worker::start(Seat::in_cgroup(&folder), &job)?;
    for _ in 0..ROUNDS {
        talk.ask("send 1")?;
        talk.ask(&format!("leave {HEAVY}:9 {PACKETS}"))?;
        std::thread::sleep(Duration::from_millis(1200));
    }
    let (flows, page) = Flows::at_rest(&agent, &folder.label)?;
    let outcome = || {
        ensure!(flows.sum() == page.traffic(&folder.label)?, "{}", flows.sum());
        ensure!(page.dropped("flow_table")? > 0, "the table had room for all");
        // What it had carried before it was heavy is among the rest, once for each table.
        let (sent, unnamed) = (ROUNDS * PACKETS * 128, 2 * ROUNDS * (HEAVY_FLOW_BYTES[0] + 128));
        let named: u64 = flows
            .all
            .iter()
            .filter(|flow| flow.text("remote_address") == HEAVY)
            .map(|flow| flow.traffic().transmit.bytes)
            .sum();
        ensure!((sent - unnamed..=sent).contains(&named), "{named} of {sent}");
        Ok(())
    };
    explain(&agent, outcome())
}

fn rates() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (client, server) = (folder.child("client")?, folder.child("server")?);
    let sink = |port: &str| Worker::start(Seat::in_cgroup(&server), ["udp-sink", "--bind", port]);
    let (one, other) = (sink("127.0.0.1:7009")?, sink("127.0.0.1:7010")?);
    let agent = Agent::start(&[])?;
    let talk =
        |to: &Worker| Worker::start(Seat::in_cgroup(&client), ["udp-talk", "--to", &to.greeting, "--size", "972"]);
    let (mut quiet, mut paced) = (talk(&other)?, talk(&one)?);
    quiet.ask("send 5000")?;
    paced.tell("pace 4000 200")?;
    std::thread::sleep(Duration::from_millis(500));
    let entity = client.label.replace('/', "%2F");
    let outcome = || {
        let first = Flows::ask(&agent, &format!("entity={entity}"))?;
        std::thread::sleep(Duration::from_secs(2));
        // Since the first request, and without another second.
        let second = Flows::ask(&agent, &format!("entity={entity}"))?;
        for (flows, interval) in [(&first, 0.9..5.0), (&second, 1.9..9.0)] {
            ensure!(interval.contains(&flows.interval), "over {} s", flows.interval);
            ensure!(flows.all.len() == 2, "{:#?}", flows.all);
            let (fast, still) = (&flows.all[0], &flows.all[1]);
            // 200 datagrams of 1000 bytes.
            let rate = fast.rate("transmit_bytes_per_second");
            ensure!((100_000.0..300_000.0).contains(&rate), "{fast:?}");
            ensure!(fast.number("remote_port") == 7009 && still.rate("transmit_bytes_per_second") == 0.0, "{still:?}");
        }
        let elsewhere = Flows::ask(&agent, &format!("entity={entity}&scope=internet"))?;
        ensure!(elsewhere.all.is_empty(), "{:#?}", elsewhere.all);
        let one = Flows::ask(&agent, &format!("entity={entity}&scope=loopback&top=1"))?;
        ensure!(one.all.len() == 1 && one.more == 1, "{:#?}", one.all);
        Ok(())
    };
    explain(&agent, outcome())
}
