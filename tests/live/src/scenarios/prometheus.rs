//! The page as Prometheus and its tools see it.

use super::long_run::Stage;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    http,
    machine::wait_until,
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test(
            "promtool_has_nothing_to_say_about_the_page",
            Place::Host,
            &[Need::Root, Need::Command("promtool")],
            promtool_is_silent,
        ),
        test(
            "every_family_that_can_be_filled_is_on_the_page",
            Place::Both,
            &[Need::Root, Need::Iterators],
            families_are_there,
        ),
        test("the_nodes_figures_are_those_of_proc", Place::Both, &[Need::Root], node_figures),
        test("the_peak_is_the_largest_second", Place::Both, &[Need::Root], peaks),
    ]
}

/// A sender on the loopback and its sink, in cgroups of their own.
fn loopback_talk(folder: &Cgroup, size: &str) -> Result<(Cgroup, Worker, Worker)> {
    let sink = Worker::start(Seat::in_cgroup(folder), ["udp-sink", "--bind", "127.0.0.1:0"])?;
    let cgroup = folder.child("sender")?;
    let talk = Worker::start(Seat::in_cgroup(&cgroup), ["udp-talk", "--to", &sink.greeting, "--size", size])?;
    Ok((cgroup, talk, sink))
}

fn promtool_is_silent() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let odd = folder.child("odd \"name\" with \\ and \u{fc}ml\u{e4}ut{}.service")?;
    let agent = Agent::start(&[])?;
    let sink = Worker::start(Seat::in_cgroup(&folder), ["udp-sink", "--bind", "127.0.0.1:0"])?;
    let mut talk = Worker::start(Seat::in_cgroup(&odd), ["udp-talk", "--to", &sink.greeting, "--size", "100"])?;
    talk.ask("send 10")?;
    let page = agent.scrape()?;
    ensure!(page.text.contains("odd "), "the odd cgroup is not on the page");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start promtool")?;
    promtool.stdin.take().context("promtool's stdin")?.write_all(page.text.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    Ok(())
}

/// A Prometheus with an empty database of its own; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let configuration = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: observer\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(folder.path().join("prometheus.yml"), configuration)?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}/prometheus.yml", folder.path().display()))
            .arg(format!("--storage.tsdb.path={}/data", folder.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start prometheus")?;
        let prometheus = Self { child, address, folder };
        let ready = wait_until(Duration::from_secs(30), || {
            Ok(http::get(address, "/-/ready").is_ok_and(|answer| answer.status == 200))
        })?;
        ensure!(ready, "prometheus is not ready: {}", fs::read_to_string(prometheus.folder.path().join("log"))?);
        Ok(prometheus)
    }

    /// The one series that an expression gives.
    fn series(&self, expression: &str) -> Result<Value> {
        let escaped = expression.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
        let answer = http::get(self.address, &format!("/api/v1/query?query={escaped}"))?;
        let mut json: Value = serde_json::from_slice(&answer.body)?;
        match json["data"]["result"].as_array_mut().map(Vec::as_mut_slice) {
            Some([series]) => Ok(series.take()),
            _ => bail!("{expression} gives {json}"),
        }
    }

    /// Its value.
    fn value(&self, expression: &str) -> Result<f64> {
        let series = self.series(expression)?;
        series["value"][1].as_str().context("a value without text")?.parse().context("a value that is no number")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A part of the long run.
pub(super) fn knows_the_rate(Stage { agent, folder, .. }: &Stage) -> Result<()> {
    const PER_SECOND: u64 = 250;
    const WIRE_BYTES: u64 = 1000 + 28;
    const PACKETS: u64 = PER_SECOND * 36;
    let folder = folder.child("prometheus")?;
    let prometheus = Prometheus::start(agent.address)?;
    // It is ready seconds before it looks for the first time.
    let looks = wait_until(Duration::from_secs(30), || Ok(prometheus.value("up{job=\"observer\"}").is_ok()))?;
    ensure!(looks, "prometheus never scrapes");
    let (cgroup, mut talk, _sink) = loopback_talk(&folder, "1000")?;
    talk.tell(&format!("pace {PACKETS} {PER_SECOND}"))?;
    std::thread::sleep(Duration::from_secs(34));
    let counter = |what: &str| {
        format!("observer_network_transmit_{what}_total{{cgroup=\"{}\",scope=\"loopback\"}}", cgroup.label)
    };
    let rate = |what: &str| prometheus.value(&format!("rate({}[30s])", counter(what)));
    let (bytes, packets) = (rate("bytes")?, rate("packets")?);
    let scraped = prometheus.series(&format!("{}[40s]", counter("packets")))?;
    talk.line(Duration::from_secs(20))?;
    // A scrape shows what the newest sample knew: of the thirty seconds there may be one more or less at either end.
    let near = |value: f64, truth: u64| (value / truth as f64 - 1.0).abs() <= 0.04;
    let say = || {
        format!(
            "{bytes} bytes and {packets} packets a second, not {} and {PER_SECOND}: {}",
            PER_SECOND * WIRE_BYTES,
            scraped["values"]
        )
    };
    ensure!(near(bytes, PER_SECOND * WIRE_BYTES) && near(packets, PER_SECOND), "{}", say());
    // And all of it in the end, to the byte.
    let mut all = [0.0; 2];
    let exact = wait_until(Duration::from_secs(10), || {
        all = [prometheus.value(&counter("bytes"))?, prometheus.value(&counter("packets"))?];
        Ok((all[0] as u64, all[1] as u64) == (PACKETS * WIRE_BYTES, PACKETS))
    })?;
    ensure!(exact, "{all:?} bytes and packets in all, and {PACKETS} packets of {WIRE_BYTES} bytes were sent");
    ensure!(prometheus.value("up{job=\"observer\"}")? > 0.5, "the target is down");
    Ok(())
}

fn families_are_there() -> Result<()> {
    const FAMILIES: [(&str, &str); 37] = [
        ("observer_node_load1_sleeping", "gauge"),
        ("observer_load1", "gauge"),
        ("observer_load_peak", "gauge"),
        ("observer_node_load1_unattributed", "gauge"),
        ("observer_run_queue_wait_caused_seconds_total", "counter"),
        ("observer_network_transmit_bytes_total", "counter"),
        ("observer_network_receive_bytes_total", "counter"),
        ("observer_network_transmit_packets_total", "counter"),
        ("observer_network_receive_packets_total", "counter"),
        ("observer_network_transmit_peak_bytes_per_second", "gauge"),
        ("observer_network_receive_peak_bytes_per_second", "gauge"),
        ("observer_run_queue_wait_seconds", "histogram"),
        ("observer_cpu_usage_seconds_total", "counter"),
        ("observer_uninterruptible_seconds_total", "counter"),
        ("observer_memory_oom_kills_total", "counter"),
        ("observer_node_load1", "gauge"),
        ("observer_node_load5", "gauge"),
        ("observer_node_load15", "gauge"),
        ("observer_node_network_device_transmit_bytes_total", "counter"),
        ("observer_node_network_device_receive_bytes_total", "counter"),
        ("observer_build_info", "gauge"),
        ("observer_bpf_program_up", "gauge"),
        ("observer_bpf_map_entries", "gauge"),
        ("observer_bpf_map_max_entries", "gauge"),
        ("observer_dropped_total", "counter"),
        ("observer_history_up", "gauge"),
        ("observer_history_shared_rows_total", "counter"),
        ("observer_history_forgotten_workloads_total", "counter"),
        ("observer_history_workloads", "gauge"),
        ("observer_history_waiting_bytes", "gauge"),
        ("observer_series", "gauge"),
        ("observer_scrape_duration_seconds", "gauge"),
        ("process_cpu_seconds_total", "counter"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_max_fds", "gauge"),
        ("process_start_time_seconds", "gauge"),
    ];
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&[])?;
    let (_cgroup, mut talk, _sink) = loopback_talk(&folder, "100")?;
    talk.ask("send 10")?;
    // A quiet machine has no wait that is long enough to be blamed on someone: two that share a CPU have.
    let seat = Seat { cpu: Some(0), ..Seat::in_cgroup(&folder) };
    let mut rivals = [Worker::start(seat, ["spin"])?, Worker::start(seat, ["spin"])?];
    rivals.iter_mut().try_for_each(|rival| rival.tell("spin 2000"))?;
    std::thread::sleep(Duration::from_millis(2200));
    let page = agent.scrape()?;
    let missing: Vec<_> = FAMILIES
        .iter()
        .filter(|(name, kind)| {
            let sample = if *kind == "histogram" { format!("{name}_count") } else { (*name).to_owned() };
            let has_sample = page.samples(&sample, &[]).is_ok_and(|samples| !samples.is_empty());
            !(has_sample && page.text.contains(&format!("# TYPE {name} {kind}\n")))
        })
        .collect();
    explain(
        &agent,
        if missing.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("missing or of another type: {missing:?}")) },
    )?;
    for sample in page.samples("observer_bpf_program_up", &[])? {
        ensure!(sample.value == "1", "{sample:?}");
    }
    Ok(())
}

fn node_figures() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&[])?;
    let (_cgroup, mut talk, _sink) = loopback_talk(&folder, "1000")?;
    talk.ask("send 500")?;
    let close = wait_until(Duration::from_secs(10), || {
        let loads = fs::read_to_string("/proc/loadavg")?;
        let before = crate::truth::device(std::process::id(), "lo")?;
        let page = agent.scrape()?;
        let after = crate::truth::device(std::process::id(), "lo")?;
        let mut loads = loads.split(' ');
        for name in ["observer_node_load1", "observer_node_load5", "observer_node_load15"] {
            let real: f64 = loads.next().context("a load")?.parse()?;
            if (page.one(name, &[])?.value.parse::<f64>()? - real).abs() > 0.001 {
                return Ok(false);
            }
        }
        // The device's figures are those of the last sample: the traffic before it must be in them.
        let sent = page.one("observer_node_network_device_transmit_bytes_total", &[("device", "lo")])?.integer()?;
        Ok(sent <= after.transmit.bytes && sent + 4_000_000 >= before.transmit.bytes && sent > 500 * 1028)
    })?;
    ensure!(close, "loads or the loopback device never agree with /proc");
    Ok(())
}

fn peaks() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&[])?;
    let (cgroup, mut talk, _sink) = loopback_talk(&folder, "972")?;
    std::thread::sleep(Duration::from_millis(1500));
    // A burst that lies in one sample's second or in two of them.
    talk.ask("send 2000")?;
    std::thread::sleep(Duration::from_millis(2500));
    let first = transmit_peak(&agent, &cgroup)?;
    ensure!((900_000.0..=2_200_000.0).contains(&first), "{first} bytes a second for 2 000 000 bytes at once");
    // Not reset by being read.
    let again = transmit_peak(&agent, &cgroup)?;
    ensure!((again - first).abs() < 1.0, "{first} became {again}");
    Ok(())
}

fn transmit_peak(agent: &Agent, cgroup: &Cgroup) -> Result<f64> {
    let name = "observer_network_transmit_peak_bytes_per_second";
    Ok(agent.scrape()?.one(name, &[("cgroup", &cgroup.label)])?.value.parse()?)
}

/// A part of the long run: six seconds hold four whole windows, wherever they begin; then silence, in which the peak stays what it was.
pub(super) fn even_flow(Stage { agent, folder, .. }: &Stage) -> Result<()> {
    const PER_SECOND: u64 = 400;
    const WIRE_BYTES: u64 = 472 + 28;
    let folder = folder.child("even")?;
    let (cgroup, mut talk, _sink) = loopback_talk(&folder, "472")?;
    talk.ask(&format!("pace {} {PER_SECOND}", PER_SECOND * 6))?;
    let rate = (PER_SECOND * WIRE_BYTES) as f64;
    for silence in [1200, 2500] {
        std::thread::sleep(Duration::from_millis(silence));
        let peak = transmit_peak(agent, &cgroup)?;
        ensure!((peak / rate - 1.0).abs() <= 0.1, "the peak is {peak} bytes a second, the rate {rate}");
    }
    Ok(())
}
