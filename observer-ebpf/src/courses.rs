//! DNS over TCP: where in a connection each message begins. Its segments may hold a part of a message or several, come twice, or in
//! another order.

use crate::{
    drops,
    packet::{self, Direction},
    questions,
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE},
    btf_maps::SkStorage,
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use observer_ebpf::{
    Drop,
    dns::{ALIEN, Course, FOLLOWED, HEAD_BYTES, HEADER_BYTES, LOST, Stream, is_answer},
};

/// Of sockets that are connected to a server.
#[btf_map]
static DNS_STREAMS: SkStorage<Stream> = SkStorage::new();

/// Messages of one packet that are counted, and bytes of heads that come in pieces.
const MOST_STEPS: usize = 16;
const SYN: u8 = 2;
const LENGTH_BYTES: u32 = 2;

/// Counts the messages that begin in a segment. `at` is where TCP's header begins.
#[inline(always)]
pub(crate) fn follow(skb: *mut __sk_buff, cgroup: u64, direction: u32, at: u32) {
    let Some([_, sequence]) = packet::load::<[u32; 2]>(skb, at) else { return };
    let Some([offset, flags]) = packet::load::<[u8; 2]>(skb, at + 12) else { return };
    let (sequence, is_first) = (u32::from_be(sequence), flags & SYN != 0);
    let data = at + u32::from(offset >> 4) * 4;
    let course = course(skb, Direction::of(direction), BPF_SK_STORAGE_GET_F_CREATE);
    if course.is_null() {
        drops::count(Drop::DnsStream);
        return;
    }
    let first = if is_first { sequence.wrapping_add(1) } else { sequence };
    if is_first {
        // SAFETY: a socket's storage. TCP handles the segments of a connection one at a time.
        unsafe { *course = Course { next: first, state: FOLLOWED, ..Course::default() } };
    }
    for _ in 0..MOST_STEPS {
        if observer_dns_step(skb, cgroup, direction, first, data) == DONE {
            return;
        }
    }
    // SAFETY: as above.
    unsafe { (*course).state = LOST };
    drops::count(Drop::DnsStream);
}

/// Answers of [`observer_dns_step`].
const DONE: u64 = 0;
const MORE: u64 = 1;

/// Goes on by a message, or by one byte of a head that comes in pieces; [`DONE`] when there is nothing more to be had from this segment.
/// Its first byte has the sequence number `first`, and lies at `data` in the packet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn observer_dns_step(skb: *mut __sk_buff, cgroup: u64, direction: u32, first: u32, data: u32) -> u64 {
    let course = course(skb, Direction::of(direction), 0);
    if course.is_null() {
        return DONE;
    }
    // SAFETY: a socket's storage, and the context of the program.
    let (course, bytes) = unsafe { (&mut *course, (*skb).len.saturating_sub(data)) };
    if bytes == 0 || course.state == ALIEN {
        return DONE;
    }
    if course.state == LOST {
        // One that fills its segment and is of the kind that it should be.
        let Some([length, _, flags]) = packet::load::<[u16; 3]>(skb, data) else { return DONE };
        let is_whole = u32::from(u16::from_be(length)) + LENGTH_BYTES == bytes;
        if !is_whole || is_answer(u16::from_be(flags)) != (Direction::of(direction) == Direction::Receive) {
            return DONE;
        }
        *course = Course { next: first, state: FOLLOWED, ..Course::default() };
    }
    let ahead = course.next.wrapping_add(course.have.into()).wrapping_sub(first);
    if ahead.cast_signed() < 0 {
        // What is before this segment is missing, and may come later: without it nobody knows where the next one begins.
        course.state = LOST;
        drops::count(Drop::DnsStream);
        return MORE;
    }
    if ahead >= bytes {
        return DONE;
    }
    let at = data + ahead;
    let is_in_one = course.have == 0 && bytes - ahead >= HEAD_BYTES.into();
    let (head, begins) = if is_in_one {
        let Some([length, id, flags]) = packet::load::<[u16; 3]>(skb, at) else { return DONE };
        let word = |value: u16| u64::from(u16::from_be(value));
        ((word(length) << 32) | (word(id) << 16) | word(flags), at + LENGTH_BYTES)
    } else {
        let Some(byte) = packet::load::<u8>(skb, at) else { return DONE };
        course.head = (course.head << 8) | u64::from(byte);
        course.have += 1;
        if course.have < HEAD_BYTES {
            return MORE;
        }
        (course.head, 0)
    };
    let length = (head >> 32) as u16;
    if length < HEADER_BYTES {
        course.state = ALIEN;
        drops::count(Drop::DnsStream);
        return DONE;
    }
    *course = Course {
        next: course.next.wrapping_add(LENGTH_BYTES).wrapping_add(length.into()),
        state: FOLLOWED,
        ..Course::default()
    };
    questions::observer_dns_message(skb, cgroup, head as u32, direction, begins);
    MORE
}

/// Of a packet's connection, what is remembered of one direction; null if there is nothing, or no memory for it.
#[inline(always)]
fn course(skb: *mut __sk_buff, direction: Direction, flags: u32) -> *mut Course {
    // SAFETY: the context of the program; the verifier rewrites this into a checked load.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return core::ptr::null_mut();
    }
    let mut new = Stream::default();
    let new = if flags == 0 { core::ptr::null_mut() } else { &raw mut new };
    // SAFETY: the context's socket, which is not null.
    let stream: *mut Stream = unsafe {
        bpf_sk_storage_get((&raw const DNS_STREAMS).cast_mut().cast(), sk.cast(), new.cast(), flags.into()).cast()
    };
    if stream.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: not null.
    unsafe { if direction == Direction::Transmit { &raw mut (*stream).sent } else { &raw mut (*stream).received } }
}
