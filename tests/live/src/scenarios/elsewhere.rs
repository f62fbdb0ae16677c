//! Sockets that are connected, and send to others by name: each packet is booked where it goes, whatever the node makes of its address.

use super::{ends::Ends, flows::port, scopes::datagrams, translated::translate, wire::any_port};
use crate::{
    flows::Flows,
    netns::{Offloads, SERVER_PUBLIC_V4, SERVER_PUBLIC_V6, SERVER_SHARED_V4, SERVER_V4, SERVER_V6, Wire},
    page::Counted,
    trial::{Need, Place, test},
    worker::Worker,
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    const NAT: &[Need] = &[Need::Root, Need::Command("ip"), Need::Command("iptables")];
    vec![
        test("what_a_connected_socket_sends_to_another_is_booked_where_it_goes", Place::Both, NEEDS, by_name),
        test("a_socket_that_turns_to_another_port_has_a_flow_with_each", Place::Both, NEEDS, turns),
        test("a_translated_datagram_is_of_the_far_end_that_it_was_sent_to", Place::Host, NAT, translated),
    ]
}

/// In both families, and in IPv6's clothes; to the one it is connected to first, or to the other.
fn by_name() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let (near, far) = (ends.serve_udp(SERVER_V4)?, ends.serve(&["udp-sink", "--bind", &any_port(SERVER_PUBLIC_V4)?])?);
    let (near_v6, far_v6) =
        (ends.serve_udp(SERVER_V6)?, ends.serve(&["udp-sink", "--bind", &any_port(SERVER_PUBLIC_V6)?])?);
    let mapped =
        |to: &str| -> Result<String> { Ok(format!("[::ffff:{}]:{}", to.split(':').next().unwrap_or(to), port(to)?)) };
    let mut cases = Vec::new();
    for (name, near, far, is_v6, addresses) in [
        ("v4", near.clone(), far.clone(), false, [SERVER_V4, SERVER_PUBLIC_V4]),
        ("v6", near_v6, far_v6, true, [SERVER_V6, SERVER_PUBLIC_V6]),
        ("mapped", mapped(&near)?, mapped(&far)?, false, [SERVER_V4, SERVER_PUBLIC_V4]),
    ] {
        for (order, first, then) in [("there", &near, &far), ("elsewhere", &far, &near)] {
            let cgroup = ends.folder.child(format!("{name}-{order}"))?;
            let words = ["udp-talk", "--size", "100", "--connect", &near, "--to", first, "--to", then];
            let mut talk = Worker::start(ends.client_seat(&cgroup), words)?;
            talk.ask("send 10")?;
            ends.await_echoes()?;
            cases.push((cgroup, is_v6, addresses, [port(&near)?, port(&far)?]));
        }
    }
    let (page, ..) = ends.still_page()?;
    for (cgroup, is_v6, addresses, ports) in &cases {
        let expected = datagrams(10, 100, *is_v6);
        let near = page.scoped_traffic(&cgroup.label, "intranet")?;
        ensure!(near == expected, "{}: where it is connected to: {near}, not {expected}", cgroup.label);
        let far = page.scoped_traffic(&cgroup.label, "internet")?;
        ensure!(far.transmit == expected.transmit, "{}: elsewhere: {far}", cgroup.label);
        ensure!(far.receive == Counted::default(), "{}: what is not from there does not come in: {far}", cgroup.label);
        let flows = Flows::at_rest(&ends.agent, &cgroup.label)?.0;
        for (address, port, received) in
            [(addresses[0], ports[0], expected.receive), (addresses[1], ports[1], Counted::default())]
        {
            let flow =
                flows.only(|flow| flow.text("remote_address") == address && flow.number("remote_port") == port)?;
            let carried = flow.traffic();
            ensure!(
                (carried.transmit, carried.receive, flow.text("direction"))
                    == (expected.transmit, received, "outbound"),
                "{}: {flow:?}",
                cgroup.label
            );
        }
    }
    Ok(())
}

/// One address, three services; the last one is sent to as well when the socket is connected to nobody any more. In both families.
fn turns() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    for (family, address, is_v6) in [("v4", SERVER_V4, false), ("v6", SERVER_V6, true)] {
        let servers = [ends.serve_udp(address)?, ends.serve_udp(address)?, ends.serve_udp(address)?];
        let cgroup = ends.folder.child(family)?;
        let words = ["udp-talk", "--size", "100", "--to", &servers[0]];
        let mut talk = Worker::start(ends.client_seat(&cgroup), words)?;
        talk.ask("send 10")?;
        ends.await_echoes()?;
        for (server, count) in servers[1..].iter().zip([20, 30]) {
            talk.ask(&format!("turn {server} {count}"))?;
            ends.await_echoes()?;
        }
        talk.ask(&format!("leave {} 5", servers[2]))?;
        ends.await_echoes()?;
        let flows = Flows::at_rest(&ends.agent, &cgroup.label)?.0;
        ensure!(flows.all.len() == servers.len(), "{:#?}", flows.all);
        for (server, count) in servers.iter().zip([10, 20, 35]) {
            let port = port(server)?;
            let carried = flows.only(|flow| flow.number("remote_port") == port)?.traffic();
            ensure!(carried == datagrams(count, 100, is_v6), "{server}: {carried}: {:#?}", flows.all);
        }
    }
    Ok(())
}

/// The node sends one far end's datagrams to another; what goes to a third by name is that one's.
fn translated() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let echo = port(&ends.serve_udp(SERVER_V4)?)?;
    let sink = ends.serve(&["udp-sink", "--bind", &any_port(SERVER_SHARED_V4)?])?;
    translate(&ends.wire.client, "OUTPUT", SERVER_PUBLIC_V4, SERVER_V4)?;
    let asked = format!("{SERVER_PUBLIC_V4}:{echo}");
    let mut talk = ends.client_worker(&["udp-talk", "--size", "100", "--to", &asked])?;
    talk.ask("send 50")?;
    ends.await_echoes()?;
    drop(talk);
    let (page, near, _) = ends.still_page()?;
    let (all, intranet) = (page.traffic(&ends.client.label)?, page.scoped_traffic(&ends.client.label, "intranet")?);
    let expected = datagrams(50, 100, false);
    ensure!((all, intranet) == (near, expected), "{all}, of it intranet {intranet}; the device: {near}");
    let flow_to = |flows: &Flows, address: &str, port: u64| {
        let flow = flows.only(|flow| flow.text("remote_address") == address && flow.number("remote_port") == port)?;
        Ok::<_, anyhow::Error>(flow.traffic())
    };
    let flows = Flows::at_rest(&ends.agent, &ends.client.label)?.0;
    let carried = flow_to(&flows, SERVER_PUBLIC_V4, echo)?;
    ensure!(flows.all.len() == 1 && carried == expected, "{carried}: {:#?}", flows.all);

    let both = ends.folder.child("both")?;
    let words = ["udp-talk", "--size", "100", "--connect", &asked, "--to", &asked, "--to", &sink];
    let mut talk = Worker::start(ends.client_seat(&both), words)?;
    talk.ask("send 10")?;
    ends.await_echoes()?;
    drop(talk);
    let flows = Flows::at_rest(&ends.agent, &both.label)?.0;
    let expected = datagrams(10, 100, false);
    let (carried, elsewhere) =
        (flow_to(&flows, SERVER_PUBLIC_V4, echo)?, flow_to(&flows, SERVER_SHARED_V4, port(&sink)?)?);
    ensure!(carried == expected, "{carried}: {:#?}", flows.all);
    ensure!(elsewhere.transmit == expected.transmit, "{elsewhere}: {:#?}", flows.all);
    Ok(())
}
