//! What leaves a node with pods on a bridge, by its device and by the agent's scopes.

use crate::{
    cluster::in_node,
    installed::{Agent, Amount},
    namespace,
    pod::{Pod, Sink, script},
    trial::{once, own},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

/// The node's device on the cable to the world outside, and the addresses of both ends: of a range for documentation.
const DEVICE: &str = "observer-out";
const NODE: &str = "203.0.113.201";
const OUTSIDE: &str = "203.0.113.202";
const PORT: u16 = 8080;
/// What a device counts of each packet before its IP header.
const LINK_HEADER: u64 = 14;
/// Scopes that leave a node.
const LEAVING: [&str; 3] = ["cluster", "intranet", "internet"];
/// TCP, each way.
const BYTES: usize = 100_000_000;

pub(super) fn tests() -> Vec<Trial> {
    vec![once(own("what_leaves_the_node_by_its_device_is_the_sum_of_the_scopes_that_leave_it", leaves))]
}

/// Takes all that one connection brings, and gives as much: what runs outside.
pub(crate) fn serve_outside() -> Result<()> {
    let listener = TcpListener::bind((OUTSIDE, PORT))?;
    println!("ready");
    let (mut stream, _) = listener.accept()?;
    io::copy(&mut stream, &mut io::sink())?;
    let piece = vec![0; 50_000];
    for _ in 0..BYTES / piece.len() {
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

/// A network namespace with a cable to the node's, and a server in it; gone when dropped.
struct Outside(Vec<Child>);

impl Outside {
    fn make() -> Result<Self> {
        // The namespace lives as long as the process.
        let holder = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().context("run unshare")?;
        let pid = holder.id().to_string();
        let mut outside = Self(vec![holder]);
        let is_apart = || {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
            Ok(of(&pid)? != of("self")?)
        };
        ensure!(observer_test_kit::wait_until(Duration::from_secs(10), is_apart)?, "unshare makes no namespace");
        in_node(&["ip", "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", &pid])?;
        in_node(&["ip", "addr", "add", &format!("{NODE}/30"), "dev", DEVICE])?;
        // Without offloads, as the wire is: else a device counts what it hands over in one piece as one packet.
        in_node(&["ip", "link", "set", DEVICE, "up", "gso_max_segs", "1"])?;
        let inside = |words: &[&str]| {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/proc/{pid}/ns/net")).args(words).stdin(Stdio::null());
            command
        };
        for words in [
            &["ip", "addr", "add", &format!("{OUTSIDE}/30"), "dev", DEVICE][..],
            &["ip", "link", "set", DEVICE, "up", "gso_max_segs", "1"],
            &["ip", "route", "add", "default", "via", NODE],
        ] {
            let output = inside(words).output().context("run nsenter")?;
            ensure!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        let program = std::env::current_exe().context("find this program")?;
        let program = program.to_str().context("this program's path is not UTF-8")?;
        let mut server = inside(&[program, "serve-outside"]).stdout(Stdio::piped()).spawn().context("run nsenter")?;
        let output = server.stdout.take().context("the server's output")?;
        outside.0.push(server);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "the server outside says {line:?}");
        Ok(outside)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Bytes sent and received: as the device counts them less its headers, and as the agent does in scopes that leave.
#[derive(Clone, Copy, Debug)]
struct Sums {
    device: [u64; 2],
    scopes: [u64; 2],
}

impl Sums {
    fn read() -> Result<Self> {
        // What was on its way has come by then.
        sleep(Duration::from_secs(2));
        let page = Agent::page()?;
        let scopes = |way: &str| -> Result<u64> {
            let name = format!("observer_network_{way}_bytes_total");
            // The node's own programs have another device.
            let labels = |scope| [("namespace", namespace::name()), ("scope", scope)];
            LEAVING.iter().map(|scope| crate::installed::sum(&page, &name, &labels(*scope))).sum()
        };
        let counter = |name: &str| -> Result<u64> {
            Ok(in_node(&["cat", &format!("/sys/class/net/{DEVICE}/statistics/{name}")])?.trim().parse()?)
        };
        let device = |way: &str| -> Result<u64> {
            Ok(counter(&format!("{way}_bytes"))? - counter(&format!("{way}_packets"))? * LINK_HEADER)
        };
        Ok(Self { device: [device("tx")?, device("rx")?], scopes: [scopes("transmit")?, scopes("receive")?] })
    }
}

fn leaves() -> Result<()> {
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    let sink = Sink::start(&agent.node)?;
    let mut manifest = script("giver", "sleep 1000");
    manifest["spec"]["nodeName"] = agent.node.as_str().into();
    let giver = Pod::start(&manifest)?;
    let _outside = Outside::make()?;
    let before = Sums::read()?;
    giver.shell(&format!("talk give {OUTSIDE}:{PORT} {BYTES}"))?;
    // To the neighbour on the bridge, which is no business of the device.
    giver.shell(&Amount { datagrams: 20_000, size: 1000 }.command(&sink.address))?;
    let after = Sums::read()?;
    for (way, name) in ["sent", "received"].into_iter().enumerate() {
        let by = |of: fn(&Sums) -> [u64; 2]| of(&after)[way] - of(&before)[way];
        let (device, scopes) = (by(|sums| sums.device), by(|sums| sums.scopes));
        ensure!(device > BYTES as u64, "only {device} bytes went by the device: {before:?}, {after:?}");
        let away = device.abs_diff(scopes) as f64 / device as f64;
        println!("{name}: {device} bytes by the device, {scopes} in scopes that leave, {:.4} % away", away * 100.0);
        ensure!(
            away <= 0.001,
            "{scopes} bytes in scopes that leave, and {device} by the device: {before:?}, {after:?}"
        );
    }
    Ok(())
}
