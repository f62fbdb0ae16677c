//! What a packet's headers tell. It begins with IP's, and may lie in pieces.

use crate::{drops, offsets::MIX_SECRET};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use core::{mem::MaybeUninit, ptr::read_volatile};
use observer_ebpf::{
    Drop, carried,
    flows::{AddressWords, TCP, mix_ipv6},
    wire,
};

/// Which way a packet goes; so, which of its addresses is the far end's.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Direction {
    Transmit,
    Receive,
}

impl Direction {
    /// As a number, for functions that the verifier looks at by themselves: those take no other.
    pub(crate) const fn of(number: u32) -> Self {
        if number == Self::Transmit as u32 { Self::Transmit } else { Self::Receive }
    }
}

const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const TCP_HEADER: u32 = 20;

#[inline(always)]
fn is_v4(skb: *mut __sk_buff) -> bool {
    load::<u8>(skb, 0).unwrap_or(0) >> 4 == 4
}

/// The far end's address in a packet, wherever the header lies.
#[inline(always)]
pub(crate) fn packet_address(skb: *mut __sk_buff, direction: Direction) -> AddressWords {
    let is_sent = direction == Direction::Transmit;
    if is_v4(skb) {
        return mapped_words(load(skb, if is_sent { 16 } else { 12 }).unwrap_or(0));
    }
    load(skb, if is_sent { 24 } else { 8 }).unwrap_or_default()
}

/// An IPv4 address as it lies in memory, mapped into IPv6.
#[inline(always)]
pub(crate) fn mapped_words(address: u32) -> AddressWords {
    [0, 0xffff_0000 | (u64::from(address) << 32)]
}

/// The address in the packet's header in place.
#[inline(always)]
pub(crate) fn packet_far_end(skb: *mut __sk_buff, direction: Direction) -> Option<u32> {
    // SAFETY: the context of the program; the verifier turns these into packet pointers.
    let (start, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if start + IPV4_HEADER as usize > end {
        return None;
    }
    let header = start as *const u8;
    // SAFETY: the verifier holds each access against the bound checked before it.
    unsafe {
        if *header >> 4 == 4 {
            return Some(*header.add(if direction == Direction::Transmit { 16 } else { 12 }).cast::<u32>());
        }
    }
    let mixed = packet_far_end_v6(skb, direction as u32);
    (mixed != u64::MAX).then_some(mixed as u32)
}

/// The same for IPv6; all ones if there is none.
#[inline(never)]
fn packet_far_end_v6(skb: *mut __sk_buff, direction: u32) -> u64 {
    // Read again, and not handed over by the caller: in another function the verifier does not know them any more after a cut to 32 bits.
    // SAFETY: as above.
    let (start, end) = unsafe { (read_volatile(&raw const (*skb).data), read_volatile(&raw const (*skb).data_end)) };
    let (start, end) = (start as usize, end as usize);
    if start + IPV6_HEADER as usize > end {
        return u64::MAX;
    }
    let direction = Direction::of(direction);
    // SAFETY: the verifier holds each access against the bound checked before it.
    unsafe {
        let address = (start as *const u8).add(if direction == Direction::Transmit { 24 } else { 8 }).cast::<u32>();
        let half = |at: usize| u64::from(*address.add(at)) | (u64::from(*address.add(at + 1)) << 32);
        mix_ipv6(&MIX_SECRET.load(), half(0), half(2)).into()
    }
}

/// What a packet shows of its far end.
pub(crate) struct PacketEnd {
    pub(crate) address: AddressWords,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
}

#[inline(always)]
pub(crate) fn packet_end(skb: *mut __sk_buff, direction: Direction) -> PacketEnd {
    let is_v4 = is_v4(skb);
    let [source, destination] = packet_ports(skb, protocol(skb, is_v4), is_v4);
    let (local_port, remote_port) =
        if direction == Direction::Transmit { (source, destination) } else { (destination, source) };
    PacketEnd { address: packet_address(skb, direction), local_port, remote_port }
}

/// Source and destination, IPv4 mapped into IPv6.
#[inline(always)]
pub(crate) fn addresses(skb: *mut __sk_buff) -> Option<(AddressWords, AddressWords)> {
    let version: u8 = load(skb, 0)?;
    if version >> 4 == 4 {
        let pair: [u32; 2] = load(skb, 12)?;
        return Some((mapped_words(pair[0]), mapped_words(pair[1])));
    }
    let pair: [AddressWords; 2] = load(skb, 8)?;
    Some((pair[0], pair[1]))
}

/// The transport protocol's number; where IPv6 has other headers before it, the first one's.
#[inline(always)]
pub(crate) fn protocol(skb: *mut __sk_buff, is_v4: bool) -> u8 {
    load(skb, if is_v4 { 9 } else { 6 }).unwrap_or(0)
}

/// The ports of source and destination, where the protocol has them.
#[inline(always)]
fn packet_ports(skb: *mut __sk_buff, protocol: u8, is_v4: bool) -> [u16; 2] {
    if protocol != TCP && protocol != UDP && protocol != SCTP {
        return [0; 2];
    }
    let at = if is_v4 { u32::from(load::<u8>(skb, 0).unwrap_or(0) & 0xf) * 4 } else { IPV6_HEADER };
    load::<[u16; 2]>(skb, at).unwrap_or_default().map(u16::from_be)
}

/// The transport protocol's number and where its header begins.
#[inline(always)]
pub(crate) fn transport(skb: *mut __sk_buff) -> Option<(u8, u32)> {
    let version: u8 = load(skb, 0)?;
    if version >> 4 == 4 {
        return Some((load(skb, 9)?, u32::from(version & 0xf) * 4));
    }
    let (protocol, at, _) = behind_extensions(skb)?;
    Some((protocol, at))
}

/// Whether a packet is TCP's and opens no connection.
#[inline(never)]
pub(crate) fn is_answer_of_tcp(skb: *mut __sk_buff) -> bool {
    const FLAGS: u32 = 13;
    const SYN: u8 = 2;
    let Some((TCP, at)) = transport(skb) else { return false };
    load::<u8>(skb, at + FLAGS).unwrap_or(0) & SYN == 0
}

/// Bytes and packets on the wire, in one word, of a packet that the device, or the stack behind this hook, cuts into segments.
#[inline(never)]
pub(crate) fn segmented(skb: *mut __sk_buff) -> u64 {
    // SAFETY: the context of the program.
    let (bytes, gso_size, gso_segs) = unsafe { ((*skb).len, (*skb).gso_size, (*skb).gso_segs) };
    let Some((headers, removed)) = headers_in_place(skb).or_else(|| headers(skb)) else {
        drops::count(Drop::PacketUnreadable);
        return carried::word(u64::from(bytes), 1);
    };
    let (bytes, packets) = wire::on_the_wire(bytes.saturating_sub(removed), headers, gso_size, gso_segs);
    carried::word(bytes, packets)
}

/// IP's number of UDP.
pub(crate) const UDP: u8 = 17;
const SCTP: u8 = 132;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
const JUMBO: u8 = 0xc2;

/// The same as [`headers`] of a packet of TCP or UDP without other headers, where they lie in place as far as they have to be read: so do
/// nearly all that are cut, and a call out of the program costs more than all of this.
#[inline(always)]
fn headers_in_place(skb: *mut __sk_buff) -> Option<(u32, u32)> {
    // SAFETY: the context of the program; the verifier turns these into packet pointers.
    let (start, end) = unsafe { (read_volatile(&raw const (*skb).data), read_volatile(&raw const (*skb).data_end)) };
    let (start, end) = (start as usize, end as usize);
    if start + IPV4_HEADER as usize > end {
        return None;
    }
    let header = start as *const u8;
    // SAFETY: the verifier holds each access against the bound checked before it.
    unsafe {
        let first = *header;
        let (at, protocol) = match first >> 4 {
            4 => (usize::from(first & 0xf) * 4, *header.add(9)),
            6 => (IPV6_HEADER as usize, *header.add(6)),
            _ => return None,
        };
        if protocol == UDP {
            return Some((at as u32 + 8, 0));
        }
        let transport = start + at;
        if protocol != TCP || transport + TCP_HEADER as usize > end {
            return None;
        }
        Some((at as u32 + u32::from(*(transport as *const u8).add(12) >> 4) * 4, 0))
    }
}

/// The bytes of headers that each segment repeats, and of those that segmentation takes away: IPv6 packets beyond
/// 64 KiB carry a jumbo option of 8 bytes only until they are cut.
#[inline(always)]
fn headers(skb: *mut __sk_buff) -> Option<(u32, u32)> {
    let version: u8 = load(skb, 0)?;
    if version >> 4 == 4 {
        let at = u32::from(version & 0xf) * 4;
        return Some((at + transport_header(skb, load(skb, 9)?, at)?, 0));
    }
    let (next, at, removed) = behind_extensions(skb)?;
    Some((at - removed + transport_header(skb, next, at)?, removed))
}

/// Of an IPv6 packet: the protocol behind the other headers, where its header begins, and the bytes that segmentation takes away.
#[inline(always)]
fn behind_extensions(skb: *mut __sk_buff) -> Option<(u8, u32, u32)> {
    let mut next: u8 = load(skb, 6)?;
    let mut at = IPV6_HEADER;
    let mut removed = 0;
    for _ in 0..4 {
        if next != HOP_BY_HOP && next != ROUTING && next != DESTINATION_OPTIONS {
            break;
        }
        let [following, eights, option]: [u8; 3] = load(skb, at)?;
        if next == HOP_BY_HOP && option == JUMBO && eights == 0 {
            removed = 8;
        }
        at += (u32::from(eights) + 1) * 8;
        next = following;
    }
    Some((next, at, removed))
}

#[inline(always)]
fn transport_header(skb: *mut __sk_buff, protocol: u8, at: u32) -> Option<u32> {
    Some(match protocol {
        TCP => u32::from(load::<u8>(skb, at + 12)? >> 4) * 4,
        UDP => 8,
        SCTP => 12,
        _ => 0,
    })
}

/// Copies bytes out of the packet, wherever they lie.
#[inline(always)]
pub(crate) fn load<T: Copy>(skb: *mut __sk_buff, at: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all of `value` or fails; every `T` used here is plain bytes.
    unsafe {
        (bpf_skb_load_bytes(skb.cast(), at, value.as_mut_ptr().cast(), size_of::<T>() as u32) == 0)
            .then(|| value.assume_init())
    }
}
