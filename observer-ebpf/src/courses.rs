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
    dns::{Course, HEAD_BYTES, LENGTH_BYTES, Stream, is_answer},
};

/// Of sockets that are connected to a server.
#[btf_map]
static DNS_STREAMS: SkStorage<Stream> = SkStorage::new();

/// Messages of one packet that are counted, and bytes of heads that come in pieces.
const MOST_STEPS: usize = 512;
const SYN: u8 = 2;

/// Counts the messages that begin in a segment. `at` is where TCP's header begins.
#[inline(always)]
pub(crate) fn follow(skb: *mut __sk_buff, cgroup: u64, direction: u32, at: u32) {
    let Some([_, sequence]) = packet::load::<[u32; 2]>(skb, at) else { return };
    let Some([offset, flags]) = packet::load::<[u8; 2]>(skb, at + 12) else { return };
    let (sequence, is_first) = (u32::from_be(sequence), flags & SYN != 0);
    let data = at + u32::from(offset >> 4) * 4;
    let direction_is = Direction::of(direction);
    let stream = stream(skb, BPF_SK_STORAGE_GET_F_CREATE);
    if stream.is_null() {
        drops::count(Drop::DnsStream);
        return;
    }
    let first = if is_first { sequence.wrapping_add(1) } else { sequence };
    // SAFETY: a socket's storage. Segments that are received may be looked at by two CPUs at once: at the worst the messages cannot be told
    // apart for a while.
    unsafe {
        if is_first && direction_is == Direction::Transmit {
            (*stream).begins(first);
        } else if is_first {
            (*stream).received.begins(first);
        }
    }
    for _ in 0..MOST_STEPS {
        if observer_dns_step(skb, cgroup, direction, first, data) == DONE {
            return;
        }
    }
    // SAFETY: as above, and the context of the program.
    unsafe {
        let course = course(stream, direction_is);
        let bytes = (*skb).len.saturating_sub(data);
        if (*course).is_in(first, bytes) {
            (*course).lose();
            drops::count(Drop::DnsStream);
        }
    }
}

/// Answers of [`observer_dns_step`].
const DONE: u64 = 0;
const MORE: u64 = 1;

/// Goes on by a message, or by one byte of a head that comes in pieces; [`DONE`] when there is nothing more to be had from this segment.
/// Its first byte has the sequence number `first`, and lies at `data` in the packet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn observer_dns_step(skb: *mut __sk_buff, cgroup: u64, direction: u32, first: u32, data: u32) -> u64 {
    let stream = stream(skb, 0);
    if stream.is_null() {
        return DONE;
    }
    // SAFETY: a socket's storage, and the context of the program.
    let (course, bytes) = unsafe { (&mut *course(stream, Direction::of(direction)), (*skb).len.saturating_sub(data)) };
    if bytes == 0 {
        return DONE;
    }
    if !course.is_followed() {
        // One that fills its segment and is of the kind that it should be.
        let words = packet::load::<[u16; 3]>(skb, data);
        let is_whole = words.is_some_and(|[length, _, flags]| {
            u32::from(u16::from_be(length)) + LENGTH_BYTES == bytes
                && is_answer(u16::from_be(flags)) == (Direction::of(direction) == Direction::Receive)
        });
        if !is_whole {
            drops::count(Drop::DnsStream);
            return DONE;
        }
        *course = Course::from(first);
    }
    if course.has_gap_before(first) {
        // What is missing may come later: without it nobody knows where the next message begins.
        course.lose();
        drops::count(Drop::DnsStream);
        return MORE;
    }
    if !course.is_in(first, bytes) {
        return DONE;
    }
    let at = data + course.ahead(first);
    let is_in_one = course.have == 0 && bytes - course.ahead(first) >= HEAD_BYTES.into();
    let head = if is_in_one {
        let Some([length, id, flags]) = packet::load::<[u16; 3]>(skb, at) else { return DONE };
        let word = |value: u16| u64::from(u16::from_be(value));
        (word(length) << 32) | (word(id) << 16) | word(flags)
    } else {
        let Some(byte) = packet::load::<u8>(skb, at) else { return DONE };
        if !course.take(byte) {
            return MORE;
        }
        course.head
    };
    let begins = course.message_in(first);
    if !course.passes(head) {
        return MORE;
    }
    questions::observer_dns_message(skb, cgroup, head as u32, direction, begins.map_or(0, |ahead| data + ahead));
    MORE
}

/// What is remembered of a packet's connection; null if there is nothing, or no memory for it.
#[inline(always)]
fn stream(skb: *mut __sk_buff, flags: u32) -> *mut Stream {
    // SAFETY: the context of the program; the verifier rewrites this into a checked load.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return core::ptr::null_mut();
    }
    let mut new = Stream::default();
    let new = if flags == 0 { core::ptr::null_mut() } else { &raw mut new };
    // SAFETY: the context's socket, which is not null.
    unsafe {
        bpf_sk_storage_get((&raw const DNS_STREAMS).cast_mut().cast(), sk.cast(), new.cast(), flags.into()).cast()
    }
}

/// # Safety
/// `stream` must be in a socket's storage.
#[inline(always)]
unsafe fn course(stream: *mut Stream, direction: Direction) -> *mut Course {
    // SAFETY: as above.
    unsafe { if direction == Direction::Transmit { &raw mut (*stream).sent } else { &raw mut (*stream).received } }
}
