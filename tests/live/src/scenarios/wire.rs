//! Bytes and packets of both ends of a wire against the counters of its devices.

use super::ends::Ends;
use crate::{
    netns::{CLIENT_V4, CLIENT_V6, Offloads, SERVER_V4, SERVER_V6, Wire},
    page::{Counted, Traffic},
    trial::{Need, Place, test},
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

const UPLOAD: u64 = 3_000_000;
const DOWNLOAD: u64 = 2_000_000;
const DATAGRAMS: u64 = 2000;

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Root, Need::Command("ip")];
    const LOSS: &[Need] = &[Need::Root, Need::Command("ip"), Need::Kernel(6, 6)];
    let mut tests = Vec::new();
    for (family, server, client) in [("v4", SERVER_V4, CLIENT_V4), ("v6", SERVER_V6, CLIENT_V6)] {
        for how in ["write", "sendfile", "splice"] {
            let name = format!("tcp_{family}_by_{how}_equals_the_devices_at_both_ends");
            tests.push(test(name, Place::Both, NEEDS, move || tcp_equals_the_devices(server, how)));
        }
        let name = format!("tcp_{family}_that_the_other_side_opens_equals_the_devices_at_both_ends");
        tests.push(test(name, Place::Both, NEEDS, move || inbound_equals_the_devices(client)));
        let name = format!("tcp_{family}_with_loss_equals_the_devices_at_both_ends");
        tests.push(test(name, Place::Both, LOSS, move || tcp_with_loss(server)));
        let name = format!("udp_{family}_equals_the_devices_at_both_ends");
        tests.push(test(name, Place::Both, NEEDS, move || udp_equals_the_devices(server)));
        let name = format!("udp_{family}_cut_by_the_kernel_equals_the_devices_at_both_ends");
        tests.push(test(name, Place::Both, NEEDS, move || udp_segments_equal_the_devices(server)));
        let name = format!("udp_{family}_in_fragments_counts_the_datagrams_and_not_the_headers_of_the_fragments");
        tests.push(test(name, Place::Both, NEEDS, move || fragments_count_once(server)));
        let name = format!("udp_{family}_with_loss_equals_the_devices_at_both_ends");
        tests.push(test(name, Place::Both, LOSS, move || udp_with_loss(server)));
        let name = format!("icmp_{family}_echo_equals_the_device");
        tests.push(test(name, Place::Both, NEEDS, move || icmp_equals_the_device(server)));
        let name = format!("tcp_{family}_with_offloads_counts_as_segmented_behind_a_router");
        tests.push(test(name, Place::Both, NEEDS, move || offloads_behind_a_router(server)));
        let name = format!("tcp_{family}_with_offloads_is_sent_as_it_is_received");
        tests.push(test(name, Place::Both, NEEDS, move || offloads_at_both_ends(server)));
    }
    let name = "tcp_v6_with_options_for_the_destination_counts_as_segmented_behind_a_router";
    tests.push(test(name, Place::Both, NEEDS, offloads_with_options_behind_a_router));
    tests
}

fn tcp_equals_the_devices(server: &str, how: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = ends.serve_tcp(server)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &to])?;
    talk.ask(&format!("upload {UPLOAD} {how}"))?;
    talk.ask(&format!("download {DOWNLOAD}"))?;
    talk.ask("close")?;
    let books = ends.equal_devices()?;
    ensure!(books.transmit.bytes > UPLOAD && books.receive.bytes > DOWNLOAD, "too little to be true: {books}");
    Ok(())
}

/// The server's side of the wire is the one that connects.
fn inbound_equals_the_devices(client: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let serve = ends.client_serves_tcp(client)?;
    let mut talk = ends.server_worker(&["tcp-talk", "--to", &serve.greeting])?;
    talk.ask(&format!("upload {DOWNLOAD} write"))?;
    talk.ask(&format!("download {UPLOAD}"))?;
    talk.ask("close")?;
    let books = ends.equal_devices()?;
    ensure!(books.transmit.bytes > UPLOAD && books.receive.bytes > DOWNLOAD, "too little to be true: {books}");
    Ok(())
}

fn tcp_with_loss(server: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::routed(Offloads::Off)?, &[])?;
    let _loss = ends.wire.lose_one_in(40)?;
    let to = ends.serve_tcp(server)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &to])?;
    talk.ask(&format!("upload {UPLOAD} write"))?;
    talk.ask(&format!("download {DOWNLOAD}"))?;
    // Before the end of the connection: a last packet lost would come again to a socket in TIME_WAIT, which no program
    // sees.
    ends.equal_devices()?;
    let (near, far) = ends.devices()?;
    ensure!(
        near.transmit.packets > far.receive.packets && far.transmit.packets > near.receive.packets,
        "nothing was lost"
    );
    Ok(())
}

fn udp_equals_the_devices(server: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = ends.serve_udp(server)?;
    for connected in [&[][..], &["--unconnected"]] {
        let mut talk = ends.client_worker(&[&["udp-talk", "--to", &to, "--size", "1000"][..], connected].concat())?;
        talk.ask(&format!("send {DATAGRAMS}"))?;
        ends.await_echoes()?;
    }
    let books = ends.equal_devices()?;
    let header = if server.contains(':') { 40 } else { 20 };
    let bytes = 2 * DATAGRAMS * (1000 + 8 + header);
    ensure!(books.transmit.bytes == bytes && books.transmit.packets == 2 * DATAGRAMS, "{books}, not {bytes} bytes");
    Ok(())
}

fn udp_segments_equal_the_devices(server: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = ends.serve_udp(server)?;
    let mut talk = ends.client_worker(&["udp-talk", "--to", &to, "--size", "10100", "--segment", "1000"])?;
    talk.ask("send 100")?;
    ends.await_echoes()?;
    let books = ends.equal_devices()?;
    ensure!(books.transmit.packets == 1100, "100 times 10100 bytes cut at 1000 make 1100 packets, not {books}");
    Ok(())
}

/// Datagrams are cut behind the hook on the way out and put together before it on the way in: the books hold each
/// once. What the wire carries beside it is known: the headers of two more fragments.
fn fragments_count_once(server: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let to = ends.serve_udp(server)?;
    let mut talk = ends.client_worker(&["udp-talk", "--to", &to, "--size", "4000"])?;
    talk.ask("send 200")?;
    let (client, server_books, near, far) = ends.settled()?;
    ensure!(near.transmit.packets == 600, "200 datagrams of 4000 bytes make 600 fragments, not {near}");
    let (header, extra) = if server.contains(':') { (40, 3 * 48 - 40) } else { (20, 2 * 20) };
    let books = Counted { bytes: 200 * (4000 + 8 + header), packets: 200 };
    let expected = Traffic { transmit: books, receive: books };
    ensure!(client == expected && server_books == expected, "client {client}; server {server_books}; not {expected}");
    for device in [near.transmit, near.receive, far.transmit, far.receive] {
        ensure!(device.bytes == books.bytes + 200 * extra, "{device} on the wire beside {books}");
    }
    Ok(())
}

fn udp_with_loss(server: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::routed(Offloads::Off)?, &[])?;
    let _loss = ends.wire.lose_one_in(20)?;
    let to = ends.serve_udp(server)?;
    let mut talk = ends.client_worker(&["udp-talk", "--to", &to, "--size", "1000"])?;
    talk.ask(&format!("send {DATAGRAMS}"))?;
    ends.await_echoes()?;
    let books = ends.equal_devices()?;
    ensure!(books.transmit.packets == DATAGRAMS, "{books}");
    ensure!(books.receive.packets < DATAGRAMS, "nothing was lost: {books}");
    Ok(())
}

fn icmp_equals_the_device(server: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::Off)?, &[])?;
    let mut ping = ends.client_worker(&["ping", "--to", server, "--size", "300"])?;
    ping.ask("ping 200")?;
    let books = ends.client_equals_device()?;
    let header = if server.contains(':') { 40 } else { 20 };
    let expected = 200 * (300 + 8 + header);
    ensure!(books.transmit.bytes == expected && books.receive.bytes == expected, "{books}, not {expected} bytes");
    Ok(())
}

fn offloads_behind_a_router(server: &str) -> Result<()> {
    let [near, far] = equal_behind_a_router(Wire::routed(Offloads::NearSide)?, server, &[])?;
    ensure!(near.transmit.packets < far.receive.packets, "the near device segmented: nothing was put to the test");
    Ok(())
}

/// Some kernels (Debian's 6.1) segment such packets before the device, and behind the hook all the same.
fn offloads_with_options_behind_a_router() -> Result<()> {
    let wire = Wire::routed(Offloads::NearSide)?;
    // A router that takes a packet of several segments looks for the length of TCP's header right behind IPv6's, and
    // there reads the sequence number: without room for the longest, one connection in three stalls.
    wire.client.ip("link set dev client mtu 1400")?;
    let [_, far] = equal_behind_a_router(wire, SERVER_V6, &["options"])?;
    let Counted { bytes, packets } = far.receive;
    // IPv6's header, TCP's with its time stamps, and the options.
    ensure!(bytes - UPLOAD >= packets * (40 + 32 + 8), "{bytes} bytes in {packets} packets: no options were sent");
    Ok(())
}

/// The router's far device has no offloads: what it carries is what a wire would. What the near and the far one counted.
fn equal_behind_a_router(wire: Wire, server: &str, asked_first: &[&str]) -> Result<[Traffic; 2]> {
    let mut ends = Ends::new(wire, &[])?;
    let to = ends.serve_tcp(server)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &to])?;
    for words in asked_first {
        talk.ask(words)?;
    }
    talk.ask(&format!("upload {UPLOAD} write"))?;
    talk.ask(&format!("download {DOWNLOAD}"))?;
    talk.ask("close")?;
    let (client, server, near, far) = ends.settled()?;
    ensure!(client == far.mirrored(), "the client's books: {client}\nthe wire behind the router: {}", far.mirrored());
    ensure!(server == far, "the server's books: {server}\nits device: {far}");
    Ok([near, far])
}

fn offloads_at_both_ends(server: &str) -> Result<()> {
    let mut ends = Ends::new(Wire::direct(Offloads::On)?, &[])?;
    let to = ends.serve_tcp(server)?;
    let mut talk = ends.client_worker(&["tcp-talk", "--to", &to])?;
    talk.ask(&format!("upload {UPLOAD} sendfile"))?;
    talk.ask(&format!("download {DOWNLOAD}"))?;
    talk.ask("close")?;
    let (client, server, near, _) = ends.settled()?;
    ensure!(near.transmit.packets < client.transmit.packets, "the device segmented: nothing was put to the test");
    ensure!(client == server.mirrored(), "the client's books: {client}\nthe server's, mirrored: {}", server.mirrored());
    Ok(())
}

pub(super) fn any_port(address: &str) -> Result<String> {
    Ok(std::net::SocketAddr::new(address.parse()?, 0).to_string())
}
