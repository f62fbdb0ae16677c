//! What is asked of DNS servers: every question and every answer, over UDP and TCP, however they are cut, with their response codes and how
//! long they took.

use super::ends::Ends;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    dns::Dns,
    flows::{Flow, Flows, whois},
    machine::{patience, wait_until},
    netns::{CLIENT_V4, CLIENT_V6, Offloads, SERVER_PUBLIC_V4, SERVER_PUBLIC_V6, SERVER_V4, SERVER_V6, Wire},
    page::Page,
    trial::{Need, Place, test},
    worker::{Seat, Worker, dns::SLOW},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("dns_questions_and_answers_are_as_many_as_the_server_says", Place::Both, NEEDS, counted),
        test("of_dns_messages_that_are_sent_in_one_go_all_are_counted_or_it_is_told", Place::Both, NEEDS, in_one_go),
        test("a_dns_answer_is_as_old_as_its_question", Place::Both, NEEDS, waited),
        test("a_dns_answer_is_one_to_the_question_that_was_asked", Place::Both, NEEDS, of_another_name),
        test("a_dns_answer_is_from_a_server_that_was_asked", Place::Both, NEEDS, of_another_server),
        test("dns_over_tcp_is_counted_with_packets_lost_and_what_is_missed_is_told", Place::Host, NEEDS, lossy),
        test("dns_over_a_connection_older_than_the_agent_is_counted", Place::Both, &[Need::Root], older),
        test("questions_that_do_not_fit_the_table_are_told", Place::Both, NEEDS, many),
        test("who_is_asked_books_no_questions", Place::Both, NEEDS, asked),
    ]
}

/// A server at the far end; the worker, whom to ask how much it served, and where it listens.
pub(super) fn server(ends: &Ends, address: &str) -> Result<(Worker, String)> {
    let bind = at_port_53(address)?;
    Ok((ends.server_worker(&["dns-serve", "--bind", &bind])?, bind))
}

pub(super) fn at_port_53(address: &str) -> Result<String> {
    Ok(SocketAddr::new(address.parse()?, 53).to_string())
}

fn served(server: &mut Worker) -> Result<(u64, u64)> {
    let told = server.ask("count")?;
    let (questions, answers) = told.split_once(' ').with_context(|| format!("{told} is no count"))?;
    Ok((questions.parse()?, answers.parse()?))
}

/// Every way to ask, of two servers.
fn counted() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (mut questions, mut answers) = (0, 0);
    let mut servers = Vec::new();
    for (address, connected) in [(SERVER_V4, "203.0.113.2:9"), (SERVER_V6, "[2001:db8:7::2]:9")] {
        let (server, to) = server(&ends, address)?;
        let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
        for line in [
            "udp at-203-0-113-7.example.org 20",
            "udp rcode-3.example.org 7",
            "udp rcode-2.example.org 3",
            "udp rcode-5.example.org 2",
            "udp rcode-9.example.org 1",
            "udp none.example.org 4",
            "stranger a.example.org 6",
            "stranger rcode-3.example.org 1",
            "segmented a.example.org 12",
            "tcp a.example.org 5",
            "tcp pieces.example.org 3",
            "tcp rcode-1.example.org 2",
            "tcp rcode-4.example.org 2",
            "udp twice.example.org 3",
        ] {
            client.ask(line)?;
        }
        client.ask(&format!("elsewhere none.example.org 4 {connected}"))?;
        servers.push(server);
    }
    for server in &mut servers {
        let (more_questions, more_answers) = served(server)?;
        (questions, answers) = (questions + more_questions, answers + more_answers);
    }
    ensure!((questions, answers) == (2 * 75, 2 * 67), "the servers have {questions}, {answers}");
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, questions, answers)?;
    let outcome = || {
        ensure!(dns.queries == questions, "{dns:?}: the servers were asked {questions} times");
        ensure!(dns.answered() == answers && dns.timed == answers, "{dns:?}: the servers answered {answers} times");
        let codes = [("FORMERR", 2), ("NOERROR", 49), ("NOTIMP", 2), ("NXDOMAIN", 8), ("REFUSED", 2), ("SERVFAIL", 3)];
        let mut expected: BTreeMap<_, _> = codes.map(|(code, count)| (code.to_owned(), 2 * count)).into();
        expected.insert("other".into(), 2);
        ensure!(dns.responses == expected, "{dns:?}");
        ensure!(dns.unasked == 2 * 3, "three of each server came twice: {dns:?}");
        ensure!(dns.unanswered == 0, "nobody has waited for ten seconds: {dns:?}");
        for reason in ["dns_table", "dns_question_table", "dns_stream"] {
            ensure!(page.dropped(reason)? == 0, "{reason}");
        }
        Ok(())
    };
    explain(&ends.agent, outcome())?;
    // What nobody answers is known as that once resolvers have given it up.
    let mut last = Dns::default();
    let known = wait_until(patience(Duration::from_secs(16)), || {
        last = Dns::of(&ends.agent.scrape()?, &ends.client.label)?;
        Ok(last.unanswered == 16)
    })?;
    ensure!(known && last.queries == questions && last.answered() == answers, "{last:?}");
    Ok(())
}

/// More questions than a packet holds, and as many answers, each in a segment of its own: two CPUs may see these in another order.
fn in_one_go() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::On)?, &[])?;
    let (mut server, to) = server(&ends, SERVER_V4)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    for count in [16, 17, 300, 600] {
        client.ask(&format!("pipeline a.example.org {count}"))?;
    }
    let (questions, answers) = served(&mut server)?;
    ensure!((questions, answers) == (933, 933), "{questions}, {answers}");
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, questions, answers)?;
    explain(&ends.agent, whole_or_told(&dns, &page, (questions, answers)))
}

/// All of them were counted, or a counter says that some may be missing.
fn whole_or_told(dns: &Dns, page: &Page, (questions, answers): (u64, u64)) -> Result<()> {
    ensure!(dns.queries <= questions && dns.answered() <= answers, "of {questions}, {answers}: {dns:?}");
    let is_whole = (dns.queries, dns.answered()) == (questions, answers);
    let missed = page.dropped("dns_stream")?;
    ensure!(is_whole || missed > 0, "of {questions}, {answers} nothing is said to be missing: {dns:?}");
    println!(
        "of {questions}, {answers}: {}, {}; {missed} segments could not be told apart",
        dns.queries,
        dns.answered()
    );
    Ok(())
}

/// A server that answers something else, or repeats the question in its own way.
fn of_another_name() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (_server, to) = server(&ends, SERVER_V4)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    for line in [
        "udp other.example.org 5",
        "tcp other.example.org 2",
        "udp capitals.example.org 3",
        "tcp capitals.example.org 2",
        "udp bare.example.org 1",
    ] {
        client.ask(line)?;
    }
    let (dns, _) = Dns::after(&ends.agent, &ends.client.label, 13, 6)?;
    ensure!((dns.queries, dns.answered(), dns.unasked) == (13, 6, 7), "{dns:?}");
    let flows = Flows::at_rest(&ends.agent, &ends.client.label)?.0;
    let names: BTreeSet<_> = flows.all.iter().flat_map(Flow::names).collect();
    ensure!(names == BTreeSet::from(["capitals.example.org".to_owned()]), "{names:?}");
    Ok(())
}

/// Before the server answers, somebody else does whom nobody asked; then one of two servers answers.
fn of_another_server() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let mut servers = Vec::new();
    for (address, other, silent) in [(SERVER_V4, CLIENT_V4, SERVER_PUBLIC_V4), (SERVER_V6, CLIENT_V6, SERVER_PUBLIC_V6)]
    {
        let (server, to) = server(&ends, address)?;
        servers.push(server);
        let (other, silent) = (at_port_53(other)?, at_port_53(silent)?);
        ends.client_worker(&["dns-ask", "--to", &to])?.ask(&format!("interrupted slow.example.org 3 {other}"))?;
        ends.client_worker(&["dns-ask", "--to", &silent])?.ask(&format!("both a.example.org 4 {to}"))?;
    }
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, 2 * 11, 2 * 7)?;
    let outcome = || {
        ensure!((dns.queries, dns.answered(), dns.unasked, dns.unanswered) == (2 * 11, 2 * 7, 2 * 3, 0), "{dns:?}");
        ensure!(dns.waited_ns >= 2 * 3 * SLOW.as_nanos() as u64, "not the servers' answers were timed: {dns:?}");
        ensure!(page.dropped("dns_question_table")? == 0);
        let looked_up = whois(&ends.agent, "203.0.113.1")?["looked_up"][0]["name"].clone();
        ensure!(looked_up == "a.example.org", "{looked_up}");
        let told = whois(&ends.agent, "203.0.113.66")?;
        ensure!(told["looked_up"].is_null(), "{told}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

/// A server that takes its time.
fn waited() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (_server, to) = server(&ends, SERVER_V4)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    let mut took_ns = 0;
    for line in ["udp slow.example.org 3", "tcp slow.example.org 2"] {
        took_ns += client.ask(line)?.parse::<u64>()?;
    }
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, 5, 5)?;
    let least_ns = 5 * SLOW.as_nanos() as u64;
    ensure!((least_ns..=took_ns).contains(&dns.waited_ns), "{least_ns} <= {} <= {took_ns}", dns.waited_ns);
    let at_most = |le: &str| -> Result<u64> {
        let labels = [("cgroup", ends.client.label.as_str()), ("le", le)];
        page.one("observer_dns_response_seconds_bucket", &labels)?.integer()
    };
    // 0.3 s, unless the machine was slow.
    ensure!((at_most("0.268435456")?, at_most("+Inf")?) == (0, 5), "{dns:?}");
    ensure!(took_ns > 5_000_000_000 || at_most("1.073741824")? == 5, "{dns:?} in {took_ns} ns");
    Ok(())
}

/// Over TCP everything arrives in the end; where messages cannot be told apart for a while, that is told.
fn lossy() -> Result<()> {
    let ends = Ends::new(Wire::routed(Offloads::Off)?, &[])?;
    let (mut server, to) = server(&ends, SERVER_V4)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    client.ask("tcp a.example.org 1")?;
    let loss = ends.wire.lose_one_in(20)?;
    client.ask("tcp a.example.org 400")?;
    let (questions, answers) = served(&mut server)?;
    ensure!((questions, answers) == (401, 401), "{questions}, {answers}");
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, questions, answers)?;
    // One message at a time is in flight: what is lost comes again before anything else, and is counted once.
    let outcome = || {
        ensure!((dns.queries, dns.answered(), dns.timed) == (401, 401, 401), "{dns:?}");
        ensure!(page.dropped("dns_stream")? == 0);
        let again = page.sample_of("observer_tcp_retransmits_total", &ends.client.label)?;
        ensure!(again > 0, "nothing was sent again");
        Ok(())
    };
    explain(&ends.agent, outcome())?;
    // Now many messages are in flight, some of which begin in a segment that comes late.
    for _ in 0..5 {
        client.ask("pipeline a.example.org 200")?;
    }
    drop(loss);
    let (questions, answers) = served(&mut server)?;
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, questions, answers)?;
    explain(&ends.agent, whole_or_told(&dns, &page, (questions, answers)))
}

/// A connection whose beginning nobody saw.
fn older() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (client, server) = (folder.child("client")?, folder.child("server")?);
    let bind = "127.53.0.1:53";
    let _server = Worker::start(Seat::in_cgroup(&server), ["dns-serve", "--bind", bind])?;
    let mut ask = Worker::start(Seat::in_cgroup(&client), ["dns-ask", "--to", bind])?;
    ask.ask("tcp a.example.org 2")?;
    let agent = Agent::start(&[])?;
    ask.ask("tcp a.example.org 5")?;
    ask.ask("pipeline a.example.org 40")?;
    let (dns, page) = Dns::after(&agent, &client.label, 45, 45)?;
    let outcome = || {
        ensure!((dns.queries, dns.answered(), dns.timed) == (45, 45, 45), "{dns:?}");
        ensure!(page.dropped("dns_stream")? == 0);
        Ok(())
    };
    explain(&agent, outcome())
}

/// The server's end of the same conversation.
fn asked() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (_server, to) = server(&ends, SERVER_V4)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    client.ask("udp a.example.org 3")?;
    client.ask("tcp a.example.org 3")?;
    // A forwarder may ask by the port at which it is asked.
    let from = at_port_53(CLIENT_V4)?;
    let mut forwarder = ends.client_worker(&["dns-ask", "--to", &to, "--from", &from])?;
    forwarder.ask("udp a.example.org 2")?;
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, 8, 8)?;
    ensure!((dns.queries, dns.answered()) == (8, 8), "{dns:?}");
    let of_server = Dns::of(&page, &ends.server.label)?;
    ensure!(of_server == Dns::default(), "{of_server:?}");
    Ok(())
}

/// More questions that nobody answers than can be open.
fn many() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (_server, to) = server(&ends, SERVER_V4)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    client.ask("udp none.example.org 20000")?;
    let mut last = (Dns::default(), 0);
    // Each is given up in the end, or had no place.
    let is_whole = wait_until(patience(Duration::from_secs(20)), || {
        let page = ends.agent.scrape()?;
        last = (Dns::of(&page, &ends.client.label)?, page.dropped("dns_question_table")?);
        Ok(last.0.queries == 20_000 && last.0.unanswered + last.1 == 20_000)
    })?;
    ensure!(is_whole && last.1 > 0 && last.0.unanswered > 0, "{last:?}");
    // There is room again.
    client.ask("udp a.example.org 3")?;
    let (dns, _) = Dns::after(&ends.agent, &ends.client.label, 20_003, 3)?;
    ensure!((dns.answered(), dns.timed) == (3, 3), "{dns:?}");
    Ok(())
}
