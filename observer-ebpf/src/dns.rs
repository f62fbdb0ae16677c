//! What both sides know of DNS: what is counted of the messages of a cgroup that asks, and which questions are open.

use crate::histogram;

/// The port at which servers are asked.
pub const PORT: u16 = 53;
/// Questions without an answer that are remembered.
pub const MAX_QUESTIONS: u32 = 8192;
/// How long a question is open at most: longer than stub resolvers wait.
pub const PATIENCE_NS: u64 = 10_000_000_000;
/// What follows a message's length and comes before its sections: the least that a message has.
pub const HEADER_BYTES: u16 = 12;
/// Kinds of answers: the response codes 0 to 5, and the rest.
pub const RCODES: usize = 7;
/// Every fourth bound of the [`histogram`], so steps of four from 65.536 us to 4.295 s, and one above all.
pub const BUCKETS: usize = histogram::EXPORTED + 1 - FIRST_BOUND;
/// The first of the exported bounds of the histogram that there is a bucket for.
pub const FIRST_BOUND: usize = 3;
/// Bytes of an answer that are told of: as many as fit a message over UDP without extensions.
pub const ANSWER_BYTES: usize = 512;
/// Bytes of the ring buffer of answers.
pub const ANSWER_RING_BYTES: u32 = 128 * 1024;

/// What a cgroup asked and was answered: value of the maps `DNS_EVEN` and `DNS_ODD`, keyed by its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DnsBook {
    /// Messages sent that ask.
    pub queries: u64,
    /// Messages received that answer, by [`rcode_place`].
    pub responses: [u64; RCODES],
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
        let Self { queries, responses, unanswered, waited_ns, waits } = more;
        self.queries += queries;
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
}

/// A message that answers, as far as it is told: record of the ring buffer `DNS_ANSWERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    /// The cgroup of the socket; 0 is nobody's.
    pub cgroup: u64,
    /// How many of its bytes there are, from its header on; what follows a message in its packet is among them.
    pub bytes: u64,
    /// These.
    pub message: [u8; ANSWER_BYTES],
}

/// One direction of a TCP connection to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Course {
    /// The sequence number at which the next message begins, with its length.
    pub next: u32,
    /// How many bytes of it are in `head`.
    pub have: u16,
    /// [`LOST`], [`FOLLOWED`] or [`ALIEN`].
    pub state: u16,
    /// Its first bytes, the last in the lowest: length, id and flags.
    pub head: u64,
}

/// Where the next message begins is not known.
pub const LOST: u16 = 0;
/// It is.
pub const FOLLOWED: u16 = 1;
/// What is spoken is not DNS.
pub const ALIEN: u16 = 2;
/// Bytes of a message that tell of it: its length, its id and its flags.
pub const HEAD_BYTES: u16 = 6;

/// A TCP connection to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stream {
    /// What is sent.
    pub sent: Course,
    /// What is received.
    pub received: Course,
}

/// Counts of the map `DNS_BOOKED`: the first three are those of [`FLOW_COUNTS`](crate::flows::FLOW_COUNTS).
pub const COUNTS: u32 = 5;
/// Questions that were entered.
pub const ASKED: u32 = 3;
/// Answers that were not told of, since the ring buffer was full.
pub const UNTOLD: u32 = 4;

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

const _: () = assert!(size_of::<DnsBook>() == 160 && size_of::<Answer>() == 16 + ANSWER_BYTES);
const _: () = assert!(size_of::<Course>() == 16 && size_of::<Question>() == 16 && size_of::<Asked>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_exactly_a_bound_is_in_its_bucket() {
        for place in 0..BUCKETS - 1 {
            let bound = histogram::bound_ns((FIRST_BOUND + place) * 2).unwrap();
            assert_eq!((bucket(bound), bucket(bound + 1)), (place, place + 1), "{bound}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX >> 1)), (0, BUCKETS - 1));
        assert_eq!(histogram::bound_ns(FIRST_BOUND * 2), Some(65_536));
    }

    #[test]
    fn an_answer_is_told_by_its_flags() {
        assert!(is_answer(0x8180) && !is_answer(0x0100));
        assert_eq!(RCODE_NAMES[rcode_place(0x8183)], "NXDOMAIN");
        assert_eq!(RCODE_NAMES[rcode_place(0x8185)], "REFUSED");
        assert_eq!(RCODE_NAMES[rcode_place(0x8186)], "other");
    }
}
