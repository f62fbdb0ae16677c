//! The bytes' books: each packet to the cgroup of its socket and to the scope of its far end.
//!
//! On the usual way one call out of the program: the socket's storage, which remembers slot and scope.

use crate::{
    books, drops,
    far_end::{connected_address, connected_to, far_end, goes_where_connected},
    packet::{Direction, PacketEnd, addresses, packet_end, segmented},
    questions,
    scopes::{scope_between, scope_of},
    slots::{self, NoSlot},
    sockets::{self, storage},
    told,
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::{bpf_get_smp_processor_id, generated::bpf_skb_cgroup_id},
    programs::SkBuffContext,
};
use observer_ebpf::{
    Drop, UNATTRIBUTED_SLOT, carried,
    flows::{FlowKey, INBOUND, OUTBOUND, PEER_KNOWN, PEER_SCOPE, PEER_SENT, SocketBook, TCP, UNDECIDED, peer_key},
};

impl Direction {
    /// What a scope that a packet of this direction decided is marked with.
    const fn mark(self) -> u64 {
        match self {
            Self::Transmit => PEER_SENT,
            Self::Receive => 0,
        }
    }
}

/// Books one packet. What is not usual is a function of its own: so the usual way lies in few lines of the processor's cache, most of which
/// a packet's way through the kernel has displaced since the last one.
#[inline(always)]
pub(crate) fn book(ctx: &SkBuffContext, direction: Direction) {
    let skb = ctx.skb.skb;
    // SAFETY: the context of the program; the verifier rewrites these into checked loads.
    let (bytes, gso_size, sk) = unsafe { ((*skb).len, (*skb).gso_size, (*skb).__bindgen_anon_2.sk) };
    let key = far_end(skb, sk, direction)
        .map_or(UNREADABLE, |mixed| known_key(mixed, slots::control().scope_generation, direction));
    let carried = if gso_size == 0 { carried::word(bytes.into(), 1) } else { segmented(skb) };
    let socket = if sk.is_null() { core::ptr::null_mut() } else { storage(sk, core::ptr::null_mut(), 0) };
    match known_place(sk, socket, key, direction) {
        // SAFETY: only a socket with storage has a known place.
        Some(place) => unsafe { add(socket, place, direction, carried) },
        None => book_unusual(skb, key, carried, direction as u32),
    }
}

/// Adds a packet to its socket, if that is not null, and to its place.
///
/// # Safety
/// `socket` must be a socket's storage, or null.
#[inline(always)]
unsafe fn add(socket: *mut SocketBook, place: Place, direction: Direction, carried: u64) {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let book = books::find((place >> 8) as u32, cpu, (place & PEER_SCOPE) as usize);
    // SAFETY: the socket's storage, and the map's value.
    unsafe {
        let protocol = if socket.is_null() { 0 } else { (*socket).protocol };
        // An atomic addition waits for whatever came before, and what follows waits for it: so they stand side by side.
        if !socket.is_null() {
            sockets::carry(socket, direction, carried);
        }
        if let Some(book) = book {
            books::count(book, direction, carried, books::is_alone(cpu, protocol));
        }
        if !socket.is_null() && sockets::is_to_tell(socket, direction) {
            sockets::turn_over(socket);
        }
    }
}

/// Books a packet whose place its socket does not remember.
#[inline(never)]
fn book_unusual(skb: *mut __sk_buff, key: u64, carried: u64, direction: u32) {
    let direction = Direction::of(direction);
    // SAFETY: the context of the program.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    let mut socket = if sk.is_null() { core::ptr::null_mut() } else { storage(sk, core::ptr::null_mut(), 0) };
    let place = settle(skb, sk, socket, key, direction);
    if !sk.is_null() {
        // There may be one now.
        socket = storage(sk, core::ptr::null_mut(), 0);
    }
    let is_strange = place & STRANGER != 0;
    // SAFETY: the socket's storage, or null.
    unsafe { add(if is_strange { core::ptr::null_mut() } else { socket }, place, direction, carried) }
    let mut asks = place & ASKS != 0;
    if is_strange {
        // SAFETY: only a socket with storage has strangers.
        if let Some((key, port)) = unsafe { stranger(skb, socket, place, direction) } {
            // SAFETY: as above.
            asks = questions::is_asked_at(port) && unsafe { (*socket).direction } == OUTBOUND;
            sockets::book_stranger(key, direction, carried);
        }
    }
    if asks && !socket.is_null() {
        // SAFETY: the socket's storage.
        questions::observer_dns_packet(skb, unsafe { owner(socket, place) }, direction as u32);
    }
}

/// The key of a far end whose address does not lie in place: remembered for nobody.
const UNREADABLE: u64 = 0;

/// Slot and scope of a packet in one word: `slot << 8 | scope`, and [`STRANGER`].
type Place = u64;

/// Marks the place of a packet of a socket without connection whose far end is not the socket's first: its traffic is not the book's.
const STRANGER: Place = 1 << 62;

/// Marks the place of a packet of a socket whose first far end is asked for names: none of its packets takes the usual way.
const ASKS: Place = 1 << 61;

/// The place as the socket remembers it, if all of it still holds.
#[inline(always)]
fn known_place(sk: *mut bpf_sock, socket: *mut SocketBook, key: u64, direction: Direction) -> Option<Place> {
    if sk.is_null() || socket.is_null() {
        return None;
    }
    // SAFETY: the socket's storage; each word is read once.
    let (cgroup, peer, slot) = unsafe { ((*socket).cgroup, (*socket).peer, (*socket).slot) };
    // A packet that is received is content with either decision.
    let compared = if direction == Direction::Transmit { !PEER_SCOPE } else { !(PEER_SCOPE | PEER_SENT) };
    // SAFETY: as above.
    let alias = || (peer & OF_KEY) | (u64::from(unsafe { (*socket).alias }) << 32);
    let is_peer = (peer & compared) == key || (direction == Direction::Transmit && alias() == key);
    // SAFETY: as above.
    let is_connected_as_before = sockets::connected_port(sk) == unsafe { (*socket).connected_port };
    let holds = key != UNREADABLE && is_peer && is_connected_as_before && slots::owner(slot) == cgroup;
    holds.then_some((u64::from(slot) << 8) | (peer & PEER_SCOPE))
}

/// The mix of no address.
const NOWHERE: u64 = u64::MAX;

/// What a key has besides the address.
const OF_KEY: u64 = 0xffff_ffff & !PEER_SCOPE;

/// The key of a far end as a socket remembers it when it knows the scope.
#[inline(always)]
const fn known_key(mixed: u32, generation: u32, direction: Direction) -> u64 {
    peer_key(mixed, generation as u16) | PEER_KNOWN | direction.mark()
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
        let asks =
            scope & STRANGER == 0 && questions::is_asked_at((*socket).remote_port) && asks(skb, sk, socket, direction);
        let scope = if asks { scope | ASKS } else { scope };
        let (cgroup, slot) = ((*socket).cgroup, (*socket).slot);
        if slots::owner(slot) == cgroup {
            return place(slot, scope);
        }
        if slot == UNATTRIBUTED_SLOT && (*socket).slot_generation == generation {
            drops::count(Drop::PacketNoSlot);
            return place(UNATTRIBUTED_SLOT, scope);
        }
        let slot = slot_or_count(cgroup);
        if slot.is_err() != ((*socket).slot == UNATTRIBUTED_SLOT) {
            // What was carried before is in other sums.
            sockets::turn_over(socket);
        }
        (*socket).slot = slot.unwrap_or(UNATTRIBUTED_SLOT);
        if slot != Err(NoSlot::TableRefused) {
            (*socket).slot_generation = generation;
        }
        place(slot.unwrap_or(UNATTRIBUTED_SLOT), scope)
    }
}

/// Whether a packet of a socket whose first far end is a server is to or from a server. What a server of something else gets from such a
/// port is not.
///
/// # Safety
/// `socket` must be the storage of `sk`, which is not null.
#[inline(always)]
unsafe fn asks(skb: *mut __sk_buff, sk: *mut bpf_sock, socket: *const SocketBook, direction: Direction) -> bool {
    if connected_to(sk).is_some() {
        return questions::is_asked_at(sockets::ports(sk).1);
    }
    // SAFETY: as above.
    unsafe { (*socket).direction == OUTBOUND && questions::is_asked_at(packet_end(skb, direction).remote_port) }
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
        protocol: sockets::protocol(sk),
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
    let (peer, protocol, port) = unsafe { ((*socket).peer, (*socket).protocol, (*socket).connected_port) };
    let is_at_another_port = peer != 0 && port != sockets::connected_port(sk);
    if direction == Direction::Receive && peer & PEER_SENT != 0 && peer >> 32 == key >> 32 && !is_at_another_port {
        // The address ranges changed, and what this packet shows may be a NAT's address: the next one sent decides.
        return peer & PEER_SCOPE;
    }
    if key == UNREADABLE {
        return shown;
    }
    // No option, since the compiler would read what is in none.
    let connected = connected_to(sk).map_or(NOWHERE, u64::from);
    let (mut key, mut alias) = (key, 0);
    if direction == Direction::Transmit && connected != NOWHERE && connected != key >> 32 {
        if protocol != TCP && !goes_where_connected(skb, sk) {
            // SAFETY: as above.
            unsafe { remember_connected(skb, sk, socket) }
            return shown | STRANGER;
        }
        alias = (key >> 32) as u32;
        key = (key & OF_KEY) | (connected << 32);
    }
    // SAFETY: as above.
    unsafe {
        let is_another = peer != 0 && peer >> 32 != key >> 32;
        if is_another && connected == NOWHERE {
            return shown | STRANGER;
        }
        let is_another = is_another || is_at_another_port;
        if peer == 0 || is_another || peer & PEER_SCOPE != shown {
            // Whoever asked first will be asked for soon, and with it whose port makes the flow.
            let is_open_question = (*socket).direction == UNDECIDED && (*socket).protocol == TCP;
            if peer != 0 && (is_another || !is_open_question) {
                sockets::turn_over(socket);
            }
            introduce(skb, sk, socket, direction);
        }
        let is_unusual = told::is_released(socket) || questions::is_asked_at((*socket).remote_port);
        let known = if is_unusual { key & !PEER_KNOWN } else { key };
        if direction == Direction::Transmit || is_another {
            (*socket).alias = alias;
        }
        (*socket).peer = known | shown;
    }
    shown
}

/// Notes the far end that a socket is connected to before anything went there.
///
/// # Safety
/// `socket` must be the storage of `sk`, which is not null.
#[inline(never)]
unsafe fn remember_connected(skb: *mut __sk_buff, sk: *mut bpf_sock, socket: *mut SocketBook) {
    // SAFETY: as above.
    if unsafe { (*socket).peer } != 0 {
        return;
    }
    let Some(connected) = connected_address(sk) else { return };
    let Some(mixed) = connected_to(sk) else { return };
    let Some((own, _)) = addresses(skb) else { return };
    // SAFETY: as above.
    unsafe {
        introduce(skb, sk, socket, Direction::Transmit);
        // The first packet that goes there decides again, as it does for what a NAT makes of it.
        (*socket).peer = peer_key(mixed, slots::control().scope_generation as u16) | scope_between(own, connected);
    }
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
            (*socket).direction = sockets::opener(skb, sk, (*socket).protocol, direction);
        }
        (*socket).connected_port = sockets::connected_port(sk);
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

/// The flow of a packet that is not for, or from, the far end that its socket remembers, and the far end's port.
///
/// # Safety
/// `socket` must be a socket's storage, or null.
#[inline(always)]
unsafe fn stranger(
    skb: *mut __sk_buff,
    socket: *const SocketBook,
    place: Place,
    direction: Direction,
) -> Option<(FlowKey, u16)> {
    if socket.is_null() {
        return None;
    }
    let PacketEnd { address, local_port, remote_port } = packet_end(skb, direction);
    // SAFETY: as above.
    let (book, cgroup) = unsafe { (&*socket, owner(socket, place)) };
    let key = FlowKey {
        cgroup,
        remote: address,
        port: book.port(local_port, remote_port),
        protocol: book.protocol,
        direction: if book.direction == OUTBOUND { OUTBOUND } else { INBOUND },
        scope: (place & PEER_SCOPE) as u8,
        padding: [0; 3],
    };
    Some((key, remote_port))
}

/// The cgroup that a packet at a place is booked on; 0 is nobody's.
///
/// # Safety
/// `socket` must be a socket's storage.
#[inline(always)]
unsafe fn owner(socket: *const SocketBook, place: Place) -> u64 {
    // SAFETY: as above.
    if (place >> 8) as u32 == UNATTRIBUTED_SLOT { 0 } else { unsafe { (*socket).cgroup } }
}

/// Ports from here on are the system's to give, as Linux has it where nothing else is said.
const EPHEMERAL: u16 = 32_768;

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
