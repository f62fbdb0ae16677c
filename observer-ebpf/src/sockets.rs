//! What a socket has carried, by far end: kept in its storage while it is open, and handed over to a table when it closes or turns to
//! another far end. A packet costs one add.

use crate::{
    drops::{self, add},
    offsets::{MIX_SECRET, SOCK_BACKLOG, TCP_BYTES_ACKED, TCP_ROUND_TRIP, TCP_TOTAL_RETRANS, peek, top_bit},
    packet::{self, Direction},
    slots,
    told::{claim_connection, claim_end, claim_retransmits, release, take},
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST, bpf_sock},
    btf_maps::SkStorage,
    helpers::generated::{bpf_sk_fullsock, bpf_sk_storage_get},
    macros::{btf_map, map},
    maps::{Array, HashMap},
    programs::SockContext,
};
use core::ptr::read_volatile;
use observer_ebpf::{
    DEFAULT_SLOTS, Drop, UNATTRIBUTED_SLOT,
    carried::{self, MUCH},
    flows::{
        self, ADDED, FLOW_COUNTS, FlowKey, FlowShare, FlowSum, HEAVY_FLOW_BYTES, HEAVY_FLOWS_OF_A_SIZE,
        HEAVY_IN_TABLES, IN_TABLES, INBOUND, MANY_CLOSED_FLOWS, MAX_CLOSED_FLOWS, OUTBOUND, OVER, PEER_KNOWN, RAW,
        RELEASED, SocketBook, TCP, TCP_LISTEN, TCP_SYN_RECEIVED, TCP_SYN_SENT, UNDECIDED, UNNAMED_COUNTERS,
    },
};

#[btf_map]
static SOCKETS: SkStorage<SocketBook> = SkStorage::new();

/// Two tables in turn: user space empties one while the other is added to.
#[map]
static FLOWS_EVEN: HashMap<FlowKey, FlowSum> = HashMap::with_max_entries(MAX_CLOSED_FLOWS, BPF_F_NO_PREALLOC);
#[map]
static FLOWS_ODD: HashMap<FlowKey, FlowSum> = HashMap::with_max_entries(MAX_CLOSED_FLOWS, BPF_F_NO_PREALLOC);
/// What is in them: see [`ADDED`], [`IN_TABLES`] and [`HEAVY_IN_TABLES`].
#[map]
static FLOWS_BOOKED: Array<u64> = Array::with_max_entries(FLOW_COUNTS, BPF_F_MMAPABLE);

/// How many flows each slot has in the table of this moment: see [`FlowShare`].
#[map]
static FLOW_SHARES: Array<FlowShare> = Array::with_max_entries(DEFAULT_SLOTS, 0);

/// What was carried in this epoch by flows for which there was no room: the epoch's low 24 bits, and 40 of bytes.
#[map]
static UNNAMED: Array<u64> = Array::with_max_entries(UNNAMED_COUNTERS, 0);

const EEXIST: i32 = 17;

/// The socket's storage. aya's accessors are typed for other contexts; the helper takes `skb->sk`, or the context of a program of
/// sockets, and checks itself that it is a full socket.
#[inline(always)]
pub(crate) fn storage(sk: *mut bpf_sock, new: *mut SocketBook, flags: u64) -> *mut SocketBook {
    // SAFETY: `sk` is the context's socket and not null; `new` is null or initialised.
    unsafe { bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), sk.cast(), new.cast(), flags).cast() }
}

/// Adds a packet, or its segments, to what a socket has carried.
///
/// # Safety
/// `socket` must be a socket's storage.
#[inline(always)]
pub(crate) unsafe fn carry(socket: *mut SocketBook, direction: Direction, word: u64) {
    // SAFETY: as above.
    add(unsafe { carried_in(socket, direction) }, word);
}

/// Whether what a socket has carried has to be handed over now, and not when it closes.
///
/// # Safety
/// As for [`carry`].
#[inline(always)]
pub(crate) unsafe fn is_to_tell(socket: *mut SocketBook, direction: Direction) -> bool {
    // SAFETY: as above.
    unsafe {
        let marks = read_volatile(&raw const (*socket).marks);
        (read_volatile(carried_in(socket, direction)) & MUCH) | (marks & (RELEASED | OVER)) != 0
    }
}

/// # Safety
/// As for [`carry`].
#[inline(always)]
unsafe fn carried_in(socket: *mut SocketBook, direction: Direction) -> *mut u64 {
    // SAFETY: as above.
    unsafe {
        match direction {
            Direction::Transmit => &raw mut (*socket).sent,
            Direction::Receive => &raw mut (*socket).received,
        }
    }
}

/// Of a full socket: the protocol that it speaks. One that makes up TCP by itself does not speak it.
#[inline(always)]
pub(crate) fn protocol(sk: *mut bpf_sock) -> u8 {
    const STREAM: u32 = 1;
    // SAFETY: the context's socket.
    let full = unsafe { bpf_sk_fullsock(sk) };
    if full.is_null() {
        return 0;
    }
    // SAFETY: not null; the verifier rewrites these into checked loads.
    let (kind, protocol) =
        unsafe { (read_volatile(&raw const (*full).type_), read_volatile(&raw const (*full).protocol)) };
    if protocol == TCP.into() && kind != STREAM { RAW } else { protocol as u8 }
}

/// Who asked first, by the first packet of a socket.
#[inline(always)]
pub(crate) fn opener(skb: *mut __sk_buff, sk: *mut bpf_sock, protocol: u8, direction: Direction) -> u8 {
    if protocol == RAW && packet::is_answer_of_tcp(skb) {
        // The kernel's, to those that asked for nothing that there is.
        return INBOUND;
    }
    if protocol != TCP {
        return if direction == Direction::Transmit { OUTBOUND } else { INBOUND };
    }
    // SAFETY: the context's socket; the verifier rewrites this into a checked load.
    match unsafe { read_volatile(&raw const (*sk).state) } {
        TCP_SYN_SENT => OUTBOUND,
        TCP_SYN_RECEIVED | TCP_LISTEN => INBOUND,
        _ => UNDECIDED,
    }
}

/// The socket's own port and that of the far end it is connected to.
#[inline(always)]
pub(crate) fn ports(sk: *mut bpf_sock) -> (u16, u16) {
    // SAFETY: the context's socket.
    let local = unsafe { read_volatile(&raw const (*sk).src_port) };
    (local as u16, connected_port(sk).swap_bytes())
}

/// The port a socket is connected to, in the network's order; 0 for none.
#[inline(always)]
pub(crate) fn connected_port(sk: *mut bpf_sock) -> u16 {
    // SAFETY: the context's socket. The port is read as the word it once was: kernels of either kind allow that.
    unsafe { read_volatile((&raw const (*sk).dst_port).cast::<u32>()) as u16 }
}

/// Nobody has the socket open any more.
#[inline(always)]
pub(crate) fn released(ctx: &SockContext) {
    let socket = storage(ctx.sock, core::ptr::null_mut(), 0);
    if socket.is_null() {
        return;
    }
    // SAFETY: the socket's storage, and the context.
    unsafe {
        release(socket);
        // What is still on its way is handed over packet by packet.
        (*socket).peer &= !PEER_KNOWN;
        let is_listener = read_volatile(&raw const (*ctx.sock).state) == TCP_LISTEN;
        if (*socket).protocol != TCP || is_listener {
            turn_over(socket);
        } else {
            end(socket, ctx.as_ptr() as u64);
        }
    }
}

/// Tells of a TCP connection that is over, and hands over what it has carried.
///
/// # Safety
/// `socket` must be the storage of the TCP socket at `sk`.
#[inline(always)]
pub(crate) unsafe fn end(socket: *mut SocketBook, sk: u64) {
    // SAFETY: as above.
    unsafe {
        if (*socket).direction == UNDECIDED {
            (*socket).direction = opener_of(sk);
        }
        if !claim_end(socket) {
            turn_over(socket);
            return;
        }
        let is_new = claim_connection(socket);
        let came_to_be = (*socket).direction == INBOUND || peek::<u64>(sk, &TCP_BYTES_ACKED) != 0;
        let closing = Closing {
            connections: u32::from(came_to_be && is_new),
            failed: u32::from(!came_to_be && is_new),
            retransmits: claim_retransmits(socket, peek(sk, &TCP_TOTAL_RETRANS)),
            round_trip_us: peek::<u32>(sk, &TCP_ROUND_TRIP) >> 3,
        };
        hand_over(socket, closing);
    }
}

/// Who asked first, of a TCP connection: one that was accepted has its listener's limit of those that wait to be.
#[inline(always)]
pub(crate) fn opener_of(sk: u64) -> u8 {
    if peek::<u32>(sk, &SOCK_BACKLOG) != 0 { INBOUND } else { OUTBOUND }
}

/// What ends with a connection.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Closing {
    connections: u32,
    failed: u32,
    retransmits: u32,
    round_trip_us: u32,
}

/// Hands over what a socket has carried, and nothing else of it.
///
/// # Safety
/// `socket` must be a socket's storage.
#[inline(never)]
pub(crate) unsafe fn turn_over(socket: *mut SocketBook) {
    // SAFETY: as above.
    unsafe { hand_over(socket, Closing::default()) }
}

/// # Safety
/// `socket` must be a socket's storage.
#[inline(always)]
unsafe fn hand_over(socket: *mut SocketBook, closing: Closing) {
    // SAFETY: as above.
    let (sent, received) = unsafe { (take(&raw mut (*socket).sent), take(&raw mut (*socket).received)) };
    let Closing { connections, failed, retransmits, round_trip_us } = closing;
    let carried = sent | received;
    if carried == 0 && connections | failed | retransmits == 0 {
        return;
    }
    // SAFETY: as above.
    let mut key = unsafe { (*socket).flow() };
    // SAFETY: as above.
    if carried != 0 && unsafe { (*socket).slot } == UNATTRIBUTED_SLOT {
        key.cgroup = 0;
    }
    let sum = FlowSum {
        traffic: carried::traffic(sent, received),
        connections: connections.into(),
        failed: failed.into(),
        retransmits: retransmits.into(),
        round_trips_us: round_trip_us.into(),
        round_trips: (round_trip_us != 0).into(),
    };
    book(&mut key, &sum);
}

/// Books a packet of a socket without connection that is for, or from, another far end than its first.
#[inline(never)]
pub(crate) fn book_stranger(mut key: FlowKey, direction: Direction, word: u64) {
    let traffic = match direction {
        Direction::Transmit => carried::traffic(word, 0),
        Direction::Receive => carried::traffic(0, word),
    };
    let sum = FlowSum { traffic, ..FlowSum::default() };
    book(&mut key, &sum);
}

/// Adds to the table of this moment: to the flow, or if there is no room for it to all of its entity that has none.
#[inline(always)]
fn book(key: &mut FlowKey, sum: &FlowSum) {
    let epoch = slots::control().flow_epoch;
    let flows = if epoch & 1 == 0 { &FLOWS_EVEN } else { &FLOWS_ODD };
    let Some(entries) = FLOWS_BOOKED.get_ptr_mut(IN_TABLES + (epoch & 1) as u32) else { return };
    let is_there = match flows.get_ptr_mut(&*key) {
        Some(entry) => {
            // SAFETY: an entry of a table that is not emptied before it was turned away from for a second.
            unsafe { add_to(entry, sum) };
            true
        }
        None => has_room(entries, key, epoch, sum) && add_or_insert(flows, key, sum, entries),
    };
    if !is_there {
        drops::count(Drop::FlowTable);
        // Whose it is, is still known.
        key.remote = [0; 2];
        key.port = 0;
        if !add_or_insert(flows, key, sum, entries) {
            drops::count(Drop::FlowLost);
        }
    }
    if let Some(added) = FLOWS_BOOKED.get_ptr_mut(ADDED) {
        add(added, 1);
    }
}

/// Whether a table has room for one more flow, which then has it.
#[inline(always)]
fn has_room(entries: *const u64, key: &FlowKey, epoch: u64, sum: &FlowSum) -> bool {
    let Some(heavy) = FLOWS_BOOKED.get_ptr_mut(HEAVY_IN_TABLES + (epoch & 1) as u32) else { return false };
    // SAFETY: maps' values.
    let usual = unsafe { read_volatile(entries).wrapping_sub(read_volatile(heavy)) };
    has_share(MANY_CLOSED_FLOWS.saturating_sub(usual), key.cgroup, epoch as u32)
        || is_heavy(heavy, unnamed(key, epoch, sum))
}

/// What a flow without room has carried in this epoch, and others with it that share its counter.
#[inline(always)]
fn unnamed(key: &FlowKey, epoch: u64, sum: &FlowSum) -> u64 {
    const BYTES_BITS: u32 = 40;
    let bytes = sum.traffic.transmit_bytes.wrapping_add(sum.traffic.receive_bytes);
    let place = flows::unnamed_counter(&MIX_SECRET.load(), key);
    let Some(counter) = UNNAMED.get_ptr_mut(place) else { return bytes };
    // SAFETY: a map's value. Where two CPUs begin an epoch at once, one of them is counted less.
    unsafe {
        let before = read_volatile(counter);
        if before >> BYTES_BITS != epoch & (u64::MAX >> BYTES_BITS) {
            *counter = (epoch << BYTES_BITS) + bytes;
            return bytes;
        }
        add(counter, bytes);
        (before & ((1 << BYTES_BITS) - 1)) + bytes
    }
}

/// Each may have at most three times what is left: however many one turns to, others with few of them find room.
#[inline(always)]
fn has_share(left: u64, cgroup: u64, epoch: u32) -> bool {
    let Some(share) = FLOW_SHARES.get_ptr_mut(slots::known(cgroup)) else { return left > 0 };
    // SAFETY: a map's value. Where two CPUs begin an epoch at once, one of them is counted less.
    unsafe {
        if read_volatile(&raw const (*share).epoch) != epoch {
            (*share).flows = 0;
            (*share).epoch = epoch;
        }
        let has_it = u64::from(read_volatile(&raw const (*share).flows)) < left * 3;
        if has_it {
            (*share).flows += 1;
        }
        has_it
    }
}

/// Whether a flow carries so much that there is room for it where there is none for others.
#[inline(always)]
fn is_heavy(heavy: *mut u64, bytes: u64) -> bool {
    // Without branches, see `top_bit`.
    let sizes: u64 = HEAVY_FLOW_BYTES.iter().map(|size| 1 - top_bit(bytes.wrapping_sub(*size))).sum();
    // SAFETY: a map's value.
    let is_room = unsafe { read_volatile(heavy) } < sizes * HEAVY_FLOWS_OF_A_SIZE;
    if is_room {
        add(heavy, 1);
    }
    is_room
}

/// False if there is no room.
#[inline(always)]
fn add_or_insert(flows: &HashMap<FlowKey, FlowSum>, key: &FlowKey, sum: &FlowSum, entries: *mut u64) -> bool {
    let mut entry = flows.get_ptr_mut(key);
    if entry.is_none() {
        match flows.insert(key, sum, u64::from(BPF_NOEXIST)) {
            Ok(()) => {
                add(entries, 1);
                return true;
            }
            // Another CPU was first.
            Err(error) if error == -EEXIST => entry = flows.get_ptr_mut(key),
            Err(_) => {}
        }
    }
    let Some(entry) = entry else { return false };
    // SAFETY: an entry of a table that is not emptied before it was turned away from for a second.
    unsafe { add_to(entry, sum) };
    true
}

/// # Safety
/// `entry` must be a map value.
#[inline(always)]
unsafe fn add_to(entry: *mut FlowSum, sum: *const FlowSum) {
    // Where the compiler sees that it adds zero, it makes another instruction of it, which kernels before 5.12 do not have.
    let sum = core::hint::black_box(sum);
    // SAFETY: as above; several CPUs may add.
    unsafe {
        add(&raw mut (*entry).traffic.transmit_bytes, (*sum).traffic.transmit_bytes);
        add(&raw mut (*entry).traffic.transmit_packets, (*sum).traffic.transmit_packets);
        add(&raw mut (*entry).traffic.receive_bytes, (*sum).traffic.receive_bytes);
        add(&raw mut (*entry).traffic.receive_packets, (*sum).traffic.receive_packets);
        add(&raw mut (*entry).connections, (*sum).connections);
        add(&raw mut (*entry).failed, (*sum).failed);
        add(&raw mut (*entry).retransmits, (*sum).retransmits);
        add(&raw mut (*entry).round_trips_us, (*sum).round_trips_us);
        add(&raw mut (*entry).round_trips, (*sum).round_trips);
    }
}
