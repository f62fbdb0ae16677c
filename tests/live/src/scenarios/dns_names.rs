//! The names that were looked up: whose they are, and who cannot say any.

use super::{dns::server, ends::Ends, flows::port, wire::any_port};
use crate::{
    agent::explain,
    dns::Dns,
    flows::{Flows, whois},
    machine::{patience, wait_until},
    netns::{CLIENT_V4, Offloads, SERVER_V4, SERVER_V6, Wire},
    trial::{Need, Place, test},
    worker::Worker,
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![
        test("a_flow_goes_by_the_name_that_its_entity_looked_up", Place::Both, NEEDS, named),
        test("what_comes_from_port_53_and_was_not_asked_for_tells_nothing", Place::Both, NEEDS, forged),
    ]
}

/// Two programs look one address up by different names, and talk to it; a third talks to it without.
fn named() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (dns, to) = server(&ends, SERVER_V4)?;
    let at = format!("at-{}", SERVER_V4.replace('.', "-"));
    let other = ends.folder.child("other")?;
    let service = ends.serve_tcp(SERVER_V4)?;
    let mut ask = ends.client_worker(&["dns-ask", "--to", &to])?;
    ask.ask(&format!("udp {at}.First.Example.org 1"))?;
    ask.ask(&format!("tcp {at}.second.example.org 1"))?;
    ask.ask("udp rcode-3.third.example.org 1")?;
    // The second answer is to nothing that is open, and is not read.
    ask.ask("udp twice.example.org 1")?;
    let mut elsewhere = Worker::start(ends.client_seat(&other), ["dns-ask", "--to", &to])?;
    elsewhere.ask(&format!("udp {at}.OTHER.example.org 1"))?;
    let mut talkers = Vec::new();
    for cgroup in [&ends.client, &other] {
        let mut talk = Worker::start(ends.client_seat(cgroup), ["tcp-talk", "--to", &service])?;
        talk.ask("upload 300000 write")?;
        talk.ask("close")?;
        talkers.push(talk);
    }
    let port = port(&service)?;
    // Where nobody may iterate, what open sockets carried is in no flow.
    drop((ask, elsewhere, dns));
    let outcome = || {
        for (cgroup, name) in [(&ends.client, "second"), (&other, "other")] {
            let (flows, _) = Flows::at_rest(&ends.agent, &cgroup.label)?;
            let flow = flows.only(|flow| flow.number("remote_port") == port)?;
            let named = flow.of("remote");
            ensure!(named["kind"] == "dns" && named["name"] == format!("{at}.{name}.example.org"), "{flow:?}");
            ensure!(named["as_of_unix_seconds"].as_u64().is_some_and(|second| second > 1_700_000_000), "{flow:?}");
        }
        let (flows, _) = Flows::at_rest(&ends.agent, &ends.client.label)?;
        let asks = flows.only(|flow| flow.text("protocol") == "udp")?;
        let names = asks.of("names").as_array().context("no names")?;
        let names = names.iter().map(|row| (row["name"].as_str().unwrap_or_default(), row["answers"].as_u64()));
        let mut expected = [format!("{at}.first.example.org"), format!("{at}.second.example.org")].to_vec();
        expected.extend(["rcode-3.third.example.org".into(), "twice.example.org".into()]);
        ensure!(names.eq(expected.iter().map(|name| (name.as_str(), Some(1)))), "{asks:?}");
        let (flows, _) = Flows::at_rest(&ends.agent, &ends.server.label)?;
        let unnamed = flows.all.iter().all(|flow| flow.of("remote").is_null());
        ensure!(unnamed, "the server looked nothing up: {:#?}", flows.all);
        let whois = whois(&ends.agent, SERVER_V4)?;
        let names: Vec<_> = whois["looked_up"].as_array().context("no names")?.iter().map(|row| &row["name"]).collect();
        ensure!(names.len() == 2, "{whois}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

/// A service that sends back what it gets, and somebody who sends to it from the port at which DNS servers are asked.
fn forged() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let from = format!("{SERVER_V4}:53");
    // Whoever forges is the first to speak to the one, and to the other a stranger.
    for is_stranger in [false, true] {
        let mut echo = ends.client_worker(&["udp-sink", "--bind", &any_port(CLIENT_V4)?, "--echo"])?;
        let to = echo.greeting.clone();
        if is_stranger {
            ends.client_worker(&["udp-talk", "--to", &to, "--size", "20"])?.ask("send 1")?;
        }
        let expected = (100 + u64::from(is_stranger)).to_string();
        let mut forger = ends.server_worker(&["dns-ask", "--to", &to, "--from", &from])?;
        forger.ask("forge at-203-0-113-66.example.org 50")?;
        let came = wait_until(patience(Duration::from_secs(10)), || Ok(echo.ask("count")? == expected))?;
        ensure!(came, "not all came");
    }
    // And somebody who does ask, in the same cgroup: what is told of that is told after the rest.
    let (_server, to) = server(&ends, SERVER_V6)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    client.ask("udp at-203-0-113-77.example.org 2")?;
    let (dns, _) = Dns::after(&ends.agent, &ends.client.label, 2, 2)?;
    let outcome = || {
        ensure!((dns.queries, dns.answered(), dns.unasked) == (2, 2, 0), "{dns:?}");
        ensure!(whois(&ends.agent, "203.0.113.77")?["looked_up"][0]["name"] == "at-203-0-113-77.example.org");
        let told = whois(&ends.agent, "203.0.113.66")?;
        ensure!(told["looked_up"].is_null(), "{told}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}
