//! The history on real disks: what `observer history` prints of real traffic, after kill -9, on a full disk and without one.

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
use nix::{
    mount::{MsFlags, mount, umount},
    sys::signal::Signal,
};
use serde_json::Value;
use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("the_history_shows_a_known_burst_and_has_it_after_kill_9", Place::Both, &[Need::Root], burst_and_kill),
        test("on_a_full_disk_older_rows_stay_readable_and_the_agent_goes_on", Place::Both, &[Need::Root], full_disk),
        test("a_read_only_state_directory_costs_the_history_alone", Place::Both, &[Need::Root], read_only),
        test("a_foreign_file_in_the_state_directory_is_moved_aside", Place::Both, &[Need::Root], foreign_file),
        test("the_first_second_has_no_row_of_the_load", Place::Both, &[Need::Root], first_second),
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
fn state() -> Result<(TempDir, PathBuf, String)> {
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
fn rows(agent: &Agent, metric: &str, step: &str) -> Result<Vec<(u64, f64)>> {
    let arguments = ["--node", "--metric", metric, "--since", "2h", "--step", step, "--output", "json"];
    let ended = history(agent, &arguments)?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.stdout)?;
    let rows = answer["rows"].as_array().context("no rows")?.iter();
    rows.map(|row| Ok((row["time_unix_seconds"].as_u64().context("time")?, row["value"].as_f64().context("value")?)))
        .collect()
}

/// What is on the page of a family without labels.
fn figure(agent: &Agent, name: &str) -> Result<f64> {
    Ok(agent.scrape()?.one(name, &[])?.value.parse()?)
}

fn is_up(agent: &Agent) -> Result<bool> {
    Ok(agent.scrape()?.one("observer_history_up", &[])?.value == "1")
}

/// A burst whose bytes the test knows: 2 000 packets of 1000 bytes.
fn burst(folder: &Cgroup) -> Result<()> {
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

fn peak(rows: &[(u64, f64)]) -> f64 {
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
    let printed = history(&agent, &["--node", "--metric", "egress_peak", "--since", "10m"])?;
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

/// A mount of the test's own, removed when dropped.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(path: &Path, options: &str) -> Result<Self> {
        fs::create_dir_all(path)?;
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options)).context("mount a tmpfs")?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // An agent that was just killed may hold it for a moment.
        let _ = wait_until(Duration::from_secs(5), || Ok(umount(&self.0).is_ok()));
    }
}

fn full_disk() -> Result<()> {
    let (_outer, path, text) = state()?;
    let disk = Mount::tmpfs(&path, "size=8m,mode=0777")?;
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&["--state-dir", &text])?;
    burst(&folder)?;
    std::thread::sleep(patience(Duration::from_secs(8)));
    let before = rows(&agent, "egress_peak", "1s")?;
    // What the file holds in advance, given back by cutting it to its own length; and the rest of the disk.
    let file = fs::OpenOptions::new().write(true).open(path.join("history.redb"))?;
    file.set_len(file.metadata()?.len())?;
    let mut filler = fs::File::create(path.join("filler"))?;
    let chunk = vec![0; 64 * 1024];
    while filler.write_all(&chunk).is_ok() {}
    agent.end(Signal::SIGKILL)?;
    // It starts on a full disk, with what it had.
    let again = Agent::start(&["--state-dir", &text])?;
    let shown = wait_until(patience(Duration::from_secs(15)), || Ok(rows(&again, "egress_peak", "1s")?.len() > 5))?;
    explain(
        &again,
        (|| {
            let after = rows(&again, "egress_peak", "1s")?;
            ensure!(
                shown && (peak(&after) / peak(&before) - 1.0).abs() < 1e-4,
                "older rows are gone: {before:?} {after:?}"
            );
            ensure!(again.get("/healthz")?.status == 200, "not healthy");
            Ok(())
        })(),
    )?;
    drop(again);
    fs::remove_file(path.join("history.redb"))?;
    while filler.write_all(&chunk).is_ok() {}
    // With no room for a file at all: it counts, says why, and heals when there is room.
    let none = Agent::start(&["--state-dir", &text])?;
    explain(
        &none,
        (|| {
            let told = wait_until(patience(Duration::from_secs(10)), || Ok(!is_up(&none)?))?;
            ensure!(told, "up on a full disk");
            let page = none.scrape()?;
            ensure!(
                page.text.contains("observer_history_up{store=\"disk\",reason=\"")
                    && page.text.contains("No space left"),
                "no reason"
            );
            let remembers =
                wait_until(patience(Duration::from_secs(10)), || Ok(!rows(&none, "egress_mean", "1s")?.is_empty()))?;
            ensure!(remembers, "nothing in memory");
            drop(filler);
            fs::remove_file(path.join("filler"))?;
            let healed = wait_until(patience(Duration::from_secs(40)), || is_up(&none))?;
            ensure!(healed, "not up again after room was made");
            Ok(())
        })(),
    )?;
    drop(none);
    drop(disk);
    Ok(())
}

fn read_only() -> Result<()> {
    let (_outer, path, text) = state()?;
    let disk = Mount::tmpfs(&path, "size=8m,ro")?;
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&["--state-dir", &text])?;
    burst(&folder)?;
    std::thread::sleep(Duration::from_millis(2500));
    explain(
        &agent,
        (|| {
            ensure!(!is_up(&agent)?, "up on a read-only disk");
            ensure!(
                agent.log_text().contains("Read-only file system") && agent.log_text().contains("mount it writable"),
                "not told"
            );
            ensure!(peak(&rows(&agent, "egress_peak", "1s")?) > 900_000.0, "the burst is not in memory");
            Ok(())
        })(),
    )?;
    drop(agent);
    drop(disk);
    Ok(())
}

fn foreign_file() -> Result<()> {
    let (_outer, path, text) = state()?;
    fs::create_dir(&path)?;
    fs::write(path.join("history.redb"), "somebody else's")?;
    let agent = Agent::start(&["--state-dir", &text])?;
    explain(
        &agent,
        (|| {
            let up = wait_until(patience(Duration::from_secs(10)), || is_up(&agent))?;
            ensure!(
                up && (figure(&agent, "observer_history_files_moved_aside_total")? - 1.0).abs() < 0.1,
                "not begun anew"
            );
            ensure!(fs::read_to_string(path.join("history.redb.aside-1"))? == "somebody else's", "not as it was");
            ensure!(agent.log_text().contains("moved aside"), "not told");
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
            let printed = history(&agent, &["--node", "--metric", "load_peak"])?;
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
    let mut command = command(&["history", "--node", "--metric", "egress_peak"])?;
    command.args(["--agent", &format!("http://{address}")]);
    let ended = run_to_end(command, patience(Duration::from_secs(10)))?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("port-forward"), "{ended:?}");
    Ok(())
}
