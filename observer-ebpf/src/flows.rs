//! What both sides know of sockets and their far ends: what a socket remembers, and what is told of those that have closed.

use crate::{Address, SCOPES, Traffic, carried};
use core::mem::offset_of;

/// An [`Address`] in two words, its bytes as they lie in memory: the programs copy and compare these.
pub type AddressWords = [u64; 2];

/// The bytes of an address.
pub const fn address_of([high, low]: AddressWords) -> Address {
    let mut address = [0; 16];
    let (first, second) = address.split_at_mut(8);
    first.copy_from_slice(&high.to_ne_bytes());
    second.copy_from_slice(&low.to_ne_bytes());
    address
}

/// Flows that a table between two readings holds.
pub const MAX_CLOSED_FLOWS: u32 = 8192;
/// From here on new far ends are not told of unless they carry much: there is room for all, and then for the heavy ones.
pub const MANY_CLOSED_FLOWS: u64 = MAX_CLOSED_FLOWS as u64 / 4 * 3;
/// What is much, and what is more: each of these has room beyond that of the one before. What is left in the end is for telling whose the
/// traffic was that has no far end.
pub const HEAVY_FLOW_BYTES: [u64; 6] = [1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24];
/// How much room.
pub const HEAVY_FLOWS_OF_A_SIZE: u64 = MAX_CLOSED_FLOWS as u64 / 32;
/// Counters of what was carried by flows for which there was no room, each for all whose keys lead there. A power of two.
pub const UNNAMED_COUNTERS: u32 = 1 << 12;

/// The counter that a flow leads to: nobody who does not know the secret can lead many to one. The same family as [`mix_ipv6`].
pub const fn unnamed_counter(secret: &MixSecret, key: &FlowKey) -> u32 {
    let [_, a, b, c, d] = *secret;
    let address = mix_ipv6(secret, key.remote[0], key.remote[1]) as u64;
    let rest = c.wrapping_mul(key.port as u64).wrapping_add(d.wrapping_mul(key.cgroup & 0xffff_ffff));
    (a.wrapping_mul(address).wrapping_add(rest).wrapping_add(b) >> (u64::BITS - UNNAMED_COUNTERS.trailing_zeros()))
        as u32
}

/// What a socket's storage holds. What each packet reads lies in the first line of the processor's cache, behind the kernel's eight bytes, and
/// what each writes in lines of their own: so that a CPU that sends does not wait for what another one wrote that received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketBook {
    /// The cgroup the socket was created in.
    pub cgroup: u64,
    /// [`peer_key`] of the last far end with its scope in the low byte; written as one word, so never torn.
    pub peer: u64,
    /// The slot last used.
    pub slot: u32,
    /// The mix of the address at which packets to the far end are seen, where that is another one: a NAT of this node sends them there, or
    /// the socket speaks IPv6 to an IPv4 address. 0 for none.
    pub alias: u32,
    /// What is the case with it, and what has been told of it, in a word that several CPUs change at once: [`RELEASED`],
    /// [`CLAIM_OF_END`], [`CLAIM_OF_CONNECTION`], and in the low half the segments sent again that have been told of.
    pub marks: u64,
    /// The far end's address, to which `peer` is the key.
    pub remote: AddressWords,
    /// The far end's port; 0 where the protocol has none.
    pub remote_port: u16,
    /// The socket's own.
    pub local_port: u16,
    /// The port it was connected to when the far end was noted, in the network's order; 0 for none.
    pub connected_port: u16,
    /// The protocol's number.
    pub protocol: u8,
    /// Who opened it: [`UNDECIDED`], [`OUTBOUND`] or [`INBOUND`].
    pub direction: u8,
    /// What it has sent to this far end and has handed on to nobody yet, as [`carried`] has it.
    pub sent: u64,
    /// The [`Control::slot_generation`](crate::Control::slot_generation) at which slot 0 was the answer.
    pub slot_generation: u32,
    /// The last [`Control::look`](crate::Control::look) that was told of it.
    pub look: u32,
    /// Zeroes.
    pub rest: [u32; 12],
    /// What it has received from it, likewise as [`carried`] has it.
    pub received: u64,
}

/// How many may claim something of a socket at once.
pub const CLAIMS: u64 = 0x3fff;
/// In [`SocketBook::marks`], the first claim to tell of a TCP connection.
pub const CLAIM_OF_CONNECTION: u64 = 1 << 32;
/// The same for its end.
pub const CLAIM_OF_END: u64 = CLAIM_OF_CONNECTION * (CLAIMS + 1);
/// Nobody has the socket open any more, though packets may still come and go. The same bit as [`carried::MUCH`]: with either, what is carried
/// is handed over.
pub const RELEASED: u64 = carried::MUCH;
/// The connection is over, though the socket may be held, and may yet say so to the far end: with this, too, what is carried is handed over.
pub const OVER: u64 = RELEASED << 1;

/// A connection that was there before the programs, or one that was accepted: which of them has yet to be asked of the socket.
pub const UNDECIDED: u8 = 0;
/// This end asked first.
pub const OUTBOUND: u8 = 1;
/// The far end asked first.
pub const INBOUND: u8 = 2;

/// The key under which a socket remembers the scope of a far end: the address (IPv4: all of it; IPv6: a 32-bit mix) and
/// the generation of the address ranges. The low 16 bits are free for the scope and never zero in a stored word.
pub const fn peer_key(address: u32, generation: u16) -> u64 {
    ((address as u64) << 32) | ((generation as u64) << 16)
}

/// Marks a stored [`SocketBook::peer`] as set.
pub const PEER_KNOWN: u64 = 0x100;
/// Marks a stored [`SocketBook::peer`] whose scope was decided by a packet that was sent: such a packet shows the address
/// behind a NAT of this node, one that was received shows the one before.
pub const PEER_SENT: u64 = 0x200;
/// The bits of [`SocketBook::peer`] that hold the scope.
pub const PEER_SCOPE: u64 = 0xff;

/// The kernel has no table of connections, so that no address is translated by one.
pub const NO_CONNECTIONS: u64 = 1;
/// It can have one.
pub const TABLE_OF_CONNECTIONS: u64 = 2;

/// What IPv6 addresses are mixed with: drawn by each agent, known to nobody else.
pub type MixSecret = [u64; 5];

/// Mixes an IPv6 address (as two big halves) into the 32 bits of [`peer_key`]. Whoever does not know the secret can do nothing for two
/// addresses to be taken for each other, which happens to any two with a probability of 2^-32: the family is strongly universal,
/// Lemire and Kaser, "Strongly universal string hashing is fast", 2014 (multilinear-HM).
pub const fn mix_ipv6(secret: &MixSecret, high: u64, low: u64) -> u32 {
    let [first, a, b, c, d] = *secret;
    let one = a.wrapping_add(high & 0xffff_ffff).wrapping_mul(b.wrapping_add(high >> 32));
    let other = c.wrapping_add(low & 0xffff_ffff).wrapping_mul(d.wrapping_add(low >> 32));
    (first.wrapping_add(one).wrapping_add(other) >> 32) as u32
}

/// Which flow: key of the maps `FLOWS_EVEN` and `FLOWS_ODD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey {
    /// The cgroup of the socket.
    pub cgroup: u64,
    /// The far end; all zeroes if it is not known any more.
    pub remote: AddressWords,
    /// Of what asked first, the far end's port; of what was asked, its own: the other one is any.
    pub port: u16,
    /// The protocol's number.
    pub protocol: u8,
    /// [`OUTBOUND`] or [`INBOUND`].
    pub direction: u8,
    /// The [`Scope`](crate::Scope) its bytes were booked in.
    pub scope: u8,
    /// Zeroes.
    pub padding: [u8; 3],
}

/// What a flow carried by sockets that have closed, or turned to another far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowSum {
    /// L3 bytes and packets as on the wire.
    pub traffic: Traffic,
    /// TCP connections that came to be and were not told of before.
    pub connections: u64,
    /// TCP connections that never came to be.
    pub failed: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Microseconds of the connections' last smoothed round trips, together.
    pub round_trips_us: u64,
    /// How many connections had one.
    pub round_trips: u64,
}

/// How many flows of a slot a table holds that is added to: an entry of the map `FLOW_SHARES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowShare {
    /// The low half of the [`Control::flow_epoch`](crate::Control::flow_epoch) that it is of.
    pub epoch: u32,
    /// How many.
    pub flows: u32,
}

/// Counts of the map `FLOWS_BOOKED`.
pub const FLOW_COUNTS: u32 = 5;
/// Grows whenever something is added to either table.
pub const ADDED: u32 = 0;
/// Flows in `FLOWS_EVEN`; those in `FLOWS_ODD` are the next.
pub const IN_TABLES: u32 = 1;
/// Those of them in `FLOWS_EVEN` that are there since they are heavy; those in `FLOWS_ODD` are the next.
pub const HEAVY_IN_TABLES: u32 = 3;

/// As much of a [`SocketBook`] as a record of the iterator `observer_sockets` begins with: up to what it has sent. What it has received
/// follows, and a [`SocketState`].
pub const TOLD_OF_BOOK: usize = offset_of!(SocketBook, slot_generation);
/// The bytes of a record. The fewer they are, the fewer times the kernel has to find where it was among sockets that come and go.
pub const RECORD_BYTES: usize = TOLD_OF_BOOK + size_of::<u64>() + size_of::<SocketState>();

/// What is told of an open socket beside its [`SocketBook`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketState {
    /// TCP segments sent again and not told of before.
    pub retransmits: u32,
    /// Microseconds of TCP's smoothed round trip; 0 if there was none.
    pub round_trip_us: u32,
    /// TCP's state; see [`TCP_ESTABLISHED`].
    pub state: u32,
    /// 1 if it is a connection that was not told of before.
    pub is_new: u32,
}

/// Whether a TCP socket in that state is a connection.
pub const fn is_connection(state: u32) -> bool {
    !matches!(state, TCP_CLOSE | TCP_LISTEN | TCP_SYN_SENT | TCP_SYN_RECEIVED)
}

impl SocketBook {
    /// Whether nobody has it open any more.
    pub const fn is_released(&self) -> bool {
        self.marks & RELEASED != 0
    }

    /// What it has carried and has handed on to nobody yet.
    pub const fn traffic(&self) -> Traffic {
        carried::traffic(self.sent, self.received)
    }

    /// The flow that its far end makes.
    pub const fn flow(&self) -> FlowKey {
        let direction = if self.direction == OUTBOUND { OUTBOUND } else { INBOUND };
        FlowKey {
            cgroup: self.cgroup,
            remote: self.remote,
            port: self.port(self.local_port, self.remote_port),
            protocol: self.protocol,
            direction,
            scope: (self.peer & PEER_SCOPE) as u8,
            padding: [0; 3],
        }
    }

    /// Which port makes the flow, of those of this end and of the far one.
    pub const fn port(&self, local: u16, remote: u16) -> u16 {
        match (self.protocol, self.direction) {
            // Whoever is asked at every port would have a flow for each.
            (RAW, _) => 0,
            (_, OUTBOUND) => remote,
            _ => local,
        }
    }
}

/// IP's number of TCP.
pub const TCP: u8 = 6;
/// IP's number of no protocol at all: of raw sockets that make up TCP by themselves.
pub const RAW: u8 = 255;
/// TCP's states, as the kernel numbers them.
pub const TCP_ESTABLISHED: u32 = 1;
/// The connection was asked for and has not been answered.
pub const TCP_SYN_SENT: u32 = 2;
/// A connection was asked of this end.
pub const TCP_SYN_RECEIVED: u32 = 3;
/// It is over.
pub const TCP_CLOSE: u32 = 7;
/// It takes connections.
pub const TCP_LISTEN: u32 = 10;

const _: () = assert!(
    MANY_CLOSED_FLOWS + HEAVY_FLOW_BYTES.len() as u64 * HEAVY_FLOWS_OF_A_SIZE <= MAX_CLOSED_FLOWS as u64 / 16 * 15
);
/// Of the kernel's storage, the bytes before ours in the line of the processor's cache where it begins.
const KERNELS_BYTES: usize = 8;
const CACHE_LINE: usize = 64;
const _: () = assert!(offset_of!(SocketBook, sent) + KERNELS_BYTES == CACHE_LINE);
const _: () = assert!(offset_of!(SocketBook, received) + KERNELS_BYTES == 2 * CACHE_LINE);
const _: () = assert!(size_of::<SocketBook>() == 128 && size_of::<FlowKey>() == 32 && size_of::<FlowSum>() == 72);
const _: () = assert!(CLAIM_OF_END * (CLAIMS + 1) <= RELEASED);
const _: () = assert!(size_of::<SocketState>() == 16 && SCOPES <= PEER_SCOPE as usize);

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without a rhythm: `SplitMix64`.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// To a counter that needs no secret, ports can be chosen that make up for their addresses: here for one by addresses that are turned by 17
    /// bits and ports that are laid over them.
    #[test]
    fn flows_that_are_chosen_to_look_alike_lead_to_many_counters() {
        let mut state = 3;
        let secret: MixSecret = core::array::from_fn(|_| next(&mut state));
        let key = |number: u16| FlowKey {
            cgroup: 4711,
            remote: [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, 198, 18, (number >> 8) as u8, number as u8])],
            port: 0x5a5a ^ ((number >> 8) << 1) ^ (number << 9),
            ..FlowKey::default()
        };
        let mut counters = [0_u16; UNNAMED_COUNTERS as usize];
        for number in 0..u16::MAX {
            counters[unnamed_counter(&secret, &key(number)) as usize] += 1;
        }
        // Sixteen each in the mean.
        let most = counters.iter().max().copied();
        assert!(most.is_some_and(|most| most < 100), "{most:?} of {} in one", u16::MAX);
    }

    #[test]
    fn addresses_that_differ_little_or_look_alike_to_one_agent_are_told_apart_by_the_next() {
        let mut state = 1;
        let mut secret = || -> MixSecret { core::array::from_fn(|_| next(&mut state)) };
        // What one agent takes for the same is found by trying.
        let (first, base) = (secret(), [0x0002_fe80, 0x2000_0000_0000_0001]);
        let target = mix_ipv6(&first, base[0], base[1]);
        let alike =
            (1..1 << 24).map(|low| base[1] ^ low).find(|low| mix_ipv6(&first, base[0], *low) >> 16 == target >> 16);
        let mut others = [[0; 2]; 129];
        for (bit, other) in others.iter_mut().enumerate().take(128) {
            *other = base;
            other[bit / 64] ^= 1 << (bit % 64);
        }
        others[128] = [base[0], alike.unwrap()];
        for _ in 0..200 {
            let secret = secret();
            let mixed = |[high, low]: [u64; 2]| mix_ipv6(&secret, high, low);
            assert!(others.iter().all(|other| mixed(*other) != mixed(base)), "{secret:x?}");
            assert_ne!(mixed([base[1], base[0]]), mixed(base), "{secret:x?}");
        }
    }
}
