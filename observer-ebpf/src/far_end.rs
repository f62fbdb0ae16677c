//! Where a packet goes or comes from: what its socket is connected to, and what itself shows.

use crate::{
    offsets::{CONNECTION_ASKED, CONNECTIONS, MIX_SECRET, SKB_CONNECTION, peek},
    packet::{Direction, addresses, mapped_words, packet_address, packet_far_end},
    sockets::connected_port,
};
use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use core::ptr::read_volatile;
use observer_ebpf::{
    dns::Servers,
    flows::{AddressWords, NO_CONNECTIONS, TABLE_OF_CONNECTIONS, mix_ipv6},
};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// The far end's address, mixed into 32 bits: where a packet goes, since what a connected socket sends need not go where that is connected
/// to; and where one comes from, which to a connected socket is where that is connected to, whatever a NAT of this node makes of it.
#[inline(always)]
pub(crate) fn far_end(skb: *mut __sk_buff, sk: *mut bpf_sock, direction: Direction) -> Option<u32> {
    match direction {
        Direction::Transmit => packet_far_end(skb, direction).or_else(|| connected_to(sk)),
        Direction::Receive => connected_to(sk).or_else(|| packet_far_end(skb, direction)),
    }
}

/// The address a socket is connected to. Reading it is a plain load of each word, which may not be joined.
#[inline(always)]
pub(crate) fn connected_to(sk: *mut bpf_sock) -> Option<u32> {
    if sk.is_null() {
        return None;
    }
    // SAFETY: the context's socket, checked above; the verifier rewrites these into loads of `struct sock_common`.
    unsafe {
        let family = read_volatile(&raw const (*sk).family);
        if family == AF_INET {
            let address = read_volatile(&raw const (*sk).dst_ip4);
            return (address != 0).then_some(address);
        }
        if family == AF_INET6 {
            let mixed = connected_to_v6(sk);
            return (mixed != NOWHERE).then_some(mixed as u32);
        }
    }
    None
}

/// In the place of an address's mix, where there is no address.
const NOWHERE: u64 = u64::MAX;

/// # Safety
/// `sk` must be the context's socket.
#[inline(never)]
unsafe fn connected_to_v6(sk: *mut bpf_sock) -> u64 {
    // SAFETY: as above.
    let [high, low] = unsafe { connected_address_v6(sk) };
    if high | low == 0 { NOWHERE } else { mix_ipv6(&MIX_SECRET.load(), high, low).into() }
}

/// Zeroes if it is connected to none. A socket of datagrams that was connected to nobody again still has the address, and no port.
///
/// # Safety
/// `sk` must be the context's socket.
#[inline(always)]
unsafe fn connected_address_v6(sk: *mut bpf_sock) -> AddressWords {
    if connected_port(sk) == 0 {
        return [0; 2];
    }
    // SAFETY: as above; the verifier rewrites these into loads of `struct sock_common`.
    unsafe {
        let words = (&raw const (*sk).dst_ip6).cast::<u32>();
        let word = |at: usize| u64::from(read_volatile(words.add(at)));
        [word(0) | (word(1) << 32), word(2) | (word(3) << 32)]
    }
}

/// All of the address a socket is connected to, IPv4 mapped into IPv6.
#[inline(always)]
pub(crate) fn connected_address(sk: *mut bpf_sock) -> Option<AddressWords> {
    // SAFETY: the context's socket; see `connected_to`.
    unsafe {
        let family = read_volatile(&raw const (*sk).family);
        if family == AF_INET {
            let address = read_volatile(&raw const (*sk).dst_ip4);
            return (address != 0).then(|| mapped_words(address));
        }
        if family == AF_INET6 {
            let address = connected_address_v6(sk);
            return (address != [0; 2]).then_some(address);
        }
    }
    None
}

/// Whether a packet of a connected socket, which shows another address, goes where that is connected to all the same: to the same address
/// in the clothes of the other family, or to what a NAT of this node made of it. Else whoever sent it named another one.
#[inline(never)]
pub(crate) fn goes_where_connected(skb: *mut __sk_buff, sk: *mut bpf_sock) -> bool {
    let Some(connected) = connected_address(sk) else { return true };
    let Some((_, destination)) = addresses(skb) else { return true };
    if connected == destination {
        return true;
    }
    // Where nobody knows, it is taken for translated.
    told_to_go(skb, destination).is_none_or(|told| told == connected)
}

/// Where whoever sent a packet to there told it to go, before a NAT of this node; nothing if nobody knows. What answers is taken to go
/// where it was told to: only where this node also hides who asked, it was told another address.
#[inline(always)]
fn told_to_go(skb: *mut __sk_buff, destination: AddressWords) -> Option<AddressWords> {
    /// `IP_CT_IS_REPLY`
    const ANSWERS: u64 = 3;
    /// `IP_CT_UNTRACKED`: whoever said so may translate by other means.
    const NOT_FOLLOWED: u64 = 7;
    match CONNECTIONS.load() {
        NO_CONNECTIONS => return Some(destination),
        TABLE_OF_CONNECTIONS => {}
        _ => return None,
    }
    let connection: u64 = peek(skb as u64, &SKB_CONNECTION);
    match (connection & !7, connection & 7) {
        (0, NOT_FOLLOWED) => return None,
        (0, _) | (_, ANSWERS..) => return Some(destination),
        _ => {}
    }
    let asked: [u32; 4] = peek(connection & !7, &CONNECTION_ASKED);
    let [high, low] = destination;
    let is_v4 = high == 0 && low as u32 == mapped_words(0)[1] as u32;
    Some(if is_v4 { mapped_words(asked[0]) } else { address_words(asked) })
}

/// Which server a message over UDP goes to, or is from, as [`Servers`] have it: as the socket sees it, whatever a NAT of this node makes of
/// it. Any, if nobody knows, or the socket is connected: to that one comes only what its far end sends.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn observer_dns_server(skb: *mut __sk_buff, direction: u32) -> u64 {
    // SAFETY: the context of the program.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() || connected_port(sk) != 0 {
        return Servers::ANY.into();
    }
    let direction = Direction::of(direction);
    let address = packet_address(skb, direction);
    let server = if direction == Direction::Transmit { told_to_go(skb, address) } else { Some(address) };
    server.map_or(Servers::ANY, |[high, low]| Servers::one(mix_ipv6(&MIX_SECRET.load(), high, low))).into()
}

/// An address as the kernel's structures have it.
#[inline(always)]
const fn address_words(words: [u32; 4]) -> AddressWords {
    [words[0] as u64 | ((words[1] as u64) << 32), words[2] as u64 | ((words[3] as u64) << 32)]
}
