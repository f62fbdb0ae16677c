//! Connections: those that are open, those that were there before the agent, those that failed, and how they end.

use super::{ends::Ends, flows::port, wire::any_port};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    flows::{Flow, Flows},
    machine::{is_guest, kernel, patience, wait_until},
    netns::{Offloads, SERVER_V4, Wire},
    page::Page,
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

pub(super) fn tests() -> Vec<Trial> {
    const OPEN: &[Need] = &[Need::Root, Need::Iterators];
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Iterators];
    // Before that, docs/kernel.md tells users, nobody tells of their last bytes.
    const ACCEPTING: &[Need] = &[Need::Root, Need::Iterators, Need::Kernel(5, 15)];
    const WIRE: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![
        test("a_connection_that_was_there_before_the_agent_has_its_direction", Place::Both, OPEN, there_before),
        test("who_stays_is_counted_at_each_look_while_others_come_and_go", Place::Both, OPEN, beside_many),
        test("connections_that_are_open_and_that_failed_are_counted", Place::Both, OPEN, open_and_failed),
        test("a_connection_closed_with_something_unread_is_a_reset_for_either_end", Place::Both, NEEDS, resets),
        test("connections_that_nobody_accepts_are_reset_in_their_flows", Place::Both, ACCEPTING, nobody_accepts),
        test("who_asks_in_vain_has_the_questions_that_were_repeated_in_its_flow", Place::Both, NEEDS, asks_in_vain),
        test("what_open_sockets_carried_is_in_a_flow_or_told_beside_them", Place::Host, WIRE, open_sockets),
    ]
}

/// A connection that stays and one that is closed: where this kernel lets no program read open sockets, no flow says how many there are.
fn open_sockets() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let tcp = ends.serve_tcp(SERVER_V4)?;
    let mut stays = ends.client_worker(&["tcp-talk", "--to", &tcp])?;
    stays.ask("upload 3000000 write")?;
    let mut closed = ends.client_worker(&["tcp-talk", "--to", &tcp])?;
    closed.ask("download 2000000")?;
    closed.ask("close")?;
    let query = format!("entity={}", ends.client.label.replace('/', "%2F"));
    let mut told = String::new();
    let all = wait_until(patience(Duration::from_secs(10)), || {
        let (before, flows) = (ends.agent.scrape()?.traffic(&ends.client.label)?, Flows::ask(&ends.agent, &query)?);
        let sum = flows.sum();
        let [sent, received] = flows.in_no_flow.unwrap_or_default();
        told = format!("{before}, of which {sum} in {:#?}, and {:?}", flows.all, flows.in_no_flow);
        let is_known = |flow: &Flow| flow.of("open_connections").is_u64();
        let is_right = match flows.in_no_flow {
            // The closed one's are there.
            Some([sent, _]) => sent > 3_000_000 && sum.receive.bytes > 2_000_000 && !flows.all.iter().any(is_known),
            None => flows.total("open_connections") == 1 && flows.all.iter().all(is_known),
        };
        Ok(is_right
            && (sum.transmit.bytes + sent, sum.receive.bytes + received)
                == (before.transmit.bytes, before.receive.bytes))
    })?;
    ensure!(all, "{told}");
    Ok(())
}

fn there_before() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (client, server) = (folder.child("client")?, folder.child("server")?);
    let serve = Worker::start(Seat::in_cgroup(&server), ["tcp-serve", "--bind", &any_port("127.0.0.1")?])?;
    let mut talkers = (0..2)
        .map(|_| Worker::start(Seat::in_cgroup(&client), ["tcp-talk", "--to", &serve.greeting]))
        .collect::<Result<Vec<_>>>()?;
    for talk in &mut talkers {
        talk.ask("upload 100000 write")?;
    }
    let agent = Agent::start(&[])?;
    for talk in &mut talkers {
        talk.ask("upload 100000 write")?;
    }
    let tell = |closed: bool| -> Result<()> {
        for (cgroup, direction) in [(&client, "outbound"), (&server, "inbound")] {
            let flows = Flows::at_rest(&agent, &cgroup.label)?.0;
            let [flow] = &flows.all[..] else { anyhow::bail!("{:#?}", flows.all) };
            ensure!(flow.text("direction") == direction, "{flow:?}");
            let open = if closed { 1 } else { 2 };
            ensure!((flow.number("connections"), flow.number("open_connections")) == (2, open), "{flow:?}");
        }
        Ok(())
    };
    let mut outcome = || {
        tell(false)?;
        talkers[0].ask("close")?;
        tell(true)
    };
    explain(&agent, outcome())
}

fn open_and_failed() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (client, server) = (folder.child("client")?, folder.child("server")?);
    let serve = Worker::start(Seat::in_cgroup(&server), ["tcp-serve", "--bind", &any_port("0.0.0.0")?])?;
    let agent = Agent::start(&[])?;
    let port = port(&serve.greeting)?.to_string();
    let mut many = Worker::start(Seat::in_cgroup(&client), ["connections", "--port", &port])?;
    many.ask("hold 1 50")?;
    many.ask("open 1 20 1000")?;
    many.ask("refused 7")?;
    let (flows, page) = Flows::at_rest(&agent, &client.label)?;
    let of = |flows: &Flows| ["connections", "open_connections", "failed_connections"].map(|field| flows.total(field));
    ensure!(of(&flows) == [70, 50, 7], "{:?}", of(&flows));
    let gauge = |page: &Page, direction| -> Result<u64> {
        let labels = [("cgroup", client.label.as_str()), ("scope", "loopback"), ("direction", direction)];
        page.one("observer_network_connections", &labels)?.integer()
    };
    ensure!(gauge(&page, "outbound")? == 50, "{} are open", gauge(&page, "outbound")?);
    // Each was refused by a reset.
    for name in ["failed_connects", "receive_resets"] {
        let counter = page.sample_of(&format!("observer_tcp_{name}_total"), &client.label)?;
        ensure!(counter == 7, "{name}: {counter}");
    }
    let taken = Flows::at_rest(&agent, &server.label)?.0;
    // Before 5.15 an accepted connection is not seen before its first data: docs/kernel.md tells users.
    let seen = if kernel() < (5, 15) { [20, 0, 0] } else { [70, 50, 0] };
    ensure!(of(&taken) == seen, "{:?}", of(&taken));
    // Killed: nobody closes, and the kernel does.
    drop(many);
    std::thread::sleep(Duration::from_millis(300));
    let (flows, page) = Flows::at_rest(&agent, &client.label)?;
    ensure!(of(&flows) == [70, 0, 7], "{:?}", of(&flows));
    ensure!(gauge(&page, "outbound")? == 0, "{} are open", gauge(&page, "outbound")?);
    Ok(())
}

/// The listener closes with connections that it never accepted: the kernel resets each once it is over.
fn nobody_accepts() -> Result<()> {
    const COUNT: u64 = 50;
    const COUNT_V6: u64 = 5;
    let folder = Cgroup::for_test()?;
    let (client, server) = (folder.child("client")?, folder.child("server")?);
    let agent = Agent::start(&[])?;
    let serve = |address: &str| -> Result<Worker> {
        let bind = any_port(address)?;
        Worker::start(Seat::in_cgroup(&server), ["tcp-serve", "--accept-nobody", "--bind", &bind])
    };
    let (v4, v6) = (serve("0.0.0.0")?, serve("::1")?);
    let mut many =
        Worker::start(Seat::in_cgroup(&client), ["connections", "--port", &port(&v4.greeting)?.to_string()])?;
    many.ask(&format!("hold 1 {COUNT}"))?;
    let talk = |_| Worker::start(Seat::in_cgroup(&client), ["tcp-talk", "--to", &v6.greeting]);
    let talkers = (0..COUNT_V6).map(talk).collect::<Result<Vec<_>>>()?;
    agent.scrape()?;
    // Before those that asked: each connection is open still.
    drop([v4, v6]);
    for cgroup in [&client, &server] {
        let (flows, page) = Flows::at_rest(&agent, &cgroup.label)?;
        let (sum, books) = (flows.sum(), page.traffic(&cgroup.label)?);
        ensure!(sum == books, "{}: the flows: {sum}\nthe books: {books}\n{:#?}", cgroup.label, flows.all);
    }
    let resets = agent.scrape()?.sample_of("observer_tcp_transmit_resets_total", &server.label)?;
    ensure!(resets == COUNT + COUNT_V6, "{resets} resets");
    drop((many, talkers));
    Ok(())
}

/// Some stay, of whom the kernel tells in many parts, and others come and go in between.
fn beside_many() -> Result<()> {
    // A worker may have a thousand files open in a guest.
    let (stay, come, rounds) = if is_guest() { (800, 3000, 4) } else { (3000, 10_000, 15) };
    let folder = Cgroup::for_test()?;
    let [stays, comes_and_goes, server] = ["stays", "comes", "server"].map(|name| folder.child(name));
    let (stays, comes_and_goes, server) = (stays?, comes_and_goes?, server?);
    let serve = Worker::start(Seat::in_cgroup(&server), ["tcp-serve", "--bind", &any_port("0.0.0.0")?])?;
    let agent = Agent::start(&[])?;
    let port = port(&serve.greeting)?.to_string();
    let mut many = Worker::start(Seat::in_cgroup(&stays), ["connections", "--port", &port])?;
    many.ask(&format!("hold 1 {stay}"))?;
    let mut others = Worker::start(Seat::in_cgroup(&comes_and_goes), ["connections", "--port", &port])?;
    let labels = [("cgroup", stays.label.as_str()), ("scope", "loopback"), ("direction", "outbound")];
    let mut told = Vec::new();
    for _ in 0..rounds {
        // As many as come and go while it looks, and more.
        others.tell(&format!("halves 10000 {come} 100"))?;
        for _ in 0..2 {
            told.push(agent.scrape()?.one("observer_network_connections", &labels)?.integer()?);
        }
        others.line(Duration::from_mins(1))?;
    }
    ensure!(told.iter().all(|count| *count == stay), "{stay} were open all the time: {told:?}");
    Ok(())
}

/// To an address that nobody has, while the connection is being asked for.
fn asks_in_vain() -> Result<()> {
    let ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    ends.wire.client.ip("route add 10.7.9.9/32 dev client")?;
    ends.wire.client.ip("neighbour add 10.7.9.9 lladdr 02:00:00:00:07:99 dev client")?;
    let mut asks = ends.client_worker(&["connections", "--port", "9"])?;
    asks.ask("try 10.7.9.9:9 10")?;
    let query = format!("entity={}", ends.client.label.replace('/', "%2F"));
    let mut told = String::new();
    let right = wait_until(patience(Duration::from_secs(9)), || {
        let again = ends.agent.scrape()?.sample_of("observer_tcp_retransmits_total", &ends.client.label).unwrap_or(0);
        let flows = Flows::ask(&ends.agent, &query)?;
        told = format!("{again} by the entity's counter, {:#?}", flows.all);
        let [packets, failed] = [flows.sum().transmit.packets, flows.total("failed_connections")];
        Ok(again > 0 && flows.total("retransmits") == again && packets == again + 1 && failed == 0)
    })?;
    ensure!(right, "{told}");
    Ok(())
}

/// A connection that is closed while something is unread is reset.
fn resets() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = ends.serve_tcp(SERVER_V4)?;
    let mut talkers = Vec::new();
    for _ in 0..5 {
        let mut talk = ends.client_worker(&["tcp-talk", "--to", &to])?;
        talk.ask("abandon 100000")?;
        talkers.push(talk);
    }
    ends.await_echoes()?;
    let page = ends.agent.scrape()?;
    let sent = page.sample_of("observer_tcp_transmit_resets_total", &ends.client.label)?;
    let truth = truth::tcp(talkers[0].pid(), "OutRsts")?;
    // The kernel resets once more for each packet that comes when the socket is gone, which is nobody's any more.
    ensure!(sent == 5 && truth >= sent, "{sent} resets were sent, and the namespace says {truth}");
    let received = page.sample_of("observer_tcp_receive_resets_total", &ends.server.label)?;
    ensure!(received == 5, "{received} resets were received");
    Ok(())
}
