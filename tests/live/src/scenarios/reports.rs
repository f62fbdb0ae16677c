//! What programs that others use report of their own traffic, against ours: iperf3, curl at a server that uses sendfile, dnsperf and
//! dnsmasq.

use super::ends::Ends;
use crate::{
    agent::explain,
    dns::Dns,
    flows::Flows,
    machine::{patience, wait_until},
    netns::{Offloads, SERVER_V4, Wire},
    page::Counted,
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use std::{fs, time::Duration};

/// IPv4, and TCP with time stamps.
const TCP_HEADERS: u64 = 52;
/// The options of a SYN beyond those.
const SYN_OPTIONS: u64 = 8;
/// IPv4 and UDP.
const UDP_HEADERS: u64 = 28;
const PORT: u16 = 5201;
/// Two for each end: the kernel doubles what is asked for.
const BUFFERS: u64 = 4 * 128 * 1024;
/// What iperf3 says over its control connection, at most.
const CONTROL: u64 = 16 * 1024;

/// Serves one file, as a server does that is made to be fast.
const SERVER: &str = r#"
import http.server, os, sys

class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def copyfile(self, source, outputfile):
        outputfile.flush()
        self.connection.sendfile(source)
    def log_message(self, *ignored):
        pass

os.chdir(sys.argv[1])
server = http.server.HTTPServer((sys.argv[2], 0), Handler)
print("ready", server.server_port, flush=True)
server.serve_forever()
"#;

pub(super) fn tests() -> Vec<Trial> {
    const IPERF: &[Need] = &[Need::Root, Need::Command("ip"), Need::Command("iperf3")];
    const DNS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Command("dnsmasq"), Need::Command("dnsperf")];
    const HTTP: &[Need] = &[Need::Root, Need::Command("ip"), Need::Command("curl"), Need::Command("python3")];
    let mut tests = vec![test("curl_and_a_server_with_sendfile_report_what_is_counted", Place::Host, HTTP, curl)];
    for offloads in [Offloads::Off, Offloads::On] {
        for back in [false, true] {
            let way = if back { "received" } else { "sent" };
            let name = format!("iperf3_reports_what_is_counted_as_{way}_offloads_{offloads:?}").to_lowercase();
            tests.push(test(name, Place::Host, IPERF, move || iperf_tcp(offloads, back)));
        }
    }
    tests.push(test("dnsperf_and_dnsmasq_report_what_is_counted", Place::Host, DNS, dnsperf));
    tests.push(test("iperf3_reports_the_datagrams_of_its_flow", Place::Host, IPERF, iperf_udp));
    tests
}

/// Payload, by the headers of so many packets, of which one was a SYN for each connection.
fn payload(counted: Counted, connections: u64) -> u64 {
    counted.bytes.saturating_sub(TCP_HEADERS * counted.packets + SYN_OPTIONS * connections)
}

/// Runs iperf3 at both ends; what the client reports at its end.
fn iperf(ends: &mut Ends, words: &[&str]) -> Result<Value> {
    let serve = format!("echo ready; exec iperf3 --server --one-off --bind {SERVER_V4} --port {PORT} >/dev/null");
    ends.serve(&["exec", "sh", "-c", &serve])?;
    let table = format!("/proc/{}/net/tcp", ends.wire.server.pid());
    let entry = format!(":{PORT:04X} 00000000:0000 0A");
    let listens = wait_until(Duration::from_secs(20), || Ok(fs::read_to_string(&table)?.contains(&entry)))?;
    ensure!(listens, "iperf3 does not listen");
    let port = PORT.to_string();
    let usual = ["exec", "iperf3", "--client", SERVER_V4, "--port", &port, "--json"];
    let text = ends.client_seat(&ends.client).run(usual.iter().chain(words))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("iperf3 says {text}"))?;
    ensure!(report["error"].is_null(), "iperf3: {}", report["error"]);
    Ok(report["end"].clone())
}

fn number(report: &Value, sum: &str, field: &str) -> Result<u64> {
    report[sum][field].as_u64().with_context(|| format!("no {field} of {sum}: {report}"))
}

fn iperf_tcp(offloads: Offloads, back: bool) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(offloads)?, &[])?;
    let mut words = vec!["--bytes", "100M", "--window", "128K"];
    words.extend(back.then_some("--reverse"));
    let report = iperf(&mut ends, &words)?;
    let (page, ..) = ends.still_page()?;
    let (client, server) = (page.traffic(&ends.client.label)?, page.traffic(&ends.server.label)?);
    let (sender, receiver) = if back { (&server, &client) } else { (&client, &server) };
    let (handed, arrived) = (number(&report, "sum_sent", "bytes")?, number(&report, "sum_received", "bytes")?);
    let retransmits = number(&report, "sum_sent", "retransmits")?;
    let sends = if back { &ends.server.label } else { &ends.client.label };
    let outcome = || {
        ensure!(arrived >= 100_000_000, "iperf3 received {arrived} bytes only");
        // A control connection beside that of the data. What was sent again counts again, a segment of the MTU at the most. What is in
        // the buffers of both ends when it stops is sent by its account, and not by ours, or the other way round.
        let around = |reported: u64| reported - BUFFERS..=reported + CONTROL + BUFFERS + retransmits * 1448;
        let transmitted = payload(sender.transmit, 2);
        ensure!(around(handed).contains(&transmitted), "{transmitted} bytes of payload were counted as sent: {report}");
        let taken = payload(receiver.receive, 2);
        ensure!(around(arrived).contains(&taken), "{taken} bytes of payload were counted as received: {report}");
        let ours = page.sample_of("observer_tcp_retransmits_total", sends).unwrap_or(0);
        // It asks its data connection alone, a moment before the end: what is lost then is sent again, at most what the buffers held.
        let most = retransmits + BUFFERS / 1448;
        ensure!((retransmits..=most).contains(&ours), "{ours} retransmits, and iperf3 has {retransmits}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

fn iperf_udp() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let report = iperf(&mut ends, &["--udp", "--bandwidth", "100M", "--bytes", "20M", "--length", "1000"])?;
    let (flows, _) = Flows::at_rest(&ends.agent, &ends.client.label)?;
    let (bytes, packets) = (number(&report, "sum", "bytes")?, number(&report, "sum", "packets")?);
    let flow = flows.only(|flow| flow.text("protocol") == "udp" && flow.number("remote_port") == u64::from(PORT))?;
    let counted = flow.traffic().transmit;
    let outcome = || {
        // Before the test it sends one datagram of four bytes.
        ensure!(counted.packets == packets + 1, "{counted} in the flow: {report}");
        ensure!(counted.bytes == bytes + 4 + UDP_HEADERS * counted.packets, "{counted} in the flow: {report}");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

fn curl() -> Result<()> {
    const SIZE: usize = 30_000_001;
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("file"), vec![b'x'; SIZE])?;
    let folder = directory.path().to_str().context("a path that is not UTF-8")?;
    let mut ends = Ends::new(Wire::direct(Offloads::On)?, &[])?;
    let port = ends.serve(&["exec", "python3", "-c", SERVER, folder, SERVER_V4])?;
    let url = format!("http://{SERVER_V4}:{port}/file");
    let words = ["exec", "curl", "--silent", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{json}", &url];
    let text = ends.client_seat(&ends.client).run(words)?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("curl says {text}"))?;
    let of = |field: &str| report[field].as_u64().with_context(|| format!("no {field} of curl: {text}"));
    ensure!(of("size_download")? == SIZE as u64, "{text}");
    let (page, ..) = ends.still_page()?;
    let (client, server) = (page.traffic(&ends.client.label)?, page.traffic(&ends.server.label)?);
    let outcome = || {
        let (asked, answered) = (of("size_request")?, of("size_header")? + of("size_download")?);
        let again = page.sample_of("observer_tcp_retransmits_total", &ends.server.label).unwrap_or(0);
        for (what, counted, expected) in
            [("received by curl", client.receive, answered), ("sent by the server", server.transmit, answered)]
        {
            let more = payload(counted, 1) - expected;
            ensure!(
                more <= again * 1448,
                "{what}: {counted}, and curl reports {expected}, {again} segments again: {text}"
            );
        }
        // An acknowledgement of what came out of order has an option more, of 12 to 36 bytes.
        for (what, counted) in [("sent by curl", client.transmit), ("received by the server", server.receive)] {
            let options = payload(counted, 1).checked_sub(asked);
            let fits = options.is_some_and(|options| options.is_multiple_of(4) && options <= 36 * counted.packets / 4);
            ensure!(fits, "{what}: {counted}: {text}");
        }
        ensure!(again > 0 || client == server.mirrored(), "{client} at curl, {server} at the server");
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
            let (flows, page) = Flows::at_rest(&ends.agent, &ends.client.label)?;
            let asks = flows.only(|flow| flow.number("remote_port") == 53)?;
            let names = asks.of("names").as_array().context("no names")?;
            let read: u64 = names.iter().filter_map(|row| row["answers"].as_u64()).sum();
            let unread = page.dropped("dns_answer_unread")?;
            ensure!(read > 0 && read + unread == asked, "{mode}: {read} answers were read, {unread} not: {asks:?}");
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
