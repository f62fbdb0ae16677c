//! The bytes' books: each packet to the cgroup of its socket and to the scope of its far end.
//!
//! On the usual way one call out of the program: the socket's storage, which remembers slot and scope.

use crate::{
    drops,
    slots::{self, NoSlot},
    sockets::{self, storage},
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::{
        bpf_get_smp_processor_id,
        generated::{bpf_skb_cgroup_id, bpf_skb_load_bytes},
    },
    macros::map,
    maps::{LpmTrie, lpm_trie::Key},
    programs::SkBuffContext,
};
use core::{mem::MaybeUninit, ptr::read_volatile};
use observer_ebpf::{
    Address, Drop, MAX_SCOPE_PREFIXES, SCOPES, Scope, Traffic, UNATTRIBUTED_SLOT,
    flows::{
        AddressWords, FlowKey, INBOUND, OUTBOUND, PEER_KNOWN, PEER_SCOPE, PEER_SENT, SocketBook, TCP, UNDECIDED,
        address_of, mix_ipv6, peer_key,
    },
    wire,
};

/// Which addresses are in which [`Scope`]; the rest is [`Scope::Internet`].
#[map]
static SCOPE_PREFIXES: LpmTrie<Address, u32> = LpmTrie::with_max_entries(MAX_SCOPE_PREFIXES, 0);

/// Which way a packet goes; so, which of its addresses is the far end's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Transmit,
    Receive,
}

impl Direction {
    /// What a scope that a packet of this direction decided is marked with.
    const fn mark(self) -> u64 {
        match self {
            Self::Transmit => PEER_SENT,
            Self::Receive => 0,
        }
    }
}

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;

/// Books one packet.
#[inline(always)]
pub(crate) fn book(ctx: &SkBuffContext, direction: Direction) {
    let skb = ctx.skb.skb;
    // SAFETY: the context of the program; the verifier rewrites these into checked loads.
    let (bytes, gso_size, sk) = unsafe { ((*skb).len, (*skb).gso_size, (*skb).__bindgen_anon_2.sk) };
    let control = slots::control();
    let key = far_end(skb, sk, direction)
        .map_or(UNREADABLE, |mixed| peer_key(mixed, control.scope_generation as u16) | PEER_KNOWN | direction.mark());
    let (bytes, packets) = if gso_size == 0 { (u64::from(bytes), 1) } else { unpack(segmented(skb)) };
    let mut socket = if sk.is_null() { core::ptr::null_mut() } else { storage(sk, core::ptr::null_mut(), 0) };
    let known = known_place(socket, key, direction);
    let place = known.unwrap_or_else(|| settle(skb, sk, socket, key, direction));
    if known.is_none() && !sk.is_null() {
        // There may be one now.
        socket = storage(sk, core::ptr::null_mut(), 0);
    }
    if place & STRANGER != 0 {
        // SAFETY: only a socket with storage has strangers.
        if let Some(key) = unsafe { stranger(skb, socket, place, direction) } {
            sockets::book_stranger(key, direction, bytes, packets);
        }
    } else if !socket.is_null() {
        // SAFETY: the socket's storage.
        unsafe {
            sockets::count(&raw mut (*socket).traffic, direction, bytes, packets);
            if (*socket).is_released != 0 {
                sockets::turn_over(socket);
            }
        }
    }
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let scope = (place & PEER_SCOPE) as usize;
    let Some(book) = slots::net_book((place >> 8) as u32, cpu).filter(|_| scope < SCOPES) else { return };
    // SAFETY: the map's value; the scope was compared.
    unsafe { sockets::count((&raw mut (*book).scopes).cast::<Traffic>().add(scope), direction, bytes, packets) }
}

/// The key of a far end whose address does not lie in place: remembered for nobody.
const UNREADABLE: u64 = 0;

/// Slot and scope of a packet in one word: `slot << 8 | scope`, and [`STRANGER`].
type Place = u64;

/// Marks the place of a packet of a socket without connection whose far end is not the socket's first: its traffic is not the book's.
const STRANGER: Place = 1 << 62;

/// The place as the socket remembers it, if all of it still holds.
#[inline(always)]
fn known_place(socket: *mut SocketBook, key: u64, direction: Direction) -> Option<Place> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: the socket's storage; each word is read once.
    let (cgroup, peer, slot) = unsafe { ((*socket).cgroup, (*socket).peer, (*socket).slot) };
    // A packet that is received is content with either decision.
    let compared = if direction == Direction::Transmit { !PEER_SCOPE } else { !(PEER_SCOPE | PEER_SENT) };
    let holds = key != UNREADABLE && (peer & compared) == key && slots::owner(slot) == cgroup;
    holds.then_some((u64::from(slot) << 8) | (peer & PEER_SCOPE))
}

/// The far end's address, mixed into 32 bits: that of a connected socket, which is the same whatever a NAT of this node
/// makes of its packets; else that of the packet.
#[inline(always)]
fn far_end(skb: *mut __sk_buff, sk: *mut bpf_sock, direction: Direction) -> Option<u32> {
    connected_to(sk).or_else(|| packet_far_end(skb, direction))
}

/// The address a socket is connected to. Reading it is a plain load of each word, which may not be joined.
#[inline(always)]
fn connected_to(sk: *mut bpf_sock) -> Option<u32> {
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
            let words = (&raw const (*sk).dst_ip6).cast::<u32>();
            let word = |at: usize| u64::from(read_volatile(words.add(at)));
            let (high, low) = (word(0) | (word(1) << 32), word(2) | (word(3) << 32));
            return (high | low != 0).then(|| mix_ipv6(high, low));
        }
    }
    None
}

/// All of the address a socket is connected to, IPv4 mapped into IPv6.
#[inline(always)]
fn connected_address(sk: *mut bpf_sock) -> Option<AddressWords> {
    // SAFETY: the context's socket; see `connected_to`.
    unsafe {
        let family = read_volatile(&raw const (*sk).family);
        if family == AF_INET {
            let address = read_volatile(&raw const (*sk).dst_ip4);
            return (address != 0).then(|| mapped_words(address));
        }
        if family == AF_INET6 {
            let words = (&raw const (*sk).dst_ip6).cast::<u32>();
            let word = |at: usize| u64::from(read_volatile(words.add(at)));
            let (high, low) = (word(0) | (word(1) << 32), word(2) | (word(3) << 32));
            return (high | low != 0).then_some([high, low]);
        }
    }
    None
}

/// The far end's address in a packet, wherever the header lies.
#[inline(always)]
fn packet_address(skb: *mut __sk_buff, is_v4: bool, direction: Direction) -> AddressWords {
    let is_sent = direction == Direction::Transmit;
    if is_v4 {
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
fn packet_far_end(skb: *mut __sk_buff, direction: Direction) -> Option<u32> {
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
        if start + IPV6_HEADER as usize > end {
            return None;
        }
        let address = header.add(if direction == Direction::Transmit { 24 } else { 8 }).cast::<u32>();
        let half = |at: usize| u64::from(*address.add(at)) | (u64::from(*address.add(at + 1)) << 32);
        Some(mix_ipv6(half(0), half(2)))
    }
}

/// The way of a socket's first packet, of another far end than last time, and of changed slots or address ranges.
#[inline(never)]
fn settle(skb: *mut __sk_buff, sk: *mut bpf_sock, known: *mut SocketBook, key: u64, direction: Direction) -> Place {
    let scope = scope_of(skb, direction);
    let generation = slots::control().slot_generation;
    let mut socket = known;
    if socket.is_null() && !sk.is_null() {
        socket = open(skb, sk, generation);
    }
    if socket.is_null() {
        // No memory, or a socket on its way out: book all the same, remember nothing.
        if !sk.is_null() {
            drops::count(Drop::FlowLost);
        }
        // SAFETY: the context of the program.
        let slot = slot_or_count(unsafe { bpf_skb_cgroup_id(skb) }).unwrap_or(UNATTRIBUTED_SLOT);
        return place(slot, scope);
    }
    // SAFETY: the socket's storage. Two CPUs may settle one socket at once: each word is whole, and the next packet
    // compares them again.
    unsafe {
        let scope = decide(skb, sk, socket, key, (scope, direction));
        let (cgroup, slot) = ((*socket).cgroup, (*socket).slot);
        if slots::owner(slot) == cgroup {
            return place(slot, scope);
        }
        if slot == UNATTRIBUTED_SLOT && (*socket).slot_generation == generation {
            drops::count(Drop::PacketNoSlot);
            return place(UNATTRIBUTED_SLOT, scope);
        }
        let slot = slot_or_count(cgroup);
        (*socket).slot = slot.unwrap_or(UNATTRIBUTED_SLOT);
        if slot != Err(NoSlot::TableRefused) {
            (*socket).slot_generation = generation;
        }
        place(slot.unwrap_or(UNATTRIBUTED_SLOT), scope)
    }
}

/// Storage for a socket that has none. On a stack of its own: the kernel allows 512 bytes for all calls together.
#[inline(never)]
fn open(skb: *mut __sk_buff, sk: *mut bpf_sock, generation: u32) -> *mut SocketBook {
    // SAFETY: the context of the program, which has a socket.
    let cgroup = unsafe { bpf_skb_cgroup_id(skb) };
    let mut new = SocketBook {
        cgroup,
        slot: UNATTRIBUTED_SLOT,
        slot_generation: generation.wrapping_sub(1),
        ..SocketBook::default()
    };
    storage(sk, &raw mut new, BPF_SK_STORAGE_GET_F_CREATE.into())
}

/// The scope of a socket's far end, given what this packet shows, with [`STRANGER`] if it is not the one that the socket remembers. Of a
/// new far end of a connection, and of another scope, it remembers that, and what came before is handed over.
///
/// # Safety
/// `socket` must be a socket's storage.
#[inline(always)]
unsafe fn decide(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    socket: *mut SocketBook,
    key: u64,
    (shown, direction): (u64, Direction),
) -> u64 {
    // SAFETY: as above.
    let peer = unsafe { (*socket).peer };
    if direction == Direction::Receive && peer & PEER_SENT != 0 && peer >> 32 == key >> 32 {
        // The address ranges changed, and what this packet shows may be a NAT's address: the next one sent decides.
        return peer & PEER_SCOPE;
    }
    if key == UNREADABLE {
        return shown;
    }
    // SAFETY: as above.
    unsafe {
        let is_another = peer != 0 && peer >> 32 != key >> 32;
        if is_another && connected_to(sk).is_none() {
            return shown | STRANGER;
        }
        if peer == 0 || is_another || peer & PEER_SCOPE != shown {
            // Whoever asked first will be asked for soon, and with it whose port makes the flow.
            let is_open_question = (*socket).direction == UNDECIDED && (*socket).protocol == TCP;
            if peer != 0 && (is_another || !is_open_question) {
                sockets::turn_over(socket);
            }
            introduce(skb, sk, socket, direction);
        }
        let known = if (*socket).is_released == 0 { key } else { key & !PEER_KNOWN };
        (*socket).peer = known | shown;
    }
    shown
}

/// Notes the far end of this packet, or the one that its socket is connected to.
///
/// # Safety
/// `socket` must be the storage of `sk`, which is not null.
#[inline(never)]
unsafe fn introduce(skb: *mut __sk_buff, sk: *mut bpf_sock, socket: *mut SocketBook, direction: Direction) {
    // SAFETY: as above.
    unsafe {
        if (*socket).peer == 0 {
            let protocol = sockets::protocol(sk);
            (*socket).protocol = protocol;
            (*socket).direction = sockets::opener(sk, protocol, direction);
        }
        if let Some(connected) = connected_address(sk) {
            (*socket).remote = connected;
            ((*socket).local_port, (*socket).remote_port) = sockets::ports(sk);
        } else {
            let end = packet_end(skb, direction);
            ((*socket).remote, (*socket).local_port, (*socket).remote_port) =
                (end.address, end.local_port, end.remote_port);
            // A server whose question came before the agent.
            if direction == Direction::Transmit && end.local_port < EPHEMERAL && end.remote_port >= EPHEMERAL {
                (*socket).direction = INBOUND;
            }
        }
    }
}

/// The flow of a packet that is not for, or from, the far end that its socket remembers.
///
/// # Safety
/// `socket` must be a socket's storage, or null.
#[inline(always)]
unsafe fn stranger(
    skb: *mut __sk_buff,
    socket: *const SocketBook,
    place: Place,
    direction: Direction,
) -> Option<FlowKey> {
    if socket.is_null() {
        return None;
    }
    let PacketEnd { address, local_port, remote_port } = packet_end(skb, direction);
    // SAFETY: as above.
    let book = unsafe { &*socket };
    let slot = (place >> 8) as u32;
    Some(FlowKey {
        cgroup: if slot == UNATTRIBUTED_SLOT { 0 } else { book.cgroup },
        remote: address,
        port: book.port(local_port, remote_port),
        protocol: book.protocol,
        direction: if book.direction == OUTBOUND { OUTBOUND } else { INBOUND },
        scope: (place & PEER_SCOPE) as u8,
        padding: [0; 3],
    })
}

/// Ports from here on are the system's to give, as Linux has it where nothing else is said.
const EPHEMERAL: u16 = 32_768;

/// What a packet shows of its far end.
struct PacketEnd {
    address: AddressWords,
    local_port: u16,
    remote_port: u16,
}

#[inline(always)]
fn packet_end(skb: *mut __sk_buff, direction: Direction) -> PacketEnd {
    let is_v4 = load::<u8>(skb, 0).unwrap_or(0) >> 4 == 4;
    let [source, destination] = packet_ports(skb, protocol(skb, is_v4), is_v4);
    let (local_port, remote_port) =
        if direction == Direction::Transmit { (source, destination) } else { (destination, source) };
    PacketEnd { address: packet_address(skb, is_v4, direction), local_port, remote_port }
}

#[inline(always)]
fn place(slot: u32, scope: u64) -> Place {
    (u64::from(slot) << 8) | scope
}

#[inline(always)]
fn slot_or_count(cgroup: u64) -> Result<u32, NoSlot> {
    let slot = slots::of_cgroup(cgroup);
    match slot {
        Ok(_) => {}
        Err(NoSlot::NoneFree) => drops::count(Drop::PacketNoSlot),
        Err(NoSlot::TableRefused) => drops::count(Drop::PacketSlotTable),
    }
    slot
}

/// The scope of the packet's far end. A packet to the sender's own address stays on the node, whatever the address.
#[inline(always)]
fn scope_of(skb: *mut __sk_buff, direction: Direction) -> u64 {
    let Some((source, destination)) = addresses(skb) else {
        // SAFETY: the context of the program. A packet that is segmented is counted there.
        if unsafe { (*skb).gso_size } == 0 {
            drops::count(Drop::PacketUnreadable);
        }
        return Scope::Internet as u64;
    };
    if direction == Direction::Transmit {
        scope_between(source, destination)
    } else {
        scope_between(destination, source)
    }
}

/// The scope of a far end, as seen from an address of this end.
#[inline(always)]
pub(crate) fn scope_between(own: AddressWords, far: AddressWords) -> u64 {
    let known = SCOPE_PREFIXES.get(Key::new(128, address_of(far)));
    let scope = known.map_or(Scope::Internet as u64, |scope| u64::from(*scope));
    if own == far { scope.min(Scope::Node as u64) } else { scope.min(Scope::Internet as u64) }
}

/// Source and destination, IPv4 mapped into IPv6.
#[inline(always)]
fn addresses(skb: *mut __sk_buff) -> Option<(AddressWords, AddressWords)> {
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
fn protocol(skb: *mut __sk_buff, is_v4: bool) -> u8 {
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

/// Bytes and packets on the wire of a packet that the device, or the stack behind this hook, cuts into segments.
#[inline(never)]
fn segmented(skb: *mut __sk_buff) -> u64 {
    // SAFETY: the context of the program.
    let (bytes, gso_size, gso_segs) = unsafe { ((*skb).len, (*skb).gso_size, (*skb).gso_segs) };
    let Some((headers, removed)) = headers(skb) else {
        drops::count(Drop::PacketUnreadable);
        return pack(u64::from(bytes), 1);
    };
    let (bytes, packets) = wire::on_the_wire(bytes.saturating_sub(removed), headers, gso_size, gso_segs);
    pack(bytes, packets)
}

/// Bytes and packets of one `sk_buff` in a word: a function of its own has one register to return.
#[inline(always)]
fn pack(bytes: u64, packets: u64) -> u64 {
    (bytes << PACKETS_BITS) | packets
}

#[inline(always)]
fn unpack(word: u64) -> (u64, u64) {
    (word >> PACKETS_BITS, word & ((1 << PACKETS_BITS) - 1))
}

/// More than the segments that 2^20 bytes can be cut into.
const PACKETS_BITS: u32 = 24;

const UDP: u8 = 17;
const SCTP: u8 = 132;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
const JUMBO: u8 = 0xc2;

/// The bytes of headers that each segment repeats, and of those that segmentation takes away: IPv6 packets beyond
/// 64 KiB carry a jumbo option of 8 bytes only until they are cut.
#[inline(always)]
fn headers(skb: *mut __sk_buff) -> Option<(u32, u32)> {
    let version: u8 = load(skb, 0)?;
    if version >> 4 == 4 {
        let at = u32::from(version & 0xf) * 4;
        return Some((at + transport_header(skb, load(skb, 9)?, at)?, 0));
    }
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
    Some((at - removed + transport_header(skb, next, at)?, removed))
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
fn load<T: Copy>(skb: *mut __sk_buff, at: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all of `value` or fails; every `T` used here is plain bytes.
    unsafe {
        (bpf_skb_load_bytes(skb.cast(), at, value.as_mut_ptr().cast(), size_of::<T>() as u32) == 0)
            .then(|| value.assume_init())
    }
}
