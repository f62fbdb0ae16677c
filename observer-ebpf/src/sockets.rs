//! What a socket has carried, by far end: kept in its storage while it is open, and handed over to a table when it closes or turns to
//! another far end. A packet costs two adds.

use crate::{
    drops::{self, add},
    net::Direction,
    offsets::{SOCK_BACKLOG, TCP_BYTES_ACKED, TCP_ROUND_TRIP, TCP_TOTAL_RETRANS, peek},
    slots,
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST, bpf_sock},
    btf_maps::SkStorage,
    helpers::generated::bpf_sk_storage_get,
    macros::{btf_map, map},
    maps::{Array, HashMap},
    programs::SockContext,
};
use core::ptr::read_volatile;
use observer_ebpf::{
    Drop, Traffic,
    flows::{
        AddressWords, FlowKey, FlowSum, INBOUND, MAX_CLOSED_FLOWS, OUTBOUND, PEER_KNOWN, PEER_SCOPE, SocketBook, TCP,
        TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECEIVED, TCP_SYN_SENT, UNDECIDED, mix_ipv6,
    },
};

#[btf_map]
static SOCKETS: SkStorage<SocketBook> = SkStorage::new();

/// Two tables in turn: user space empties one while the other is added to.
#[map]
static FLOWS_EVEN: HashMap<FlowKey, FlowSum> = HashMap::with_max_entries(MAX_CLOSED_FLOWS, BPF_F_NO_PREALLOC);
#[map]
static FLOWS_ODD: HashMap<FlowKey, FlowSum> = HashMap::with_max_entries(MAX_CLOSED_FLOWS, BPF_F_NO_PREALLOC);
/// Grows when something was added to either.
#[map]
static FLOWS_BOOKED: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

const EEXIST: i32 = 17;

/// The socket's storage. aya's accessors are typed for other contexts; the helper takes `skb->sk`, or the context of a program of
/// sockets, and checks itself that it is a full socket.
#[inline(always)]
pub(crate) fn storage(sk: *mut bpf_sock, new: *mut SocketBook, flags: u64) -> *mut SocketBook {
    // SAFETY: `sk` is the context's socket and not null; `new` is null or initialised.
    unsafe { bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), sk.cast(), new.cast(), flags).cast() }
}

/// Adds a packet to the socket's own sums.
///
/// # Safety
/// `socket` must be a socket's storage.
#[inline(always)]
pub(crate) unsafe fn count(socket: *mut SocketBook, direction: Direction, bytes: u64, packets: u64) {
    // SAFETY: as above; two CPUs may have packets of one socket, so the adds are atomic.
    unsafe {
        let traffic = &raw mut (*socket).traffic;
        match direction {
            Direction::Transmit => {
                add(&raw mut (*traffic).transmit_bytes, bytes);
                add(&raw mut (*traffic).transmit_packets, packets);
            }
            Direction::Receive => {
                add(&raw mut (*traffic).receive_bytes, bytes);
                add(&raw mut (*traffic).receive_packets, packets);
            }
        }
    }
}

/// Who asked first, by the first packet of a socket.
#[inline(always)]
pub(crate) fn opener(sk: *mut bpf_sock, protocol: u8, direction: Direction) -> u8 {
    if protocol != TCP {
        return if direction == Direction::Transmit { OUTBOUND } else { INBOUND };
    }
    // SAFETY: the context's socket; the verifier rewrites this into a checked load.
    match unsafe { read_volatile(&raw const (*sk).state) } {
        TCP_SYN_SENT => OUTBOUND,
        // Closed is what the kernel has for answers to those that asked for nothing that there is.
        TCP_SYN_RECEIVED | TCP_LISTEN | TCP_CLOSE => INBOUND,
        _ => UNDECIDED,
    }
}

/// The socket's own port and that of the far end it is connected to.
#[inline(always)]
pub(crate) fn ports(sk: *mut bpf_sock) -> (u16, u16) {
    // SAFETY: the context's socket. The far end's port is read as the word it once was: kernels of either kind allow that.
    let (local, remote) =
        unsafe { (read_volatile(&raw const (*sk).src_port), read_volatile((&raw const (*sk).dst_port).cast::<u32>())) };
    (local as u16, (remote as u16).swap_bytes())
}

/// Nobody has the socket open any more.
#[inline(always)]
pub(crate) fn released(ctx: &SockContext) {
    let socket = storage(ctx.sock, core::ptr::null_mut(), 0);
    if socket.is_null() {
        return;
    }
    let sk = ctx.as_ptr() as u64;
    // SAFETY: the socket's storage, and the context.
    unsafe {
        (*socket).is_released = 1;
        // What is still on its way is handed over packet by packet.
        (*socket).peer &= !PEER_KNOWN;
        let is_listener = read_volatile(&raw const (*ctx.sock).state) == TCP_LISTEN;
        if (*socket).protocol != TCP || is_listener {
            hand_over(socket, Closing::default());
            return;
        }
        if (*socket).direction == UNDECIDED {
            (*socket).direction = opener_of(sk);
        }
        let came_to_be = (*socket).direction == INBOUND || peek::<u64>(sk, &TCP_BYTES_ACKED) != 0;
        hand_over(
            socket,
            Closing {
                closed: u32::from(came_to_be),
                failed: u32::from(!came_to_be),
                retransmits: peek(sk, &TCP_TOTAL_RETRANS),
                round_trip_us: peek::<u32>(sk, &TCP_ROUND_TRIP) >> 3,
            },
        );
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
    closed: u32,
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
    let traffic = unsafe { take(&raw mut (*socket).traffic) };
    let Closing { closed, failed, retransmits, round_trip_us } = closing;
    let carried = traffic.transmit_packets | traffic.receive_packets;
    if carried == 0 && closed | failed == 0 {
        return;
    }
    // SAFETY: as above.
    let mut key = unsafe { key_of(socket) };
    let sum = FlowSum {
        traffic,
        closed: closed.into(),
        failed: failed.into(),
        retransmits: retransmits.into(),
        round_trips_us: round_trip_us.into(),
        round_trips: (round_trip_us != 0).into(),
    };
    let flows = if slots::control().flow_epoch & 1 == 0 { &FLOWS_EVEN } else { &FLOWS_ODD };
    if !book(flows, &key, &sum) {
        drops::count(Drop::FlowTable);
        // Whose it is, is still known.
        key.remote = [0; 2];
        key.port = 0;
        let _ = book(flows, &key, &sum);
    }
    if let Some(booked) = FLOWS_BOOKED.get_ptr_mut(0) {
        add(booked, 1);
    }
}

/// Takes what there is. By adding what is missing to nothing, so that what another CPU adds meanwhile is not lost.
///
/// # Safety
/// `traffic` must be in a socket's storage.
#[inline(always)]
unsafe fn take(traffic: *mut Traffic) -> Traffic {
    // SAFETY: as above.
    unsafe {
        let taken = Traffic {
            transmit_bytes: read_volatile(&raw const (*traffic).transmit_bytes),
            transmit_packets: read_volatile(&raw const (*traffic).transmit_packets),
            receive_bytes: read_volatile(&raw const (*traffic).receive_bytes),
            receive_packets: read_volatile(&raw const (*traffic).receive_packets),
        };
        add(&raw mut (*traffic).transmit_bytes, taken.transmit_bytes.wrapping_neg());
        add(&raw mut (*traffic).transmit_packets, taken.transmit_packets.wrapping_neg());
        add(&raw mut (*traffic).receive_bytes, taken.receive_bytes.wrapping_neg());
        add(&raw mut (*traffic).receive_packets, taken.receive_packets.wrapping_neg());
        taken
    }
}

/// # Safety
/// `socket` must be a socket's storage.
#[inline(always)]
unsafe fn key_of(socket: *const SocketBook) -> FlowKey {
    // SAFETY: as above.
    let book = unsafe { &*socket };
    let direction = if book.direction == OUTBOUND { OUTBOUND } else { INBOUND };
    let mut key = FlowKey {
        cgroup: book.cgroup,
        remote: book.remote,
        port: if direction == OUTBOUND { book.remote_port } else { book.local_port },
        protocol: book.protocol,
        direction,
        scope: (book.peer & PEER_SCOPE) as u8,
        padding: [0; 3],
    };
    // Two CPUs may have turned to two far ends at once: rather nobody than a mix of both.
    if !is_key_to(book.peer, key.remote) {
        key.remote = [0; 2];
        key.port = 0;
    }
    key
}

/// Whether the address is the one that a stored word was made of.
#[inline(always)]
fn is_key_to(peer: u64, [high, low]: AddressWords) -> bool {
    let mixed = (peer >> 32) as u32;
    mixed == (low >> 32) as u32 || mixed == mix_ipv6(high, low)
}

/// False if there is no room.
#[inline(always)]
fn book(flows: &HashMap<FlowKey, FlowSum>, key: &FlowKey, sum: &FlowSum) -> bool {
    let mut entry = flows.get_ptr_mut(key);
    if entry.is_none() {
        match flows.insert(key, sum, u64::from(BPF_NOEXIST)) {
            Ok(()) => return true,
            // Another CPU was first.
            Err(error) if error == -EEXIST => entry = flows.get_ptr_mut(key),
            Err(_) => {}
        }
    }
    let Some(entry) = entry else { return false };
    // SAFETY: an entry of a table that nobody empties.
    unsafe { add_to(entry, sum) };
    true
}

/// # Safety
/// `entry` must be a map value.
#[inline(always)]
unsafe fn add_to(entry: *mut FlowSum, sum: *const FlowSum) {
    // SAFETY: as above; several CPUs may add.
    unsafe {
        add(&raw mut (*entry).traffic.transmit_bytes, (*sum).traffic.transmit_bytes);
        add(&raw mut (*entry).traffic.transmit_packets, (*sum).traffic.transmit_packets);
        add(&raw mut (*entry).traffic.receive_bytes, (*sum).traffic.receive_bytes);
        add(&raw mut (*entry).traffic.receive_packets, (*sum).traffic.receive_packets);
        add(&raw mut (*entry).closed, (*sum).closed);
        add(&raw mut (*entry).failed, (*sum).failed);
        add(&raw mut (*entry).retransmits, (*sum).retransmits);
        add(&raw mut (*entry).round_trips_us, (*sum).round_trips_us);
        add(&raw mut (*entry).round_trips, (*sum).round_trips);
    }
}
