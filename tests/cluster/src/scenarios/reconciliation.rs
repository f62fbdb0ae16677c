//! What leaves a node with pods on a bridge, by its device and by the agent's scopes.

use crate::{
    cluster::in_node,
    installed::{Agent, Amount},
    pod::{Pod, Sink, script},
    trial::own,
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use observer_test_kit::page::Page;
use std::{
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpListener},
    process::Command,
    thread::{self, JoinHandle, sleep},
    time::Duration,
};

/// The node's only way out, and the machine's end of it.
const DEVICES: [&str; 2] = ["eth0", "obs-cluster"];
/// What a device counts of each packet before its IP header.
const LINK_HEADER: u64 = 14;
/// Scopes that leave a node.
const LEAVING: [&str; 3] = ["cluster", "intranet", "internet"];
/// TCP, each way.
const BYTES: usize = 100_000_000;

pub(super) fn tests() -> Vec<Trial> {
    vec![own("what_leaves_the_node_by_its_device_is_the_sum_of_the_scopes_that_leave_it", leaves)]
}

/// A server on the machine, outside of the node: takes all, and gives as much.
struct Outside {
    address: SocketAddr,
    served: JoinHandle<io::Result<()>>,
}

impl Outside {
    fn serve() -> Result<Self> {
        let text = run("ip", &["-o", "-4", "addr", "show", "dev", DEVICES[1]])?;
        let address = text.split_whitespace().skip_while(|word| *word != "inet").nth(1);
        let address =
            address.and_then(|address| address.split('/').next()).context("the machine's end has no address")?;
        let listener = TcpListener::bind((address, 0)).with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr()?;
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            io::copy(&mut stream, &mut io::sink())?;
            let piece = vec![0; 65536];
            for _ in 0..BYTES / piece.len() {
                stream.write_all(&piece)?;
            }
            stream.shutdown(Shutdown::Both)
        });
        Ok(Self { address, served })
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), errors.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Bytes as a device counts them less its headers, and as the agent does in scopes that leave: sent, and received.
#[derive(Clone, Copy, Debug)]
struct Sums {
    device: [u64; 2],
    scopes: [u64; 2],
    /// What the agent shows of the device.
    shown: [u64; 2],
}

impl Sums {
    fn read() -> Result<Self> {
        // What was on its way has been read a second later.
        sleep(Duration::from_secs(2));
        let page = Agent::page()?;
        let counter = |name: &str| -> Result<u64> {
            Ok(in_node(&["cat", &format!("/sys/class/net/{}/statistics/{name}", DEVICES[0])])?.trim().parse()?)
        };
        let device = |way: &str| -> Result<u64> {
            Ok(counter(&format!("{way}_bytes"))? - counter(&format!("{way}_packets"))? * LINK_HEADER)
        };
        let shown = |way: &str| {
            let name = format!("observer_node_network_device_{way}_bytes_total");
            page.one(&name, &[("device", DEVICES[0])])?.integer()
        };
        Ok(Self {
            device: [device("tx")?, device("rx")?],
            scopes: [leaving(&page, "transmit")?, leaving(&page, "receive")?],
            shown: [shown("transmit")?, shown("receive")?],
        })
    }
}

fn leaving(page: &Page, way: &str) -> Result<u64> {
    let name = format!("observer_network_{way}_bytes_total");
    let sums = LEAVING.map(|scope| crate::installed::sum(page, &name, &[("scope", scope)]));
    sums.into_iter().sum()
}

fn leaves() -> Result<()> {
    let agent = Agent::install()?;
    Agent::features_down(&[])?;
    // A device without offloads, as the wire is: else it counts what it hands over in one piece as one packet.
    in_node(&["ip", "link", "set", DEVICES[0], "gso_max_segs", "1"])?;
    run("ip", &["link", "set", DEVICES[1], "gso_max_segs", "1"])?;
    let sink = Sink::start(&agent.node)?;
    let mut manifest = script("giver", "sleep 1000");
    manifest["spec"]["nodeName"] = agent.node.as_str().into();
    let giver = Pod::start(&manifest)?;
    let outside = Outside::serve()?;
    let before = Sums::read()?;
    giver.shell(&format!("talk give {} {BYTES}", outside.address))?;
    // To the neighbour on the bridge, which is no business of the device.
    giver.shell(&Amount { datagrams: 20_000, size: 1000 }.command(&sink.address))?;
    let after = Sums::read()?;
    outside.served.join().ok().context("the server panicked")??;
    for way in 0..2 {
        let by = |of: fn(&Sums) -> [u64; 2]| of(&after)[way] - of(&before)[way];
        let (device, scopes) = (by(|sums| sums.device), by(|sums| sums.scopes));
        ensure!(device > BYTES as u64 / 10 * 9, "only {device} bytes went by the device: {before:?}, {after:?}");
        let away = device.abs_diff(scopes) as f64 / device as f64;
        println!(
            "{} of the device's bytes in way {way}: {device} there, {scopes} in scopes that leave, {:.4} %",
            device,
            away * 100.0
        );
        ensure!(
            away <= 0.001,
            "{scopes} bytes in scopes that leave, and {device} by the device: {before:?}, {after:?}"
        );
        ensure!(by(|sums| sums.shown) >= device, "the page shows less of the device than it counts");
    }
    Ok(())
}
