//! The budget of series: no page is beyond it, and what shares a series is still in the sum.

use super::node_device::Hole;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    page::{Page, Sample},
    trial::{Need, Place, test},
    worker::Seat,
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![test("no_page_is_beyond_the_budget_and_the_sum_is_whole", Place::Host, NEEDS, within_budget)]
}

const LIMIT: u64 = 1000;
/// Each has some twenty series, so that most have to share.
const SENDERS: u64 = 80;
const DATAGRAMS: u64 = 5;

fn within_budget() -> Result<()> {
    let (folder, hole) = (Cgroup::for_test()?, Hole::dig()?);
    let agent = Agent::start(&["--series-limit", &LIMIT.to_string()])?;
    let mut cgroups = Vec::new();
    for number in 0..SENDERS {
        let cgroup = folder.child(format!("sender{number}"))?;
        let mut worker = hole.sender(Seat::in_cgroup(&cgroup))?;
        worker.ask(&format!("send {DATAGRAMS}"))?;
        cgroups.push((cgroup, worker));
    }
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1500));
        let page = agent.scrape()?;
        explain(&agent, is_within(&page, &folder))?;
    }
    Ok(())
}

fn is_within(page: &Page, folder: &Cgroup) -> Result<()> {
    let lines = page.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count() as u64;
    let told = page.one("observer_series", &[])?.integer()?;
    ensure!(told <= LIMIT, "observer_series is {told}, and the limit {LIMIT}");
    ensure!(lines >= told, "{lines} lines hold {told} series");
    let samples = page.samples("observer_network_transmit_bytes_total", &[])?;
    let ours = |sample: &&Sample| {
        let cgroup = sample.label("cgroup");
        cgroup.starts_with(&folder.label) || cgroup == "other"
    };
    let booked: u64 = samples.iter().filter(ours).map(Sample::integer).sum::<Result<_>>()?;
    // Others of this machine may share the series too.
    let sent = SENDERS * DATAGRAMS * 228;
    ensure!(booked >= sent, "{booked} bytes are booked, and {sent} were sent");
    ensure!(samples.iter().any(|sample| sample.label("cgroup") == "other"), "nobody shares a series");
    Ok(())
}
