//! P7: what memory the agent takes with 250 pods: its own, and the kernel's for its tables.
//!
//! The tables' memory is what the kernel says of each map (`memlock` in fdinfo), for every map that the agent has open or
//! that one of its programs uses. The kernel books a socket's storage to the socket, so it is in neither figure.

use crate::{
    memory::Memory,
    naming::{Naming, Node},
    report::{Row, Verdict},
    run::{Run, progress},
    statistics::{Pair, Rounds},
};
use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
    time::Duration,
};

const PODS: u32 = 250;
/// From when all pods have their names: by then an agent has given back what only its start and the list needed.
const CALM: Duration = Duration::from_secs(5);
const MIB: f64 = 1024.0 * 1024.0;

/// Measures, and adds three rows.
pub(crate) fn measure(run: &mut Run) -> Result<()> {
    let mut maps = BTreeMap::new();
    for naming in Naming::ALL {
        let home = run.arena.cgroup("agent")?;
        let node = Node::start(run, &home, PODS, naming)?;
        thread::sleep(CALM);
        let mut client = node.client()?;
        let (mut resident, mut anonymous) = (Rounds::default(), Rounds::default());
        for round in 0..run.rounds {
            progress("P7", round, run.rounds);
            thread::sleep(Duration::from_secs(1));
            client.get("/metrics", true)?;
            let memory = Memory::of(node.pid())?;
            resident.push(memory.resident);
            anonymous.push(memory.anonymous);
        }
        maps = map_bytes(node.pid())?;
        node.stop()?;
        run.report.rows.push(resident_row(naming, resident, &anonymous));
    }
    run.report.rows.push(map_row(maps.values().sum::<f64>() / MIB, maps));
    Ok(())
}

/// The memory of each of a process's maps by name, in bytes.
fn map_bytes(pid: u32) -> Result<BTreeMap<String, f64>> {
    let (mut maps, mut programs) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        maps.extend(field(&text, "map_id"));
        programs.extend(field(&text, "prog_id"));
    }
    for info in aya::programs::loaded_programs().flatten().filter(|info| programs.contains(&info.id())) {
        maps.extend(info.map_ids()?.unwrap_or_default());
    }
    let mut bytes = BTreeMap::new();
    for id in maps {
        let info = MapInfo::from_id(id)?;
        let fd = info.fd()?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
        let memory = field(&text, "memlock").context("a map's memlock")?;
        *bytes.entry(info.name_as_str().unwrap_or("nameless").to_owned()).or_default() += f64::from(memory);
    }
    Ok(bytes)
}

fn field(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim().parse().ok()
}

fn resident_row(naming: Naming, resident: Rounds, anonymous: &Rounds) -> Row {
    // From now on it only grows: the largest round is the figure.
    let most = Pair { min: resident.max(), median: resident.max() };
    Row {
        id: "P7",
        measure: format!("MiB resident, {PODS} pods{}", naming.words()),
        ours: Some(most),
        others: Vec::new(),
        compared: None,
        goal: "<= 10 MiB".into(),
        verdict: Verdict::at_most(Some(most), 10.0),
        note: Some(format!("{:.1} MiB of it anonymous; the rest is the binary's pages", anonymous.max())),
        rounds: BTreeMap::from([("resident".into(), resident), ("anonymous".into(), anonymous.clone())]),
    }
}

fn map_row(sum: f64, maps: BTreeMap<String, f64>) -> Row {
    let figure = Pair { min: sum, median: sum };
    let mut largest: Vec<_> = maps.iter().collect();
    largest.sort_by(|a, b| b.1.total_cmp(a.1));
    let largest: Vec<_> = largest.iter().take(4).map(|(name, bytes)| format!("{name} {:.2}", **bytes / MIB)).collect();
    Row {
        id: "P7",
        measure: "MiB of kernel memory for the tables, default slots".into(),
        ours: Some(figure),
        others: Vec::new(),
        compared: None,
        goal: "<= 4 MiB".into(),
        verdict: Verdict::at_most(Some(figure), 4.0),
        note: Some(format!("tables, MiB: {}", largest.join(", "))),
        rounds: maps.into_iter().map(|(name, bytes)| (name, Rounds(vec![bytes]))).collect(),
    }
}
