//! The listener: what it answers, what it refuses, and that nobody can keep it busy.

use crate::{
    agent::Agent,
    flows::Flows,
    http::{self, request},
    machine::{patience, wait_until},
    trial::{Need, Place, test},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    collections::{BTreeSet, VecDeque},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("only_get_and_head_are_answered", Place::Both, &[Need::Root], methods),
        test("the_page_comes_compressed_when_asked", Place::Both, &[Need::Root], compression),
        test("health_and_readiness_have_their_places", Place::Both, &[Need::Root], probes),
        test("a_thousand_slow_connections_do_not_keep_a_scrape_waiting", Place::Both, &[Need::Root], slow_connections),
        test("a_header_without_end_is_refused_and_takes_no_memory", Place::Both, &[Need::Root], endless_header),
        test("scrapes_at_the_same_time_all_get_a_whole_page", Place::Both, &[Need::Root], concurrent_scrapes),
        test("who_asks_for_flows_at_the_same_time_waits_for_no_one_else", Place::Host, &[Need::Root], concurrent_flows),
    ]
}

fn methods() -> Result<()> {
    let agent = Agent::start(&[])?;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = request(method, agent.address, "/metrics", &["Content-Length: 0"])?;
        ensure!(answer.status == 405, "{method}: {}", answer.status);
    }
    let head = request("HEAD", agent.address, "/metrics", &[])?;
    ensure!(head.status == 200 && head.body.is_empty(), "HEAD: {} with {} bytes", head.status, head.body.len());
    let get = agent.get("/metrics")?;
    let kind = get.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    ensure!(agent.get("/nothing/here")?.status == 404);
    Ok(())
}

fn compression() -> Result<()> {
    let agent = Agent::start(&[])?;
    let plain = agent.get("/metrics")?;
    ensure!(plain.header("content-encoding").is_none(), "compressed without being asked");
    let packed = request("GET", agent.address, "/metrics", &["Accept-Encoding: gzip"])?;
    ensure!(packed.header("content-encoding") == Some("gzip"), "{packed:?}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_string(&mut text).context("unpack")?;
    let families =
        |text: &str| text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect::<Vec<_>>();
    ensure!(families(&text) == families(plain.text()?), "the compressed page has other families");
    ensure!(
        text.ends_with('\n') && packed.body.len() < text.len() / 2,
        "{} of {} bytes",
        packed.body.len(),
        text.len()
    );
    Ok(())
}

fn probes() -> Result<()> {
    let agent = Agent::start(&[])?;
    for path in ["/healthz", "/readyz"] {
        ensure!(agent.get(path)?.status == 200, "{path}");
    }
    Ok(())
}

/// How many keep the listener busy, and what the agent may have open for them: its cap of 64, and a few.
const CROWD: usize = 1000;
const CROWD_DESCRIPTORS: usize = 64 + 8;
const SCRAPES: usize = 100;

fn slow_connections() -> Result<()> {
    let agent = Agent::start(&[])?;
    agent.scrape()?;
    let before = open_descriptors(&agent)?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(4096)), hard).context("hold a thousand connections")?;
    let crowd = Crowd::default();
    let (mut times, most) = std::thread::scope(|scope| {
        scope.spawn(|| crowd.come(agent.address));
        let outcome = scrape_beside(&crowd, &agent);
        crowd.leave.store(true, Ordering::Relaxed);
        outcome
    })?;
    times.sort();
    let (p99, worst) = (times[SCRAPES * 99 / 100 - 1], times[SCRAPES - 1]);
    let limit = patience(Duration::from_secs(1));
    ensure!(p99 < limit, "the 99th percentile of {SCRAPES} scrapes is {p99:?}, the worst {worst:?}");
    ensure!(most <= before + CROWD_DESCRIPTORS, "{most} descriptors, {before} without the crowd");
    Ok(())
}

/// How long each scrape took, and the most descriptors the agent had.
fn scrape_beside(crowd: &Crowd, agent: &Agent) -> Result<(Vec<Duration>, usize)> {
    let all = || Ok(crowd.opened.load(Ordering::Relaxed) >= CROWD);
    ensure!(wait_until(patience(Duration::from_secs(30)), all)?, "{:?} connections in half a minute", crowd.opened);
    let (mut times, mut most) = (Vec::new(), 0);
    for number in 1..=SCRAPES {
        let start = Instant::now();
        let answer = http::get(agent.address, "/metrics").with_context(|| format!("scrape {number}"))?;
        times.push(start.elapsed());
        ensure!(answer.status == 200, "scrape {number}: {}", answer.status);
        most = most.max(open_descriptors(agent)?);
        // A dozen more of the crowd come.
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((times, most))
}

fn open_descriptors(agent: &Agent) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", agent.pid()))?.count())
}

/// A thousand clients that stop within a request. The listener closes some for the next; they come again.
#[derive(Default)]
struct Crowd {
    opened: AtomicUsize,
    leave: AtomicBool,
}

impl Crowd {
    fn come(&self, address: SocketAddr) {
        let mut slow = VecDeque::new();
        while !self.leave.load(Ordering::Relaxed) {
            // One that is refused may come again: that is what a cap is for.
            if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500))
                && stream.write_all(b"GET /metrics HT").is_ok()
            {
                slow.push_back(stream);
                self.opened.fetch_add(1, Ordering::Relaxed);
            }
            if slow.len() > CROWD {
                slow.pop_front();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn endless_header() -> Result<()> {
    let agent = Agent::start(&[])?;
    agent.scrape()?;
    let before = resident_kilobytes(&agent)?;
    for _ in 0..4 {
        let mut stream = TcpStream::connect(agent.address)?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ")?;
        let chunk = vec![b'a'; 65536];
        let taken = (0..160).take_while(|_| stream.write_all(&chunk).is_ok()).count();
        let mut answer = Vec::new();
        // Cut off with a reset, or told so.
        let told = stream.read_to_end(&mut answer).is_err() || answer.starts_with(b"HTTP/1.1 431 ");
        ensure!(told, "{taken} chunks taken, answered {:?}", String::from_utf8_lossy(&answer));
    }
    ensure!(agent.get("/healthz")?.status == 200);
    let grown = resident_kilobytes(&agent)?.saturating_sub(before);
    ensure!(grown < 4000, "4 headers of 10 MB made it {grown} kB bigger");
    Ok(())
}

fn resident_kilobytes(agent: &Agent) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(resident.trim().trim_end_matches(" kB").parse()?)
}

fn concurrent_scrapes() -> Result<()> {
    let agent = Agent::start(&[])?;
    let address = agent.address;
    let scrapers: Vec<_> = (0..16).map(|_| std::thread::spawn(move || http::get(address, "/metrics"))).collect();
    for scraper in scrapers {
        let answer = scraper.join().ok().context("a scraper panicked")??;
        ensure!(answer.status == 200 && answer.text()?.contains("process_cpu_seconds_total"), "{}", answer.status);
    }
    Ok(())
}

/// Rates take half a second, or a whole one at first: all have them of the same one, or of the next.
fn concurrent_flows() -> Result<()> {
    let agent = Agent::start(&[])?;
    let intervals = std::thread::scope(|scope| -> Result<BTreeSet<u64>> {
        let who_ask: Vec<_> = (0..16).map(|_| scope.spawn(|| Flows::ask(&agent, "top=1"))).collect();
        let answers = who_ask.into_iter().map(|asked| asked.join().ok().context("a thread panicked")?);
        answers.map(|answer: Result<Flows>| Ok(answer?.interval.to_bits())).collect()
    })?;
    ensure!(intervals.len() <= 3, "16 that ask at once have rates of {} intervals", intervals.len());
    Ok(())
}
