//! Cgroups that come and go: many, briefly, and what stays of those that are gone.

use super::long_run::Stage;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::{is_guest, wait_until},
    page::{Counted, Page},
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::time::{Duration, Instant};

/// Wire bytes of a datagram of 200 bytes over IPv4.
const DATAGRAM: u64 = 228;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test(
            "each_of_500_cgroups_of_200_ms_has_its_bytes_and_waits_under_its_name",
            Place::Both,
            &[Need::Root],
            short_lives,
        ),
        test("a_cgroup_is_on_the_page_as_soon_as_it_has_traffic", Place::Both, &[Need::Root], at_once),
    ]
}

fn datagrams(count: u64) -> Counted {
    Counted { bytes: count * DATAGRAM, packets: count }
}

fn sink(folder: &Cgroup) -> Result<(Worker, Cgroup)> {
    let cgroup = folder.child("sink")?;
    Ok((Worker::start(Seat::in_cgroup(&cgroup), ["udp-sink", "--bind", "127.0.0.1:0"])?, cgroup))
}

const LIVES: u64 = 500;
/// Each has a cgroup for 200 ms of every [`PERIOD`]: a hundred are made a second, and twenty are there at a time.
const WORKERS: u64 = 50;
const PERIOD: Duration = Duration::from_millis(500);

fn short_lives() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (sink, sink_cgroup) = sink(&folder)?;
    let agent = Agent::start(&[])?;
    let mut workers = (0..WORKERS).map(|index| life(&folder, index, &sink.greeting)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    for (worker, index) in workers.iter_mut().zip(0..) {
        let due = start + PERIOD / WORKERS as u32 * index;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        worker.tell("live")?;
    }
    let mut births = Vec::new();
    for worker in &mut workers {
        let line = worker.line(Duration::from_mins(1))?;
        births.extend(line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?);
    }
    drop(workers);
    std::thread::sleep(Duration::from_millis(500));
    let page = agent.scrape()?;
    explain(&agent, lives_are_booked(&page, &folder.label, &sink_cgroup.label))?;
    births.sort_unstable();
    let (first, last) = (births.first().context("no birth")?, births.last().context("no birth")?);
    let rate = (births.len() - 1) as f64 / Duration::from_nanos(last - first).as_secs_f64();
    ensure!(births.len() as u64 == LIVES, "{} cgroups were made", births.len());
    // By the clock; who else keeps the CPUs may hold the last one up for a quarter of a second.
    ensure!(is_guest() || rate >= 95.0, "{rate:.1} cgroups a second were made, not 100");
    Ok(())
}

/// A worker that lives in its share of the cgroups, one after the other.
fn life(folder: &Cgroup, index: u64, to: &str) -> Result<Worker> {
    let each = LIVES / WORKERS;
    let (first, count) = ((index * each).to_string(), each.to_string());
    let (parent, period) = (folder.path().display().to_string(), PERIOD.as_millis().to_string());
    let what = ["short-lived", "--parent", &parent, "--first", &first, "--count", &count];
    let how = ["--size", "200", "--to", to, "--life-ms", "200", "--period-ms", &period];
    Worker::start(Seat::in_cgroup(folder), what.into_iter().chain(how))
}

fn lives_are_booked(page: &Page, folder: &str, sink: &str) -> Result<()> {
    let transmitted = page.samples("observer_network_transmit_bytes_total", &[("scope", "loopback")])?;
    let waits = page.samples("observer_run_queue_wait_seconds_count", &[])?;
    let (mut wrong, mut silent, mut sum) = (Vec::new(), Vec::new(), 0);
    for number in 0..LIVES {
        let label = format!("{folder}/s{number}");
        let find = |samples: &[crate::page::Sample]| -> Result<u64> {
            samples.iter().filter(|sample| sample.label("cgroup") == label).map(crate::page::Sample::integer).sum()
        };
        let bytes = find(&transmitted)?;
        sum += bytes;
        if bytes != (number + 1) * DATAGRAM {
            wrong.push((label.clone(), bytes, (number + 1) * DATAGRAM));
        }
        if find(&waits)? == 0 {
            silent.push(label);
        }
    }
    let expected = datagrams(LIVES * (LIVES + 1) / 2);
    wrong.truncate(5);
    ensure!(wrong.is_empty(), "(cgroup, booked, sent): {wrong:?} …");
    ensure!(sum == expected.bytes, "{sum} bytes, not {}", expected.bytes);
    let received = page.traffic(sink)?.receive;
    ensure!(received == expected, "the sink received {received}, not {expected}");
    // On a host some switches run no program.
    let tolerated = if is_guest() { 0 } else { LIVES as usize / 100 };
    ensure!(silent.len() <= tolerated, "{} cgroups without a wait, {:?} …", silent.len(), silent.first());
    Ok(())
}

/// The workers, each in a cgroup of its own: `count` of them from `first` on.
fn talkers(folder: &Cgroup, first: u64, count: u64, to: &str) -> Result<Vec<(Cgroup, Worker)>> {
    (first..first + count)
        .map(|number| {
            let cgroup = folder.child(format!("c{number}"))?;
            let worker = Worker::start(Seat::in_cgroup(&cgroup), ["udp-talk", "--to", to, "--size", "200"])?;
            Ok((cgroup, worker))
        })
        .collect()
}

/// A part of the long run.
pub(super) fn series_go(Stage { agent, hole, folder, .. }: &Stage) -> Result<()> {
    let cgroup = folder.child("short-lived")?;
    let label = cgroup.label.clone();
    let mut worker = hole.sender(Seat::in_cgroup(&cgroup))?;
    worker.ask("send 5")?;
    drop(worker);
    cgroup.remove()?;
    let gone = Instant::now();
    std::thread::sleep(Duration::from_secs(110));
    let sent = agent.scrape()?.traffic(&label)?.transmit;
    ensure!(sent == datagrams(5), "after 110 s: {sent}");
    let disappeared = wait_until(Duration::from_secs(25), || Ok(!agent.scrape()?.knows(&label)))?;
    ensure!(disappeared, "still there after {:?}", gone.elapsed());
    ensure!(gone.elapsed() >= Duration::from_secs(118), "gone after {:?}", gone.elapsed());
    Ok(())
}

fn at_once() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (sink, _sink_cgroup) = sink(&folder)?;
    let agent = Agent::start(&["--sample-interval", "10s"])?;
    let mut talkers = talkers(&folder, 0, 1, &sink.greeting)?;
    for (cgroup, worker) in &mut talkers {
        worker.ask("send 5")?;
        let sent = agent.scrape()?.traffic(&cgroup.label)?.transmit;
        ensure!(sent == datagrams(5), "{sent}: a scrape does not read the counters afresh");
    }
    Ok(())
}
