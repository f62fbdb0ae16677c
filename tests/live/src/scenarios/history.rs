//! The history: what `observer history` prints of real traffic, after kill -9 and without a disk, and who else the listener meets.

use crate::{
    agent::{Agent, Ended, command, explain, run_to_end},
    cgroup::Cgroup,
    http::{get, request},
    machine::{patience, wait_until},
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    time::Duration,
};
use tempfile::TempDir;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("the_history_shows_a_known_burst_and_has_it_after_kill_9", Place::Both, &[Need::Root], burst_and_kill),
        test("the_first_second_has_no_row_of_the_load", Place::Both, &[Need::Root, Need::Iterators], first_second),
        test("without_a_state_directory_the_history_is_in_memory_and_says_so", Place::Both, &[Need::Root], in_memory),
        test(
            "the_debug_listener_refuses_foreign_hosts_and_posts_beside_slow_clients",
            Place::Both,
            &[Need::Root],
            hostile,
        ),
        test("history_without_an_agent_says_what_to_do", Place::Both, &[], nobody_listens),
    ]
}

/// A directory that the agent's user can reach; itself it makes the last part.
pub(super) fn state() -> Result<(TempDir, PathBuf, String)> {
    let outer = tempfile::tempdir()?;
    fs::set_permissions(outer.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let path = outer.path().join("state");
    let text = path.to_str().context("a path that is no text")?.to_owned();
    Ok((outer, path, text))
}

fn history(agent: &Agent, arguments: &[&str]) -> Result<Ended> {
    let mut command = command(&["history", "--agent", &format!("http://{}", agent.debug_address()?)])?;
    command.args(arguments);
    run_to_end(command, patience(Duration::from_secs(20)))
}

/// The rows of the node, as the API has them: time and value.
pub(super) fn rows(agent: &Agent, metric: &str, step: &str) -> Result<Vec<(u64, f64)>> {
    let arguments = ["--metric", metric, "--since", "2h", "--step", step, "--output", "json"];
    let ended = history(agent, &arguments)?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.stdout)?;
    let rows = answer["rows"].as_array().context("no rows")?.iter();
    rows.map(|row| Ok((row["time_unix_seconds"].as_u64().context("time")?, row["value"].as_f64().context("value")?)))
        .collect()
}

/// What is on the page of a family without labels.
pub(super) fn figure(agent: &Agent, name: &str) -> Result<f64> {
    Ok(agent.scrape()?.one(name, &[])?.value.parse()?)
}

pub(super) fn is_up(agent: &Agent) -> Result<bool> {
    Ok(agent.scrape()?.one("observer_history_up", &[])?.value == "1")
}

/// A burst whose bytes the test knows: 2 000 packets of 1000 bytes.
pub(super) fn burst(folder: &Cgroup) -> Result<()> {
    let sink = Worker::start(Seat::in_cgroup(folder), ["udp-sink", "--bind", "127.0.0.1:0"])?;
    let cgroup = folder.child("sender")?;
    let mut talk = Worker::start(Seat::in_cgroup(&cgroup), ["udp-talk", "--to", &sink.greeting, "--size", "972"])?;
    talk.ask("send 2000")?;
    Ok(())
}

/// How much of what ended in it was before it nobody knows, which is not zero.
fn first_second() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let mut spinner = Worker::start(Seat::in_cgroup(&folder), ["spin"])?;
    spinner.tell("spin 600000")?;
    let agent = Agent::start(&[])?;
    std::thread::sleep(patience(Duration::from_millis(4500)));
    let (load, egress) = (rows(&agent, "load_mean", "1s")?, rows(&agent, "egress_mean", "1s")?);
    let outcome = || {
        ensure!(egress.len() >= 3 && load.len() == egress.len() - 1, "{} and {} rows", load.len(), egress.len());
        ensure!(load.iter().all(|(_, tasks)| *tasks > 0.9), "one task was active all the time: {load:?}");
        Ok(())
    };
    explain(&agent, outcome())
}

pub(super) fn peak(rows: &[(u64, f64)]) -> f64 {
    rows.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}

fn burst_and_kill() -> Result<()> {
    let (_outer, path, text) = state()?;
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&["--state-dir", &text])?;
    std::thread::sleep(Duration::from_millis(1500));
    burst(&folder)?;
    // The burst's window, and the commit after it.
    std::thread::sleep(patience(Duration::from_secs(8)));
    let before = rows(&agent, "egress_peak", "1s")?;
    explain(
        &agent,
        (|| {
            ensure!(
                (1_000_000.0..4_000_000.0).contains(&peak(&before)),
                "{} for 2 000 000 bytes in a second or two",
                peak(&before)
            );
            ensure!(is_up(&agent)?, "not up");
            ensure!(figure(&agent, "observer_history_file_bytes")? > 100_000.0, "no file");
            Ok(())
        })(),
    )?;
    let file = fs::metadata(path.join("history.redb"))?;
    ensure!(
        (file.uid(), file.mode() & 0o777) == (65534, 0o600),
        "the file is {}'s, mode {:o}",
        file.uid(),
        file.mode()
    );
    let printed = history(&agent, &["--metric", "egress_peak", "--since", "10m"])?;
    ensure!(printed.code == Some(0) && printed.stdout.starts_with("egress_peak of the node live"), "{printed:?}");
    ensure!(printed.stdout.contains('█') && printed.stdout.contains(" MB/s"), "{printed:?}");
    agent.end(Signal::SIGKILL)?;

    let again = Agent::start(&["--state-dir", &text])?;
    let kept =
        wait_until(patience(Duration::from_secs(10)), || Ok(rows(&again, "egress_peak", "1s")?.len() >= before.len()))?;
    let after = rows(&again, "egress_peak", "1s")?;
    explain(
        &again,
        (|| {
            ensure!(kept, "{} rows, and {} before the kill", after.len(), before.len());
            // All but the last seconds before the kill are what they were.
            let settled = &before[..before.len().saturating_sub(6)];
            ensure!(settled.iter().all(|row| after.contains(row)), "{before:?}\n{after:?}");
            ensure!((peak(&after) / peak(&before) - 1.0).abs() < 1e-4, "the burst is gone: {after:?}");
            let minutes = rows(&again, "egress_peak", "1m")?;
            ensure!((peak(&minutes) / peak(&before) - 1.0).abs() < 1e-4, "no minute has the burst: {minutes:?}");
            ensure!(figure(&again, "observer_history_files_moved_aside_total")? < 0.5, "moved aside");
            Ok(())
        })(),
    )
}

fn in_memory() -> Result<()> {
    let agent = Agent::start(&[])?;
    std::thread::sleep(Duration::from_millis(3500));
    explain(
        &agent,
        (|| {
            ensure!(agent.log_text().contains("no --state-dir: the history is kept in memory only"), "not told");
            ensure!(rows(&agent, "load_mean", "1s")?.len() >= 2, "no rows");
            let page = agent.scrape()?;
            ensure!(page.one("observer_history_up", &[("store", "memory")])?.value == "1", "not up");
            let printed = history(&agent, &["--metric", "load_peak"])?;
            ensure!(printed.stdout.contains("in memory only"), "{printed:?}");
            let unknown = history(&agent, &["--workload", "shop/web", "--metric", "egress_peak"])?;
            ensure!(unknown.code == Some(1) && unknown.stderr.contains("no shop/web is remembered"), "{unknown:?}");
            Ok(())
        })(),
    )
}

fn hostile() -> Result<()> {
    const TARGET: &str = "/api/v1/history/workloads";
    let agent = Agent::start(&[])?;
    let address = agent.debug_address()?;
    ensure!(address.ip().is_loopback(), "{address}");
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address)?;
        // One that had to go for another is told so.
        let _ = stream.write_all(b"GET /api/v1/hist");
        slow.push(stream);
    }
    ensure!(get(address, TARGET)?.status == 200, "slow clients keep others waiting");
    ensure!(with_host(address, "evil.example")? == 403, "a foreign Host is answered");
    ensure!(with_host(address, "localhost:1234")? == 200, "localhost is refused");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = request(method, address, TARGET, &["Content-Length: 0"])?;
        ensure!(answer.status == 405, "{method}: {}", answer.status);
    }
    let answer = get(address, TARGET)?;
    ensure!(answer.header("access-control-allow-origin").is_none(), "other sites may read it");
    ensure!(get(agent.address, TARGET)?.status == 404, "the API is on the metrics listener");
    ensure!(get(address, "/metrics")?.status == 404, "the metrics are on the debug listener");
    Ok(())
}

/// The status of a request with this Host header alone.
fn with_host(address: SocketAddr, host: &str) -> Result<u16> {
    use std::io::Read as _;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET /api/v1/history/workloads HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).context("no status")?.parse()?)
}

fn nobody_listens() -> Result<()> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = command(&["history", "--metric", "egress_peak"])?;
    command.args(["--agent", &format!("http://{address}")]);
    let ended = run_to_end(command, patience(Duration::from_secs(10)))?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("port-forward"), "{ended:?}");
    Ok(())
}
