//! The tests' own instruments, without an agent: what they say must be true before they judge anything.

use super::uninterruptible::Slept;
use crate::{
    cgroup::Cgroup,
    machine::wait_until,
    netns::{Offloads, SERVER_V4, SERVER_V6, Wire},
    page::Page,
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![
        test("a_page_keeps_the_text_of_its_values", Place::Both, &[], a_page_keeps_the_text_of_its_values),
        test("a_cgroup_of_the_tests_is_gone_when_dropped", Place::Both, &[Need::Root], a_cgroup_is_gone_when_dropped),
        test("devices_without_offloads_count_what_a_wire_carries", Place::Both, NEEDS, devices_count_the_wire),
        test(
            "a_wire_told_to_lose_loses",
            Place::Both,
            &[Need::Root, Need::Command("ip"), Need::Kernel(6, 6)],
            a_wire_loses,
        ),
        test("a_vfork_parent_shows_as_uninterruptible", Place::Both, &[Need::Root], a_vfork_parent_is_in_d),
        test("a_task_that_sleeps_leaves_its_schedstat_alone", Place::Both, &[Need::Root], schedstat_stands_still),
    ]
}

fn a_page_keeps_the_text_of_its_values() -> Result<()> {
    let page = Page {
        text: "# TYPE a counter\na{cgroup=\"/x\",scope=\"node\"} 12\na{cgroup=\"/y\"} 3.000000001\nab 7\n".into(),
    };
    ensure!(page.one("a", &[("cgroup", "/x")])?.integer()? == 12);
    ensure!(page.one("a", &[("cgroup", "/y")])?.nanoseconds()? == 3_000_000_001);
    ensure!(page.one("a", &[("cgroup", "/y")])?.integer().is_err());
    ensure!(page.samples("a", &[])?.len() == 2);
    ensure!(page.one("ab", &[])?.integer()? == 7);
    Ok(())
}

fn a_cgroup_is_gone_when_dropped() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let path = folder.path().to_owned();
    let inner = folder.child("inner")?;
    let worker = Worker::start(Seat::in_cgroup(&inner), ["spin"])?;
    ensure!(inner.processes()? == [worker.pid()]);
    ensure!(inner.label.starts_with("/observer-live-") && inner.label.ends_with("/inner"), "{}", inner.label);
    drop(inner);
    drop(folder);
    ensure!(!path.exists(), "{} is still there", path.display());
    drop(worker);
    Ok(())
}

fn devices_count_the_wire() -> Result<()> {
    for (server, header) in [(SERVER_V4, 20), (SERVER_V6, 40)] {
        let mut wire = Wire::direct(Offloads::Off)?;
        let before = (wire.near.traffic()?, wire.far.traffic()?);
        let bind = std::net::SocketAddr::new(server.parse()?, 0).to_string();
        let mut sink = Worker::start(wire.server.seat(), ["udp-sink", "--bind", &bind, "--echo"])?;
        let to = sink.greeting.clone();
        let mut talk = Worker::start(wire.client.seat(), ["udp-talk", "--to", &to, "--size", "500"])?;
        talk.ask("send 300")?;
        wait_until(Duration::from_secs(5), || Ok(sink.ask("count")? == "300"))?;
        let (near, far) = (wire.near.traffic()? - before.0, wire.far.traffic()? - before.1);
        let bytes = 300 * (500 + 8 + header);
        ensure!(near.transmit.bytes == bytes && near.transmit.packets == 300, "{near}");
        ensure!(near.receive.bytes == bytes && near.receive.packets == 300, "{near}");
        ensure!(far == near.mirrored(), "near {near}; far {far}");
    }
    Ok(())
}

fn a_wire_loses() -> Result<()> {
    let mut wire = Wire::routed(Offloads::Off)?;
    let before = (wire.near.traffic()?, wire.far.traffic()?);
    let loss = wire.lose_one_in(10)?;
    let sink = Worker::start(wire.server.seat(), ["udp-sink", "--bind", &format!("{SERVER_V4}:0")])?;
    let mut talk = Worker::start(wire.client.seat(), ["udp-talk", "--to", &sink.greeting, "--size", "100"])?;
    talk.ask("send 2000")?;
    let sent = (wire.near.traffic()? - before.0).transmit.packets;
    let came = (wire.far.traffic()? - before.1).receive.packets;
    ensure!(sent == 2000, "{sent} sent");
    ensure!((1500..1950).contains(&came), "{came} of {sent} came: not about nine of ten");
    loss.end()?;
    talk.ask("send 1000")?;
    let came = (wire.far.traffic()? - before.1).receive.packets - came;
    ensure!(came == 1000, "{came} of 1000 came after the loss ended");
    Ok(())
}

fn a_vfork_parent_is_in_d() -> Result<()> {
    let mut worker = Worker::start(Seat::default(), ["vfork"])?;
    ensure!(truth::state(worker.pid())? != 'D');
    // Long enough for a look at every thread, where instructions are emulated too.
    worker.tell("vfork 3000")?;
    let seen = wait_until(Duration::from_secs(2), || Ok(truth::state(worker.pid())? == 'D'))?;
    ensure!(seen, "never in D");
    ensure!(truth::uninterruptible_threads()?.contains(&worker.pid()), "not among the threads in D");
    let slept = Slept::wait_for(&mut worker)?;
    ensure!(slept.most >= 3_000_000_000 && slept.least <= slept.most, "{slept:?}");
    Ok(())
}

fn schedstat_stands_still() -> Result<()> {
    let mut worker = Worker::start(Seat { cpu: Some(0), ..Seat::default() }, ["spin"])?;
    let pids = [worker.pid()];
    let settled = wait_until(Duration::from_secs(2), || Ok(truth::state(pids[0])? == 'S'))?;
    ensure!(settled, "the worker does not sleep");
    let before = truth::schedstat(&pids)?;
    std::thread::sleep(Duration::from_millis(200));
    ensure!(truth::schedstat(&pids)? == before, "schedstat moved while the task slept");
    worker.ask("spin 50")?;
    let settled = wait_until(Duration::from_secs(2), || Ok(truth::state(pids[0])? == 'S'))?;
    ensure!(settled, "the worker does not sleep");
    let waits = truth::schedstat(&pids)? - before;
    ensure!(waits.count >= 1, "no wait in {waits:?}");
    Ok(())
}
