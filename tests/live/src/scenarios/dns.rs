//! What is asked of DNS servers: every question and every answer, over UDP and TCP, however they are cut, with their response codes and how
//! long they took.

use super::{ends::Ends, wire::any_port};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    flows::Flows,
    http,
    machine::{patience, wait_until},
    netns::{CLIENT_V4, Offloads, SERVER_V4, SERVER_V6, Wire},
    page::{self, Page},
    trial::{Need, Place, test},
    worker::{Seat, Worker, dns::SLOW},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use std::{collections::BTreeMap, fs, time::Duration};

const DNSPERF: &[Need] = &[Need::Root, Need::Command("ip"), Need::Command("dnsmasq"), Need::Command("dnsperf")];
const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("dns_questions_and_answers_are_as_many_as_the_server_says", Place::Both, NEEDS, counted),
        test("of_dns_messages_that_are_sent_in_one_go_all_are_counted_or_it_is_told", Place::Both, NEEDS, in_one_go),
        test("a_dns_answer_is_as_old_as_its_question", Place::Both, NEEDS, waited),
        test("dns_over_tcp_is_counted_with_packets_lost_and_what_is_missed_is_told", Place::Host, NEEDS, lossy),
        test("dns_over_a_connection_older_than_the_agent_is_counted", Place::Both, &[Need::Root], older),
        test("what_comes_from_port_53_and_was_not_asked_for_tells_nothing", Place::Both, NEEDS, forged),
        test("who_is_asked_books_no_questions", Place::Both, NEEDS, asked),
        test("a_flow_goes_by_the_name_that_its_entity_looked_up", Place::Both, NEEDS, named),
        test("dnsperf_and_dnsmasq_report_what_is_counted", Place::Host, DNSPERF, dnsperf),
    ]
}

/// What a page says of a cgroup's DNS.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dns {
    queries: u64,
    responses: BTreeMap<String, u64>,
    timed: u64,
    waited_ns: u64,
    unasked: u64,
    unanswered: u64,
}

impl Dns {
    fn of(page: &Page, cgroup: &str) -> Result<Self> {
        let labels = [("cgroup", cgroup)];
        let one =
            |name: &str| -> Result<u64> { page.samples(name, &labels)?.first().map_or(Ok(0), page::Sample::integer) };
        let responses = page.samples("observer_dns_responses_total", &labels)?;
        let responses = responses.iter().map(|sample| Ok((sample.label("rcode").to_owned(), sample.integer()?)));
        let sum = page.samples("observer_dns_response_seconds_sum", &labels)?;
        Ok(Self {
            queries: one("observer_dns_queries_total")?,
            responses: responses.collect::<Result<_>>()?,
            timed: one("observer_dns_response_seconds_count")?,
            waited_ns: sum.first().map_or(Ok(0), page::Sample::nanoseconds)?,
            unasked: one("observer_dns_unasked_responses_total")?,
            unanswered: one("observer_dns_unanswered_total")?,
        })
    }

    fn answered(&self) -> u64 {
        self.responses.values().sum()
    }

    /// Once so many questions and answers are there: the tables they are in rest for a second, and are asked for once a second.
    fn after(agent: &Agent, cgroup: &str, queries: u64, answers: u64) -> Result<(Self, Page)> {
        let mut last = None;
        wait_until(patience(Duration::from_secs(8)), || {
            let page = agent.scrape()?;
            let dns = Self::of(&page, cgroup)?;
            let is_there = dns.queries >= queries && dns.answered() >= answers;
            last = Some((dns, page));
            Ok(is_there)
        })?;
        last.context("no page")
    }
}

/// A server at the far end; the worker, whom to ask how much it served, and where it listens.
fn server(ends: &Ends, address: &str) -> Result<(Worker, String)> {
    let bind = if address.contains(':') { format!("[{address}]:53") } else { format!("{address}:53") };
    Ok((ends.server_worker(&["dns-serve", "--bind", &bind])?, bind))
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
    for address in [SERVER_V4, SERVER_V6] {
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
            "tcp a.example.org 5",
            "tcp pieces.example.org 3",
            "tcp rcode-1.example.org 2",
            "tcp rcode-4.example.org 2",
            "udp twice.example.org 3",
        ] {
            client.ask(line)?;
        }
        servers.push(server);
    }
    for server in &mut servers {
        let (more_questions, more_answers) = served(server)?;
        (questions, answers) = (questions + more_questions, answers + more_answers);
    }
    ensure!((questions, answers) == (2 * 59, 2 * 55), "the servers have {questions}, {answers}");
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, questions, answers)?;
    let outcome = || {
        ensure!(dns.queries == questions, "{dns:?}: the servers were asked {questions} times");
        ensure!(dns.answered() == answers && dns.timed == answers, "{dns:?}: the servers answered {answers} times");
        let codes = [("FORMERR", 2), ("NOERROR", 37), ("NOTIMP", 2), ("NXDOMAIN", 8), ("REFUSED", 2), ("SERVFAIL", 3)];
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
        Ok(last.unanswered == 8)
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

/// A service that sends back what it gets, and somebody who sends to it from the port at which DNS servers are asked.
fn forged() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let mut echo = ends.client_worker(&["udp-sink", "--bind", &any_port(CLIENT_V4)?, "--echo"])?;
    let from = format!("{SERVER_V4}:53");
    let to = echo.greeting.clone();
    let mut forger = ends.server_worker(&["dns-ask", "--to", &to, "--from", &from])?;
    forger.ask("forge at-203-0-113-66.example.org 50")?;
    let came = wait_until(patience(Duration::from_secs(10)), || Ok(echo.ask("count")? == "100"))?;
    ensure!(came, "not all came");
    // And somebody who does ask, in the same cgroup: what is told of that is told after the rest.
    let (_server, to) = server(&ends, SERVER_V6)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    client.ask("udp at-203-0-113-77.example.org 2")?;
    let (dns, _) = Dns::after(&ends.agent, &ends.client.label, 2, 2)?;
    let whois = |address: &str| -> Result<Value> {
        let answer = http::get(ends.agent.debug_address()?, &format!("/api/v1/whois?address={address}"))?;
        Ok(serde_json::from_str(answer.text()?)?)
    };
    let outcome = || {
        ensure!((dns.queries, dns.answered(), dns.unasked) == (2, 2, 0), "{dns:?}");
        ensure!(whois("203.0.113.77")?["looked_up"][0]["name"] == "at-203-0-113-77.example.org");
        let told = whois("203.0.113.66")?;
        ensure!(told["looked_up"].is_null(), "{told}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

/// The server's end of the same conversation.
fn asked() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (_server, to) = server(&ends, SERVER_V4)?;
    let mut client = ends.client_worker(&["dns-ask", "--to", &to])?;
    client.ask("udp a.example.org 3")?;
    client.ask("tcp a.example.org 3")?;
    // A forwarder may ask by the port at which it is asked.
    let from = format!("{CLIENT_V4}:53");
    let mut forwarder = ends.client_worker(&["dns-ask", "--to", &to, "--from", &from])?;
    forwarder.ask("udp a.example.org 2")?;
    let (dns, page) = Dns::after(&ends.agent, &ends.client.label, 8, 8)?;
    ensure!((dns.queries, dns.answered()) == (8, 8), "{dns:?}");
    let of_server = Dns::of(&page, &ends.server.label)?;
    ensure!(of_server == Dns::default(), "{of_server:?}");
    Ok(())
}

/// Two programs look one address up by different names, and talk to it; a third talks to it without.
fn named() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (_server, to) = server(&ends, SERVER_V4)?;
    let at = format!("at-{}", SERVER_V4.replace('.', "-"));
    let other = ends.folder.child("other")?;
    let service = ends.serve_tcp(SERVER_V4)?;
    let mut ask = ends.client_worker(&["dns-ask", "--to", &to])?;
    ask.ask(&format!("udp {at}.First.Example.org 1"))?;
    ask.ask(&format!("tcp {at}.second.example.org 1"))?;
    ask.ask("udp rcode-3.third.example.org 1")?;
    let mut elsewhere = Worker::start(ends.client_seat(&other), ["dns-ask", "--to", &to])?;
    elsewhere.ask(&format!("udp {at}.OTHER.example.org 1"))?;
    let mut talkers = Vec::new();
    for cgroup in [&ends.client, &other] {
        let mut talk = Worker::start(ends.client_seat(cgroup), ["tcp-talk", "--to", &service])?;
        talk.ask("upload 300000 write")?;
        talk.ask("close")?;
        talkers.push(talk);
    }
    let port = super::flows::port(&service)?;
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
        expected.push("rcode-3.third.example.org".into());
        ensure!(names.eq(expected.iter().map(|name| (name.as_str(), Some(1)))), "{asks:?}");
        let (flows, _) = Flows::at_rest(&ends.agent, &ends.server.label)?;
        let unnamed = flows.all.iter().all(|flow| flow.of("remote").is_null());
        ensure!(unnamed, "the server looked nothing up: {:#?}", flows.all);
        let answer = http::get(ends.agent.debug_address()?, &format!("/api/v1/whois?address={SERVER_V4}"))?;
        let whois: Value = serde_json::from_str(answer.text()?)?;
        let names: Vec<_> = whois["looked_up"].as_array().context("no names")?.iter().map(|row| &row["name"]).collect();
        ensure!(names.len() == 2, "{whois}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

/// A resolver that many use, and a program that loads it and keeps its own account.
fn dnsperf() -> Result<()> {
    // Over TCP, dnsmasq hangs up after a hundred questions, and some are lost: of four connections, none comes that far.
    for (mode, asked) in [("udp", 3000), ("tcp", 300)] {
        let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let serve = format!(
            "echo ready; exec dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv --user=root --pid-file= \
             --bind-interfaces --listen-address={SERVER_V4} --local=/example.org/ --host-record=www.example.org,203.0.113.7 \
             --log-queries --log-facility={}",
            log.display()
        );
        ends.serve(&["exec", "sh", "-c", &serve])?;
        let text = || fs::read_to_string(&log).unwrap_or_default();
        let listens = wait_until(patience(Duration::from_secs(20)), || Ok(text().contains("started, version")))?;
        ensure!(listens, "dnsmasq does not start: {}", text());
        let names = folder.path().join("names");
        // One that there is, and two that there are not.
        fs::write(&names, "www.example.org A\nnone.example.org A\nwww.example.org AAAA\nabsent.example.org A\n")?;
        let runs = (asked / 4).to_string();
        let words = ["exec", "dnsperf", "-s", SERVER_V4, "-m", mode, "-n", &runs, "-c", "4", "-q", "20", "-d"];
        let report = ends.client_seat(&ends.client).run(words.iter().copied().chain([&*names.to_string_lossy()]))?;
        let (sent, completed) = (reported(&report, "Queries sent:")?, reported(&report, "Queries completed:")?);
        let average_ns = (reported(&report, "Average Latency (s):")? * 1e9) as u64;
        let (dns, page) = Dns::after(&ends.agent, &ends.client.label, sent as u64, completed as u64)?;
        let outcome = || {
            ensure!(sent as u64 == asked && completed as u64 == asked, "{report}");
            ensure!((dns.queries, dns.answered(), dns.timed) == (asked, asked, asked), "{mode}: {dns:?}\n{report}");
            // dnsperf knows them by the same names.
            let codes = [("NOERROR", asked / 2), ("NXDOMAIN", asked / 2)].map(|(code, count)| (code.to_owned(), count));
            ensure!(dns.responses == codes.into(), "{mode}: {dns:?}\n{report}");
            for (code, count) in &dns.responses {
                ensure!(report.contains(&format!("{code} {count} ")), "{code} {count}: {report}");
            }
            let served = text().lines().filter(|line| line.contains(" query[")).count() as u64;
            ensure!(served == asked, "{mode}: dnsmasq logs {served} questions");
            // It begins before the packet does, and ends when it gets to read the answer.
            let ours_ns = dns.waited_ns / asked;
            ensure!(ours_ns <= average_ns, "{mode}: {ours_ns} ns on average, and dnsperf has {average_ns}");
            ensure!(page.dropped("dns_stream")? == 0);
            println!("{mode}: {ours_ns} ns from question to answer, dnsperf has {average_ns}");
            Ok(())
        };
        explain(&ends.agent, outcome())?;
    }
    Ok(())
}

/// The first number behind a word of dnsperf's report.
fn reported(report: &str, what: &str) -> Result<f64> {
    let line = report.lines().find_map(|line| line.trim().strip_prefix(what));
    let word =
        line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no {what} in {report}"))?;
    Ok(word.parse()?)
}
