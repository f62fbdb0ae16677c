//! What sockets carry is told of once, and all of it: whoever tells of it, and however long nobody asks.

use super::{
    flows::port,
    node_device::Hole,
    slots::{send, senders, slots},
    wire::any_port,
};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    flows::Flows,
    machine::{is_guest, patience},
    trial::{Need, Place, test},
    worker::{Seat, Worker},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    const OPEN: &[Need] = &[Need::Root, Need::Iterators];
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Iterators];
    vec![
        test("who_ends_a_connection_at_both_ends_at_once_is_told_of_once", Place::Both, OPEN, halves),
        test("who_gets_a_slot_while_it_sends_has_in_its_flows_what_its_books_have", Place::Both, NEEDS, gets_a_slot),
        test("what_a_socket_carries_by_the_million_while_nobody_looks_is_told_of_whole", Place::Both, NEEDS, millions),
    ]
}

/// A socket's end comes from its holder and from the network, on two CPUs at the same time.
fn halves() -> Result<()> {
    let count: u32 = if is_guest() { 1000 } else { 40_000 };
    let folder = Cgroup::for_test()?;
    let (client, server) = (folder.child("client")?, folder.child("server")?);
    let serve = Worker::start(Seat::in_cgroup(&server), ["tcp-serve", "--bind", &any_port("0.0.0.0")?])?;
    let agent = Agent::start(&[])?;
    let port = port(&serve.greeting)?.to_string();
    let mut many = Worker::start(Seat::in_cgroup(&client), ["connections", "--port", &port])?;
    // To few addresses, so that none is left out.
    for _ in 0..count / 100 {
        many.ask("halves 1 100 200")?;
    }
    let (flows, page) = Flows::at_rest(&agent, &client.label)?;
    let outcome = || {
        let (sum, books) = (flows.sum(), page.traffic(&client.label)?);
        ensure!(sum == books, "the flows: {sum}\nthe books: {books}");
        ensure!(flows.total("connections") == u64::from(count), "{} of {count}", flows.total("connections"));
        ensure!(flows.total("open_connections") + flows.total("failed_connections") == 0, "not all have closed");
        let taken = Flows::at_rest(&agent, &server.label)?.0;
        let (sum, books) = (taken.sum(), agent.scrape()?.traffic(&server.label)?);
        ensure!(sum == books, "the server's flows: {sum}\nits books: {books}");
        ensure!(taken.total("connections") == u64::from(count), "{:#?}", taken.all);
        Ok(())
    };
    explain(&agent, outcome())
}

/// An agent that is kept from looking.
struct Stopped(Pid);

impl Stopped {
    fn stop(agent: &Agent) -> Result<Self> {
        let pid = Pid::from_raw(agent.pid().cast_signed());
        kill(pid, Signal::SIGSTOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// More packets than the word that a socket has for them can hold: the programs hand them over by themselves.
fn millions() -> Result<()> {
    const SEGMENTS: u64 = 64;
    let count = if is_guest() { 34_000 } else { 300_000 };
    let (folder, hole) = (Cgroup::for_test()?, Hole::dig()?);
    let cgroup = folder.child("sender")?;
    let agent = Agent::start(&[])?;
    let mut sender = hole.sender_of(Seat::in_cgroup(&cgroup), &["--size", "6400", "--segment", "100"])?;
    let stopped = Stopped::stop(&agent)?;
    sender.ask(&format!("send {count}"))?;
    drop(stopped);
    let (flows, page) = Flows::at_rest(&agent, &cgroup.label)?;
    let outcome = || {
        let (sum, books) = (flows.sum(), page.traffic(&cgroup.label)?);
        ensure!(sum == books, "the flows: {sum}\nthe books: {books}");
        let sent = count * SEGMENTS;
        ensure!((books.transmit.packets, books.transmit.bytes) == (sent, sent * 128), "{books}, not {sent} packets");
        Ok(())
    };
    explain(&agent, outcome())
}

/// Slots come free while a socket sends whose cgroup had none.
fn gets_a_slot() -> Result<()> {
    let (slots, folder, hole) = (slots(16)?, Cgroup::for_test()?, Hole::dig()?);
    let late = folder.child("late")?;
    let agent = Agent::start(&["--max-cgroups", &slots.to_string()])?;
    let mut others = senders(&folder, &hole, 0..slots)?;
    send(&mut others, |_| 1)?;
    let mut sender = hole.sender(Seat::in_cgroup(&late))?;
    sender.tell("pace 4000 500")?;
    std::thread::sleep(Duration::from_millis(500));
    drop(others);
    sender.line(patience(Duration::from_secs(20)))?;
    let outcome = || {
        for label in [late.label.as_str(), "unattributed"] {
            let (flows, page) = Flows::at_rest(&agent, label)?;
            let (sum, books) = (flows.sum(), page.traffic(label)?);
            ensure!(sum == books, "{label}: the flows: {sum}\nthe books: {books}");
            ensure!(books.transmit.packets >= 100, "it got no slot, or had one: {label} has {books}");
        }
        Ok(())
    };
    explain(&agent, outcome())
}
