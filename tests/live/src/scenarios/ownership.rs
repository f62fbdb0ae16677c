//! Whose a packet is when sockets and tasks do not stay where they were made.

use super::{ends::Ends, wire::any_port};
use crate::{
    netns::{Offloads, SERVER_PUBLIC_V4, SERVER_V4, Wire},
    page::{Counted, Page, Traffic},
    trial::{Need, Place, test},
    worker::Worker,
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::time::Duration;

/// Wire bytes of a datagram of 100 bytes over IPv4.
const DATAGRAM: u64 = 128;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    vec![
        test("a_task_that_moves_leaves_its_socket_with_the_cgroup_that_made_it", Place::Both, NEEDS, a_task_moves),
        test(
            "a_socket_that_outlives_its_cgroup_loses_no_byte_and_charges_no_stranger",
            Place::Both,
            NEEDS,
            a_socket_outlives,
        ),
        test("a_socket_passed_to_another_cgroup_stays_with_the_giver", Place::Both, NEEDS, a_socket_is_passed),
        test(
            "a_listener_passed_to_another_cgroup_books_its_connections_on_the_giver",
            Place::Both,
            NEEDS,
            a_listener_is_passed,
        ),
        test(
            "a_connection_passed_to_another_cgroup_stays_with_the_listener",
            Place::Both,
            NEEDS,
            a_connection_is_passed,
        ),
        test("cgroups_in_a_cgroup_have_books_of_their_own", Place::Both, NEEDS, nested_cgroups),
    ]
}

fn sent(page: &Page, label: &str) -> Result<Counted> {
    Ok(page.traffic(label)?.transmit)
}

fn datagrams(count: u64) -> Counted {
    Counted { bytes: count * DATAGRAM, packets: count }
}

fn talker(ends: &Ends, cgroup: &crate::cgroup::Cgroup, to: &str, more: &[&str]) -> Result<Worker> {
    Worker::start(ends.client_seat(cgroup), [&["udp-talk", "--to", to, "--size", "100"], more].concat())
}

fn sink(ends: &mut Ends, address: &str) -> Result<String> {
    ends.serve(&["udp-sink", "--bind", &any_port(address)?])
}

fn a_task_moves() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = sink(&mut ends, SERVER_V4)?;
    let next = ends.folder.child("next")?;
    let mut talk = talker(&ends, &ends.client, &to, &[])?;
    talk.ask("send 20")?;
    talk.ask(&format!("join {}", next.path().display()))?;
    talk.ask("send 30")?;
    let (page, ..) = ends.still_page()?;
    ensure!(sent(&page, &ends.client.label)? == datagrams(50), "{}", sent(&page, &ends.client.label)?);
    ensure!(sent(&page, &next.label)? == datagrams(0), "{}", sent(&page, &next.label)?);
    Ok(())
}

fn a_socket_outlives() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = sink(&mut ends, SERVER_PUBLIC_V4)?;
    let (gone, next) = (ends.folder.child("gone")?, ends.folder.child("next")?);
    let label = gone.label.clone();
    let nobody = |page: &Page| page.scoped_traffic("unattributed", "internet");
    let before = nobody(&ends.still_page()?.0)?.transmit;
    let mut talk = talker(&ends, &gone, &to, &[])?;
    talk.ask("send 20")?;
    talk.ask(&format!("join {}", next.path().display()))?;
    gone.remove()?;
    for round in 1..=4 {
        talk.ask("send 30")?;
        // Past the next samples, in which the agent learns that the cgroup is gone.
        std::thread::sleep(Duration::from_millis(1100));
        let (page, ..) = ends.still_page()?;
        let mut whole = sent(&page, &label)?;
        ensure!(whole.packets >= 20, "the cgroup's own {whole}");
        whole += nobody(&page)?.transmit - before;
        let expected = datagrams(20 + round * 30);
        ensure!(whole == expected, "round {round}: {whole} on it and on nobody, not {expected}");
        ensure!(
            sent(&page, &next.label)? == datagrams(0),
            "the cgroup its task went to has {}",
            sent(&page, &next.label)?
        );
    }
    Ok(())
}

fn door(name: &str) -> Result<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(name).display().to_string();
    Ok((folder, path))
}

fn a_socket_is_passed() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = sink(&mut ends, SERVER_V4)?;
    let other = ends.folder.child("other")?;
    let (_folder, door) = door("socket")?;
    let mut taker = talker(&ends, &other, &to, &["--take", &door])?;
    let mut giver = talker(&ends, &ends.client, &to, &[])?;
    giver.ask("send 10")?;
    giver.ask(&format!("give {door}"))?;
    taker.line(Duration::from_secs(10))?;
    taker.ask("send 25")?;
    giver.end()?;
    taker.ask("send 5")?;
    let (page, ..) = ends.still_page()?;
    ensure!(sent(&page, &ends.client.label)? == datagrams(40), "the giver: {}", sent(&page, &ends.client.label)?);
    ensure!(sent(&page, &other.label)? == datagrams(0), "the taker: {}", sent(&page, &other.label)?);
    Ok(())
}

/// A client at the far end loads from the near end; the near end's cgroups are `client`, which gives, and another,
/// which does the work.
fn served_by_another(giver: &[&str], taker: &[&str]) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let other = ends.folder.child("other")?;
    let (_folder, door) = door("socket")?;
    let _taker = Worker::start(ends.client_seat(&other), [&["tcp-handle", "--take", &door], taker].concat())?;
    let bind = any_port(crate::netns::CLIENT_V4)?;
    let giver = ends.client_worker(&[&["tcp-serve", "--bind", &bind], giver, &[door.as_str()]].concat())?;
    let address = giver.greeting.split(' ').next().unwrap_or_default().to_owned();
    let mut talk = ends.server_worker(&["tcp-talk", "--to", &address])?;
    talk.ask("download 300000")?;
    talk.ask("upload 100000 write")?;
    talk.ask("close")?;
    let books = ends.client_equals_device()?;
    ensure!(books.transmit.bytes > 300_000, "{books}");
    let (page, ..) = ends.still_page()?;
    let others = page.traffic(&other.label)?;
    ensure!(others == Traffic::default(), "the cgroup that did the work: {others}");
    Ok(())
}

fn a_listener_is_passed() -> Result<()> {
    served_by_another(&["--hand-listener-to"], &["--listener"])
}

fn a_connection_is_passed() -> Result<()> {
    served_by_another(&["--hand-connections-to"], &[])
}

fn nested_cgroups() -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = sink(&mut ends, SERVER_V4)?;
    let outer = ends.folder.child("outer.slice")?;
    let inner = outer.child("inner.service")?;
    let mut outside = talker(&ends, &outer, &to, &[])?;
    let mut inside = talker(&ends, &inner, &to, &[])?;
    outside.ask("send 3")?;
    inside.ask("send 5")?;
    let (page, ..) = ends.still_page()?;
    ensure!(sent(&page, &outer.label)? == datagrams(3), "outer: {}", sent(&page, &outer.label)?);
    ensure!(sent(&page, &inner.label)? == datagrams(5), "inner: {}", sent(&page, &inner.label)?);
    Ok(())
}
