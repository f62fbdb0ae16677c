//! What both sides know of DNS: what is counted of the messages of a cgroup that asks, and which questions are open.

use crate::{flows::FLOW_COUNTS, histogram};

/// The port at which servers are asked.
pub const PORT: u16 = 53;
/// Questions without an answer that are remembered.
pub const MAX_QUESTIONS: u32 = 4096;
/// Cgroups that ask between two readings of the tables.
pub const MAX_ASKING: u32 = 512;
/// How long a question is open at most: longer than stub resolvers wait.
pub const PATIENCE_NS: u64 = 10_000_000_000;
/// What follows a message's length and comes before its sections: the least that a message has.
pub const HEADER_BYTES: u16 = 12;
/// Kinds of answers: the response codes 0 to 5, and the rest.
pub const RCODES: usize = 7;
/// Every second bound of the [`histogram`], so steps of four from 65.536 us to 4.295 s, and one above all.
pub const BUCKETS: usize = histogram::EXPORTED + 1 - FIRST_BOUND;
/// The first of the exported bounds of the histogram that there is a bucket for.
pub const FIRST_BOUND: usize = 3;
/// Bytes of an answer that are told of: as many as fit a message over UDP without extensions.
pub const ANSWER_BYTES: usize = 512;
/// Bytes of an answer that takes less room: more than most have.
pub const SHORT_ANSWER_BYTES: usize = 128;
/// Bytes of the ring buffer of answers.
pub const ANSWER_RING_BYTES: u32 = 64 * 1024;

/// What a cgroup asked and was answered: value of the maps `DNS_EVEN` and `DNS_ODD`, keyed by its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DnsBook {
    /// Messages sent that ask.
    pub queries: u64,
    /// Messages received that answer a question that is open, by [`rcode_place`].
    pub responses: [u64; RCODES],
    /// Messages received that answer no question that is open.
    pub unasked: u64,
    /// Questions that nobody answered within [`PATIENCE_NS`]; the programs do not count these.
    pub unanswered: u64,
    /// Nanoseconds from question to answer, together.
    pub waited_ns: u64,
    /// How many answers came after how long, by [`bucket`].
    pub waits: [u64; BUCKETS],
}

impl DnsBook {
    /// Adds other sums to these.
    pub fn add(&mut self, more: &Self) {
        let Self { queries, responses, unasked, unanswered, waited_ns, waits } = more;
        self.queries += queries;
        self.unasked += unasked;
        self.unanswered += unanswered;
        self.waited_ns += waited_ns;
        for (sum, more) in self.responses.iter_mut().zip(responses).chain(self.waits.iter_mut().zip(waits)) {
            *sum += more;
        }
    }
}

/// A question that is open: key of the map `DNS_QUESTIONS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Question {
    /// The socket's cookie.
    pub socket: u64,
    /// The message's id.
    pub id: u64,
}

/// Who asked, and when: value of the map `DNS_QUESTIONS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Asked {
    /// The cgroup of the socket; 0 is nobody's.
    pub cgroup: u64,
    /// `CLOCK_MONOTONIC` then, in nanoseconds.
    pub at_ns: u64,
    /// What stands for its name, type and class, see [`Spelt`]; 0 if that is not known.
    pub mixed: u64,
    /// [`Servers`]: which were asked.
    pub servers: u64,
}

/// Which servers a socket asked the same, as resolvers do that ask all they know at once: 16 bits for each of four, in one word. Of more
/// than four, whoever answers is taken for one of them.
#[derive(Clone, Copy, Debug)]
pub struct Servers;

impl Servers {
    /// In the place of a server: any.
    pub const ANY: u16 = 0;
    /// In the place of all: any.
    const ALL: u64 = u64::MAX;

    /// What stands for a server, by the mix of its address.
    pub const fn one(mixed: u32) -> u16 {
        let folded = (mixed ^ (mixed >> 16)) as u16;
        if folded == Self::ANY { 1 } else { folded }
    }

    /// With one more.
    pub const fn and(servers: u64, server: u16) -> u64 {
        if Self::has(servers, server) && server != Self::ANY {
            return servers;
        }
        let is_full = servers >> 48 != 0;
        if server == Self::ANY || is_full { Self::ALL } else { (servers << 16) | server as u64 }
    }

    /// Whether a server is among them, as far as anybody knows.
    pub const fn has(servers: u64, server: u16) -> bool {
        let mut left = servers;
        while left != 0 {
            if left as u16 == server {
                return true;
            }
            left >>= 16;
        }
        server == Self::ANY || servers == Self::ALL
    }
}

/// Mixes one thing more into what stands for a question: FNV-1a, by Fowler, Noll and Vo.
pub const fn mix(mixed: u64, more: u64) -> u64 {
    (mixed ^ more).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Bytes that a name has at most.
pub const NAME_BYTES: u32 = 255;

/// What stands for a name as far as it is read, in one word, with what is left of a label in the low byte. Letters of either case are one, as
/// they are to DNS.
#[derive(Clone, Copy, Debug)]
pub struct Spelt;

impl Spelt {
    /// In the place of what is left: the name is at its end.
    pub const ALL: u8 = 0xfe;
    /// In its place as well: it is no name.
    pub const NO_NAME: u8 = 0xff;
    /// Bytes of a label at most: what says more is no length of one.
    const LABEL_BYTES: u8 = 63;

    /// Nothing is read yet. Whoever does not know the secret does not know of two names that are taken for each other.
    pub const fn nothing(secret: u64) -> u64 {
        secret << 8
    }

    /// What is left of a label.
    pub const fn left(spelt: u64) -> u8 {
        spelt as u8
    }

    /// One byte more.
    pub const fn and(spelt: u64, byte: u8) -> u64 {
        let (mixed, left) = (spelt >> 8, Self::left(spelt));
        if left == 0 && byte == 0 {
            return (mixed << 8) | Self::ALL as u64;
        }
        if left == 0 && byte > Self::LABEL_BYTES {
            return Self::NO_NAME as u64;
        }
        let (letter, left) = if left == 0 { (byte, byte) } else { (byte.to_ascii_lowercase(), left - 1) };
        (mix(mixed, letter as u64) << 8) | left as u64
    }
}

/// A message that answers, as far as it is told: record of the ring buffer `DNS_ANSWERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Answer<const MOST: usize> {
    /// The cgroup of the socket; 0 is nobody's.
    pub cgroup: u64,
    /// How many of its bytes there are, from its header on; what follows a message in its packet is among them.
    pub bytes: u64,
    /// These.
    pub message: [u8; MOST],
}

/// One direction of a TCP connection to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Course {
    /// The sequence number at which the next message begins, with its length.
    pub next: u32,
    /// How many bytes of it are in `head`.
    pub have: u16,
    /// [`UNSEEN`], [`LOST`] or [`FOLLOWED`].
    pub state: u16,
    /// Its first bytes, the last in the lowest: length, id and flags.
    pub head: u64,
}

/// Nothing was seen of it.
pub const UNSEEN: u16 = 0;
/// Where the next message begins is not known.
pub const LOST: u16 = 1;
/// It is.
pub const FOLLOWED: u16 = 2;
/// Bytes of a message that tell of it: its length, its id and its flags.
pub const HEAD_BYTES: u16 = 6;
/// Bytes of a message's length, which it begins with over TCP.
pub const LENGTH_BYTES: u32 = 2;

impl Course {
    /// One whose next message begins there.
    pub const fn from(next: u32) -> Self {
        Self { next, have: 0, state: FOLLOWED, head: 0 }
    }

    /// The far end tells where it begins. It does so before anything else: whoever says so later is not to be believed.
    pub const fn begins(&mut self, first: u32) {
        if self.state == UNSEEN {
            *self = Self::from(first);
        }
    }

    /// From now on nobody knows where the next message begins.
    pub const fn lose(&mut self) {
        self.state = LOST;
    }

    /// Whether it is known where the next message begins.
    pub const fn is_followed(&self) -> bool {
        self.state == FOLLOWED
    }

    /// How far behind the first byte of a segment the byte is that is wanted next.
    pub const fn ahead(&self, first: u32) -> u32 {
        self.next.wrapping_add(self.have as u32).wrapping_sub(first)
    }

    /// Whether something is missing between what is wanted next and a segment.
    pub const fn has_gap_before(&self, first: u32) -> bool {
        self.ahead(first).cast_signed() < 0
    }

    /// Whether what is wanted next is in a segment of so many bytes.
    pub const fn is_in(&self, first: u32, bytes: u32) -> bool {
        self.ahead(first) < bytes
    }

    /// Takes one byte of a head that comes in pieces; whether it is whole now.
    pub const fn take(&mut self, byte: u8) -> bool {
        self.head = (self.head << 8) | byte as u64;
        self.have += 1;
        self.have >= HEAD_BYTES
    }

    /// How far behind the first byte of a segment the next message's header is, if it is in it.
    pub const fn message_in(&self, first: u32) -> Option<u32> {
        let ahead = self.next.wrapping_add(LENGTH_BYTES).wrapping_sub(first);
        if ahead.cast_signed() < 0 { None } else { Some(ahead) }
    }

    /// Passes a message whose length, id and flags are these; false, and lost, if it cannot be one.
    pub const fn passes(&mut self, head: u64) -> bool {
        let length = (head >> 32) as u16;
        if length < HEADER_BYTES {
            self.lose();
            return false;
        }
        *self = Self::from(self.next.wrapping_add(LENGTH_BYTES).wrapping_add(length as u32));
        true
    }
}

/// A TCP connection to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stream {
    /// What is sent.
    pub sent: Course,
    /// What is received.
    pub received: Course,
}

impl Stream {
    /// This end begins a connection, or begins it once more: then what was sent with the beginning is sent again, too.
    pub const fn begins(&mut self, first: u32) {
        const BESIDE: u32 = 1 << 16;
        if self.sent.state != FOLLOWED || self.sent.next.wrapping_sub(first) >= BESIDE {
            self.sent = Course::from(first);
            self.received = Course { next: 0, have: 0, state: UNSEEN, head: 0 };
        }
    }
}

/// Counts of the map `DNS_BOOKED`: the first are those that tables in turn have, [`FLOW_COUNTS`].
pub const COUNTS: u32 = FLOW_COUNTS + 2;
/// Questions that were entered.
pub const ASKED: u32 = FLOW_COUNTS;
/// Answers that were not told of, since the ring buffer was full.
pub const UNTOLD: u32 = FLOW_COUNTS + 1;

/// Whether a message asks as questions over UDP do, by its flags and how many questions and answers it has: other things than DNS come
/// from sockets as well.
pub const fn is_plain_question(flags: u16, questions: u16, answers: u16) -> bool {
    const OPCODE: u16 = 0x7800;
    flags & OPCODE == 0 && questions == 1 && answers == 0
}

/// Whether a message answers, by its flags.
pub const fn is_answer(flags: u16) -> bool {
    flags & 0x8000 != 0
}

/// Where answers with these flags are counted.
pub const fn rcode_place(flags: u16) -> usize {
    let rcode = (flags & 0xf) as usize;
    if rcode < RCODES - 1 { rcode } else { RCODES - 1 }
}

/// The name of the response codes of a place, as IANA has them.
pub const RCODE_NAMES: [&str; RCODES] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other"];

/// The bucket of a time between question and answer: the first whose bound is not below it. Without a branch, since the verifier follows
/// each: how many bounds are below it, by the sign of the difference.
#[inline]
pub const fn bucket(waited_ns: u64) -> usize {
    const LONGEST_NS: u64 = u64::MAX >> 1;
    let waited_ns = waited_ns & LONGEST_NS;
    let (mut below, mut bound) = (0, 0);
    while bound < BUCKETS - 1 {
        below += (BOUNDS_NS[bound].wrapping_sub(waited_ns) >> 63) as usize;
        bound += 1;
    }
    below
}

const BOUNDS_NS: [u64; BUCKETS - 1] = {
    let mut bounds = [0; BUCKETS - 1];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = match histogram::bound_ns((FIRST_BOUND + at) * 2) {
            Some(bound) => bound,
            None => panic!("every exported bound is one of the histogram's"),
        };
        at += 1;
    }
    bounds
};

const _: () = assert!(size_of::<DnsBook>() == 168 && size_of::<Answer<ANSWER_BYTES>>() == 16 + ANSWER_BYTES);
const _: () = assert!(size_of::<Course>() == 16 && size_of::<Question>() == 16 && size_of::<Asked>() == 32);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{vec, vec::Vec};

    #[test]
    fn names_are_told_apart_by_their_labels_and_not_by_their_case() {
        let spell = |bytes: &[u8]| bytes.iter().fold(Spelt::nothing(7), |spelt, byte| Spelt::and(spelt, *byte));
        let name = spell(b"\x03www\x07example\x00");
        assert_eq!((Spelt::left(name), name), (Spelt::ALL, spell(b"\x03WWW\x07eXample\x00")));
        for another in [&b"\x03www\x07examplf\x00"[..], b"\x07example\x03www\x00", b"\x03www\x00", b"\x00"] {
            let another = spell(another);
            assert!(Spelt::left(another) == Spelt::ALL && another != name);
        }
        assert_eq!(Spelt::left(spell(b"\x03www\xc0")), Spelt::NO_NAME, "a pointer is no part of what is asked for");
        assert_eq!(Spelt::left(spell(b"\x03ww")), 1);
    }

    #[test]
    fn of_four_servers_each_is_known_and_of_more_all_are() {
        let three = [7, 0xffff, 9].into_iter().fold(0, Servers::and);
        assert!([7, 0xffff, 9, Servers::ANY].iter().all(|server| Servers::has(three, *server)));
        assert!(!Servers::has(three, 8) && !Servers::has(0, 7));
        assert_eq!(Servers::and(three, 9), three);
        let four = Servers::and(three, 10);
        assert!(Servers::has(four, 7) && Servers::has(four, 10) && !Servers::has(four, 11));
        assert!(Servers::has(Servers::and(four, 11), 12) && Servers::has(Servers::and(0, Servers::ANY), 12));
        assert!(Servers::has(Servers::and(three, Servers::ANY), 12));
        assert_eq!((Servers::one(0), Servers::one(0x5_0005), Servers::one(0x5_0004)), (1, 1, 1));
    }

    #[test]
    fn a_wait_of_exactly_a_bound_is_in_its_bucket() {
        for place in 0..BUCKETS - 1 {
            let bound = histogram::bound_ns((FIRST_BOUND + place) * 2).unwrap();
            assert_eq!((bucket(bound), bucket(bound + 1)), (place, place + 1), "{bound}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX >> 1)), (0, BUCKETS - 1));
        assert_eq!(histogram::bound_ns(FIRST_BOUND * 2), Some(65_536));
    }

    /// Follows a connection that consists of these segments, each with its sequence number; where each message of it begins.
    fn followed(course: &mut Course, segments: &[(u32, &[u8])]) -> Vec<u32> {
        let mut messages = Vec::new();
        for (first, bytes) in segments {
            while course.is_followed() && course.is_in(*first, bytes.len() as u32) {
                if course.has_gap_before(*first) {
                    course.lose();
                    break;
                }
                let (at, next) = (course.ahead(*first) as usize, course.next);
                if course.take(bytes[at]) && course.passes(course.head) {
                    messages.push(next);
                }
            }
            if course.is_followed() && course.has_gap_before(*first) {
                course.lose();
            }
        }
        messages
    }

    fn messages(lengths: &[u16]) -> Vec<u8> {
        lengths.iter().flat_map(|length| [&length.to_be_bytes()[..], &vec![7; usize::from(*length)]].concat()).collect()
    }

    #[test]
    fn messages_are_found_however_a_stream_is_cut_and_sent_again() {
        let stream = messages(&[12, 300, 40]);
        // The sequence numbers go round.
        let first = u32::MAX - 20;
        let expected = [0, 14, 316].map(|at: u32| first.wrapping_add(at));
        for piece in 1..stream.len() {
            let mut segments = Vec::new();
            for (at, bytes) in stream.chunks(piece).enumerate() {
                let segment = (first.wrapping_add((at * piece) as u32), bytes);
                // Each comes twice.
                segments.extend([segment, segment]);
            }
            let mut course = Course::from(first);
            assert_eq!(followed(&mut course, &segments), expected, "{piece}");
            assert_eq!((course.next, course.state), (first.wrapping_add(stream.len() as u32), FOLLOWED));
        }
    }

    #[test]
    fn what_is_missing_before_a_message_loses_it_and_what_is_missing_within_one_does_not() {
        let stream = messages(&[100, 100]);
        let part = |from: usize, to: usize| (from as u32, &stream[from..to]);
        let mut course = Course::from(0);
        // The second message's segment came before the first one's end.
        assert_eq!(followed(&mut course, &[part(0, 50), part(102, 204), part(50, 102)]), [0, 102]);
        let mut course = Course::from(0);
        assert_eq!(followed(&mut course, &[part(0, 50), part(110, 204)]), [0]);
        assert_eq!(course.state, LOST);
        let mut short = Course::from(0);
        assert_eq!(followed(&mut short, &[(0, &messages(&[11]))]), [0; 0]);
        assert_eq!(short.state, LOST);
    }

    #[test]
    fn a_connection_begins_once() {
        let mut stream = Stream::default();
        stream.begins(1000);
        stream.received.begins(500);
        stream.sent.next += 40;
        let before = stream;
        // Both say so again, and somebody else says so.
        stream.begins(1000);
        stream.received.begins(500);
        stream.received.begins(77);
        assert_eq!(stream, before);
        // The socket connects again.
        stream.begins(2_000_000_000);
        assert_eq!((stream.sent.next, stream.received.state), (2_000_000_000, UNSEEN));
    }

    #[test]
    fn a_message_is_told_by_where_its_header_is() {
        let mut course = Course::from(1000);
        assert_eq!(course.message_in(1000), Some(2));
        assert_eq!(course.message_in(990), Some(12));
        // The length came in the segment before.
        assert_eq!(course.message_in(1002), Some(0));
        assert_eq!(course.message_in(1003), None);
        course.lose();
        assert!(!course.is_followed());
    }

    #[test]
    fn an_answer_is_told_by_its_flags() {
        assert!(is_plain_question(0x0100, 1, 0) && is_plain_question(0x0120, 1, 0));
        assert!(!is_plain_question(0x2000, 1, 0) && !is_plain_question(0x0100, 0, 0) && !is_plain_question(0, 1, 1));
        assert!(is_answer(0x8180) && !is_answer(0x0100));
        assert_eq!(RCODE_NAMES[rcode_place(0x8183)], "NXDOMAIN");
        assert_eq!(RCODE_NAMES[rcode_place(0x8185)], "REFUSED");
        assert_eq!(RCODE_NAMES[rcode_place(0x8186)], "other");
    }
}
