//! The API of the debug listener: its description against its answers, the snapshot against the page and the kernel, and its events.

use super::ends::Ends;
use crate::{
    agent::{Agent, explain},
    http::{self, Answer},
    machine::patience,
    netns::{Offloads, SERVER_V4, Wire},
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![
        test(
            "every_answer_of_the_api_is_as_its_description_says_and_nothing_is_left_out",
            Place::Host,
            NEEDS,
            described,
        ),
        test("a_snapshot_says_what_the_page_says_and_who_is_active", Place::Both, NEEDS, snapshot),
        test("events_come_each_second_to_all_who_listen_and_end_with_the_agent", Place::Both, &[Need::Root], events),
        test("programs_are_told_with_their_state_and_their_cost", Place::Both, &[Need::Root], programs),
    ]
}

fn ask(agent: &Agent, path: &str) -> Result<Answer> {
    http::get(agent.debug_address()?, path)
}

fn json_of(agent: &Agent, path: &str) -> Result<Value> {
    let answer = ask(agent, path)?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text()?);
    serde_json::from_str(answer.text()?).with_context(|| path.to_owned())
}

/// The document that describes the API.
struct Description(Value);

impl Description {
    fn of(agent: &Agent) -> Result<Self> {
        let document = json_of(agent, "/api/v1/openapi.json")?;
        ensure!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
        Ok(Self(document))
    }

    /// What is wrong with an answer to a path, by the schema for its status.
    fn complaints(&self, path: &str, answer: &Answer) -> Result<Vec<String>> {
        let responses = &self.0["paths"][path]["get"]["responses"];
        let status = answer.status.to_string();
        let response = responses.get(&status).unwrap_or(&responses["default"]);
        let kind = answer.header("content-type").unwrap_or_default();
        let schema = &response["content"][kind]["schema"];
        ensure!(schema.is_object(), "{path}: {status} as {kind} is not described");
        // References are to the document.
        let schema = json!({ "allOf": [schema], "components": self.0["components"] });
        let validator = jsonschema::validator_for(&schema).with_context(|| format!("the schema of {path}"))?;
        let body: Value = serde_json::from_str(answer.text()?)?;
        Ok(validator.iter_errors(&body).map(|error| format!("{path}: {error} at {}", error.instance_path())).collect())
    }

    /// The names of a path's parameters, those first that have to be there.
    fn parameters(&self, path: &str) -> Vec<(&str, bool)> {
        let all = self.0["paths"][path]["get"]["parameters"].as_array();
        let named = all.into_iter().flatten().filter_map(|one| Some((one["name"].as_str()?, one["required"] == true)));
        let mut named: Vec<_> = named.collect();
        named.sort_by_key(|(_, required)| !required);
        named
    }

    fn paths(&self) -> Vec<&str> {
        self.0["paths"].as_object().into_iter().flatten().map(|(path, _)| path.as_str()).collect()
    }
}

/// A value that each parameter takes.
fn sample(path: &str, parameter: &str) -> Result<&'static str> {
    Ok(match (path, parameter) {
        (_, "top") => "3",
        (_, "sort") => "load",
        (_, "entity") => "%2Fsystem.slice",
        (_, "scope") => "intranet",
        (_, "since") => "30m",
        (_, "step") => "1s",
        (_, "address") => "203.0.113.9:443",
        (_, "at") => "2026-11-26T10:00:00Z",
        (_, "workload") => "node",
        ("/api/v1/growth", "metric") => "wait",
        (_, "metric") => "egress_peak",
        // Of one that nobody knows.
        (_, "workload_type") => "deployment",
        _ => bail!("{path} has a parameter {parameter} of which the test knows nothing"),
    })
}

fn described() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (tcp, udp) = (ends.serve_tcp(SERVER_V4)?, ends.serve_udp(SERVER_V4)?);
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &tcp])?;
    talk.ask("upload 1000000 write")?;
    talk.ask("close")?;
    ends.client_worker(&["udp-talk", "--to", &udp, "--size", "700"])?.ask("send 30")?;
    let description = Description::of(&ends.agent)?;
    std::thread::sleep(Duration::from_secs(2));
    let outcome = || {
        for path in description.paths().into_iter().filter(|path| !path.ends_with("/events")) {
            let all = description.parameters(path);
            let word = |name: &str| Ok(format!("{name}={}", sample(path, name)?));
            let needed: Vec<String> =
                all.iter().filter(|(_, required)| *required).map(|(name, _)| word(name)).collect::<Result<_>>()?;
            let mut queries = vec![needed.join("&")];
            for (name, _) in all.iter().filter(|(_, required)| !required) {
                queries.push(needed.iter().cloned().chain([word(name)?]).collect::<Vec<_>>().join("&"));
            }
            for query in queries {
                let answer = ask(&ends.agent, &format!("{path}?{query}"))?;
                let is_refused = query.contains("workload_type");
                ensure!(answer.status == if is_refused { 400 } else { 200 }, "{path}?{query}: {}", answer.text()?);
                let complaints = description.complaints(path, &answer)?;
                ensure!(complaints.is_empty(), "{path}?{query}: {complaints:#?}\n{}", answer.text()?);
            }
            // What is not described is refused, as is described.
            let refused = ask(&ends.agent, &format!("{path}?nonsense=1"))?;
            if !path.ends_with("openapi.json") && !path.ends_with("/workloads") && !path.ends_with("/programs") {
                ensure!(refused.status == 400, "{path}?nonsense=1: {}", refused.status);
                ensure!(description.complaints(path, &refused)?.is_empty(), "{}", refused.text()?);
            }
        }
        // An event's data is a snapshot.
        let event = Listener::to(ends.agent.debug_address()?, "/api/v1/events")?.event()?;
        let mut snapshot = ask(&ends.agent, "/api/v1/snapshot")?;
        snapshot.body = event.to_string().into_bytes();
        let complaints = description.complaints("/api/v1/snapshot", &snapshot)?;
        ensure!(complaints.is_empty(), "{complaints:#?}");
        // What the index names, and nothing else.
        let index = ask(&ends.agent, "/api/v1")?;
        let lines = index.text()?.lines().filter(|line| line.starts_with("/api"));
        let mut named: Vec<_> = lines.filter_map(|line| line.split([' ', '?']).next()).collect();
        named.sort_unstable();
        let mut described = description.paths();
        described.sort_unstable();
        ensure!(named == described, "the index has {named:?}, and described are {described:?}");
        // A description that says nothing would find nothing.
        let mut flows = ask(&ends.agent, "/api/v1/flows")?;
        flows.body = flows.text()?.replacen("\"direction\"", "\"way\"", 1).into_bytes();
        ensure!(!description.complaints("/api/v1/flows", &flows)?.is_empty(), "a wrong name is not found");
        Ok(())
    };
    explain(&ends.agent, outcome())
}

fn snapshot() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let tcp = ends.serve_tcp(SERVER_V4)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &tcp])?;
    talk.ask("upload 3000000 write")?;
    let busy = ends.folder.child("busy")?;
    let mut workers = (0..2).map(|_| Worker::start(Seat::in_cgroup(&busy), ["vfork"])).collect::<Result<Vec<_>>>()?;
    workers.iter_mut().try_for_each(|worker| worker.tell("vfork 600000"))?;
    std::thread::sleep(patience(Duration::from_secs(7)));
    let (page, near, _) = ends.still_page()?;
    let outcome = || {
        let all = json_of(&ends.agent, "/api/v1/snapshot?top=10000")?;
        let row = |cgroup: &str| {
            let rows = all["entities"].as_array();
            rows.into_iter().flatten().find(|row| row["entity"]["cgroup"] == *cgroup).cloned().context("no such entity")
        };
        let client = row(&ends.client.label)?;
        ensure!(client["transmit_bytes"] == json!({ "intranet": near.transmit.bytes }), "{client}\nthe device: {near}");
        ensure!(client["receive_bytes"] == json!({ "intranet": near.receive.bytes }), "{client}\nthe device: {near}");
        ensure!(client["transmit_peak_bytes_per_second"].as_f64() >= Some(1_000_000.0), "{client}");
        let asleep = row(&busy.label)?;
        let active = asleep["active_tasks"].as_f64().context("no tasks")?;
        ensure!((active - 2.0).abs() < 0.1, "{asleep}");
        ensure!(asleep["load1"].as_f64() > Some(0.1), "{asleep}");
        // The shares are what all have together, and with what is nobody's the kernel's.
        let shares: f64 =
            all["entities"].as_array().into_iter().flatten().filter_map(|row| row["load1"].as_f64()).sum();
        let kernels = all["load"]["load1"].as_f64().context("no load")?;
        let nobodys = all["load1_unattributed"].as_f64().context("no rest")?;
        ensure!((shares + nobodys - kernels).abs() < 0.001, "{shares} and {nobodys} are not {kernels}");
        let together = all["all"]["load1"].as_f64().context("no load of all")?;
        ensure!((shares - together).abs() < 0.001, "{shares} are not {together}");
        ensure!(all["all"]["active_tasks"].as_f64() >= Some(active - 0.1), "{}", all["all"]);
        let waits = page.one("observer_run_queue_wait_seconds_sum", &[("cgroup", &ends.client.label)])?.value;
        let waited = client["wait_seconds"].as_f64().context("no waits")?;
        ensure!(waits.parse::<f64>()? > 0.0 && waited >= waits.parse::<f64>()?, "{client}: {waits}");
        // Whoever is asked for, and as many.
        let one = json_of(&ends.agent, &format!("/api/v1/snapshot?entity={}", busy.label.replace('/', "%2F")))?;
        let names: Vec<_> =
            one["entities"].as_array().into_iter().flatten().map(|row| &row["entity"]["cgroup"]).collect();
        ensure!(names == [&json!(busy.label)] && one["more"] == 0, "{one}");
        let by_load = json_of(&ends.agent, "/api/v1/snapshot?sort=load&top=1")?;
        let most = by_load["entities"][0]["load1"].as_f64();
        ensure!(
            by_load["entities"].as_array().map(Vec::len) == Some(1) && most >= asleep["load1"].as_f64(),
            "{by_load}"
        );
        Ok(())
    };
    explain(&ends.agent, outcome())
}

/// Someone who listens.
struct Listener(BufReader<TcpStream>);

impl Listener {
    fn to(address: SocketAddr, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience(Duration::from_secs(10))))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n")?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The next line that begins so; `None` at the end.
    fn line(&mut self, start: &str) -> Result<Option<String>> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if let Some(rest) = line.trim_end().strip_prefix(start) {
                return Ok(Some(rest.to_owned()));
            }
        }
    }

    fn event(&mut self) -> Result<Value> {
        let name = self.line("event: ")?.context("no event")?;
        ensure!(name == "snapshot", "an event {name}");
        Ok(serde_json::from_str(&self.line("data: ")?.context("no data")?)?)
    }
}

fn events() -> Result<()> {
    let agent = Agent::start(&[])?;
    let address = agent.debug_address()?;
    let mut one = Listener::to(address, "/api/v1/events?top=1")?;
    let kind = one.line("content-type: ")?.context("no head")?;
    ensure!(kind == "text/event-stream", "{kind}");
    let mut other = Listener::to(address, "/api/v1/events")?;
    one.event()?;
    let mut times = Vec::new();
    for _ in 0..4 {
        let event = one.event()?;
        ensure!(event["entities"].as_array().map(Vec::len) == Some(1) && event["node"] == "live", "{event}");
        times.push(event["time_unix_seconds"].as_u64().context("no time")?);
    }
    let took = times[3] - times[0];
    ensure!(times.is_sorted() && took >= 2, "4 events in {took} s");
    ensure!(other.event()?["entities"].as_array().is_some_and(|rows| rows.len() > 1), "one entity");
    let wrong = http::get(address, "/api/v1/events?sort=name")?;
    ensure!(wrong.status == 400 && wrong.text()?.contains("bytes, load, wait, memory"), "{}", wrong.text()?);
    let (status, took, log) = agent.end(Signal::SIGTERM)?;
    ensure!(status.success() && took < patience(Duration::from_secs(1)), "{status} after {took:?}\n{log}");
    // The end is an end, and no line is cut.
    while let Some(data) = one.line("data: ")? {
        serde_json::from_str::<Value>(&data).context("a line was cut")?;
    }
    Ok(())
}

fn programs() -> Result<()> {
    let agent = Agent::start(&[])?;
    let told = json_of(&agent, "/api/v1/programs")?;
    let outcome = || {
        let page = agent.scrape()?;
        let programs = told["programs"].as_array().context("no programs")?;
        ensure!(programs.len() > 8, "{told}");
        for program in programs {
            let name = program["program"].as_str().context("no name")?;
            let up = page.one("observer_bpf_program_up", &[("program", name)])?.value == "1";
            ensure!(program["up"] == up && program["reason"].is_null() == up, "{program}");
        }
        ensure!(told["agent"]["cpu_seconds"].as_f64() > Some(0.0), "{told}");
        ensure!(told["agent"]["resident_bytes"].as_u64() > Some(1 << 20), "{told}");
        Ok(())
    };
    explain(&agent, outcome())
}
