//! What is asked of DNS servers and what they answer: each message counted on the cgroup of the socket that asks. Packets that
//! neither go to a server nor come from one do not get here.
//!
//! Functions that are not mangled are global to the verifier: it looks at each once, whatever it knows where they are called. They take
//! the program's context and numbers.

use crate::{
    courses,
    drops::{self, add},
    far_end::observer_dns_server,
    offsets::MIX_SECRET,
    packet::{self, Direction, UDP},
    slots,
};
use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_EXIST, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP,
    },
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_socket_cookie, bpf_skb_load_bytes},
    },
    macros::map,
    maps::{Array, HashMap, RingBuf},
};
use observer_ebpf::{
    Drop,
    dns::{
        ANSWER_BYTES, ANSWER_RING_BYTES, ASKED, Answer, Asked, COUNTS, DnsBook, HEADER_BYTES, MAX_ASKING,
        MAX_QUESTIONS, NAME_BYTES, PORT, Question, SHORT_ANSWER_BYTES, Servers, Spelt, UNTOLD, bucket, is_answer,
        is_plain_question, mix, rcode_place,
    },
    flows::{ADDED, TCP},
};

/// Two tables in turn, as those of flows.
#[map]
static DNS_EVEN: HashMap<u64, DnsBook> = HashMap::with_max_entries(MAX_ASKING, BPF_F_NO_PREALLOC);
#[map]
static DNS_ODD: HashMap<u64, DnsBook> = HashMap::with_max_entries(MAX_ASKING, BPF_F_NO_PREALLOC);
/// An empty book, which is too large for the stack of so many calls.
#[map]
static DNS_BLANK: Array<DnsBook> = Array::with_max_entries(1, 0);
#[map]
static DNS_BOOKED: Array<u64> = Array::with_max_entries(COUNTS, BPF_F_MMAPABLE);
#[map]
static DNS_QUESTIONS: HashMap<Question, Asked> = HashMap::with_max_entries(MAX_QUESTIONS, BPF_F_NO_PREALLOC);
#[map]
static DNS_ANSWERS: RingBuf = RingBuf::with_byte_size(ANSWER_RING_BYTES, 0);

const EEXIST: i32 = 17;

/// Whether a far end is a server.
#[inline(always)]
pub(crate) const fn is_asked_at(port: u16) -> bool {
    port == PORT
}

/// Counts the messages of a packet to or from a server, on the cgroup of its socket.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn observer_dns_packet(skb: *mut __sk_buff, cgroup: u64, direction: u32) -> u64 {
    let Some((protocol, at)) = packet::transport(skb) else { return 0 };
    if protocol == TCP {
        courses::follow(skb, cgroup, direction, at);
    } else if protocol == UDP {
        // SAFETY: the context of the program.
        let (bytes, segment) = unsafe { ((*skb).len, (*skb).gso_size) };
        let mut at = at + UDP_HEADER;
        for _ in 0..MOST_SEGMENTS {
            observer_dns_datagram(skb, cgroup, direction, at);
            at += segment;
            if segment == 0 || at >= bytes {
                break;
            }
        }
    }
    0
}

const UDP_HEADER: u32 = 8;
/// Datagrams that a program can have cut out of one, from 6.9 on; 64 before.
const MOST_SEGMENTS: u32 = 128;

/// Counts the message of a datagram that begins there.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn observer_dns_datagram(skb: *mut __sk_buff, cgroup: u64, direction: u32, at: u32) -> u64 {
    let Some(words) = packet::load::<[u16; 6]>(skb, at) else { return 0 };
    let [id, flags, questions, answers, ..] = words.map(u16::from_be);
    if is_answer(flags) || is_plain_question(flags, questions, answers) {
        observer_dns_message(skb, cgroup, head(id, flags), direction, at);
    }
    0
}

/// Id and flags in a word.
#[inline(always)]
const fn head(id: u16, flags: u16) -> u32 {
    ((id as u32) << 16) | flags as u32
}

/// Counts a message. `at` is where it begins in the packet, with its header; 0 if not in this packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn observer_dns_message(
    skb: *mut __sk_buff,
    cgroup: u64,
    head: u32,
    direction: u32,
    at: u32,
) -> u64 {
    let (id, flags) = (head >> 16, head as u16);
    let answers = is_answer(flags);
    if answers != (Direction::of(direction) == Direction::Receive) {
        // Of a server that has its own questions come from the port at which it is asked.
        return 0;
    }
    // SAFETY: the context of the program.
    let socket = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let question = Question { socket, id: id.into() };
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let book = book(cgroup);
    if book.is_null() {
        drops::count(Drop::DnsTable);
    }
    let server = observer_dns_server(skb, direction) as u16;
    if answers {
        let mut open = Open::of(&question, server, now_ns);
        // Of what nobody asked for nothing is read.
        if at != 0 && open.asked != 0 {
            open.told = observer_dns_question(skb, at);
        }
        if answered(book, &question, &open, flags) == ASKED_FOR {
            tell(skb, cgroup, at);
        }
    } else {
        let mixed = if at == 0 { 0 } else { observer_dns_question(skb, at) };
        asked(book, &question, Asked { cgroup, at_ns: now_ns, mixed, servers: 0 }, server);
    }
    count(ADDED);
    0
}

/// What stands for the question of a message that begins there; 0 if it has not one, or not all of it is in the packet. Letters of either
/// case are one, as they are to DNS.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn observer_dns_question(skb: *mut __sk_buff, at: u32) -> u64 {
    if packet::load::<u16>(skb, at + 4).map(u16::from_be) != Some(1) {
        return 0;
    }
    let (mut at, mut spelt) = (at + u32::from(HEADER_BYTES), Spelt::nothing(MIX_SECRET.load()[0]));
    for _ in 0..NAME_BYTES {
        spelt = observer_dns_spell(skb, at, spelt);
        at += 1;
        match Spelt::left(spelt) {
            Spelt::ALL => return packet::load::<u32>(skb, at).map_or(0, |kind| mix(spelt, kind.into()) | 1),
            Spelt::NO_NAME => return 0,
            _ => {}
        }
    }
    0
}

/// One byte more of a name: see [`Spelt`]. The verifier looks at it once, and not for each byte.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn observer_dns_spell(skb: *mut __sk_buff, at: u32, spelt: u64) -> u64 {
    packet::load::<u8>(skb, at).map_or(Spelt::NO_NAME.into(), |byte| Spelt::and(spelt, byte))
}

/// One that is asked again before it was answered, of the same server or another, is as old as it was; another one with the same id takes
/// its place.
#[inline(always)]
fn asked(book: *mut DnsBook, question: &Question, mut asked: Asked, server: u16) {
    if !book.is_null() {
        // SAFETY: a map's value.
        add(unsafe { &raw mut (*book).queries }, 1);
    }
    asked.servers = Servers::and(0, server);
    match DNS_QUESTIONS.insert(question, asked, u64::from(BPF_NOEXIST)) {
        Ok(()) => count(ASKED),
        Err(error) if error == -EEXIST => {
            if let Some(open) = DNS_QUESTIONS.get_ptr(question) {
                // SAFETY: a map's value, which may be gone by now and then is still memory of the map's: so it is only read.
                unsafe {
                    if (*open).mixed == asked.mixed {
                        (asked.at_ns, asked.servers) = ((*open).at_ns, Servers::and((*open).servers, server));
                    }
                }
            }
            // If it was answered just now, this one is not remembered, and its answer is one that nobody asked for.
            let _ = DNS_QUESTIONS.insert(question, asked, u64::from(BPF_EXIST));
        }
        Err(_) => drops::count(Drop::DnsQuestionTable),
    }
}

/// Answers of [`answered`].
const ASKED_FOR: u64 = 1;
const UNASKED: u64 = 0;

/// A question that is answered, or would be.
#[repr(C)]
struct Open {
    /// What stands for what was asked; 0 if it is not known, or nothing was asked.
    asked: u64,
    /// The same of the answer.
    told: u64,
    /// How long it waited; all ones if it is not open, or whoever answers was not asked.
    waited_ns: u64,
}

impl Open {
    /// With what stands for the answer yet to be found.
    #[inline(always)]
    fn of(question: &Question, server: u16, now_ns: u64) -> Self {
        let mut open = Self { asked: 0, told: 0, waited_ns: u64::MAX };
        if let Some(asked) = DNS_QUESTIONS.get_ptr(question) {
            // SAFETY: a map's value, which may be gone by now and then is still memory of the map's.
            unsafe {
                if Servers::has((*asked).servers, server) {
                    (open.asked, open.waited_ns) = ((*asked).mixed, now_ns.saturating_sub((*asked).at_ns));
                }
            }
        }
        open
    }
}

/// Closes a question, if it is open: what comes late, comes twice or was never asked for is of no use to anybody, nor is an answer to
/// another question. One that repeats none, as some do that refuse it, is counted by its id, and nothing is read in it.
#[inline(never)]
fn answered(book: *mut DnsBook, question: &Question, open: &Open, flags: u16) -> u64 {
    let Open { asked, told, waited_ns } = *open;
    let is_open = waited_ns != u64::MAX && (asked == told || asked == 0 || told == 0);
    if !(is_open && DNS_QUESTIONS.remove(question).is_ok()) {
        if !book.is_null() {
            // SAFETY: a map's value.
            add(unsafe { &raw mut (*book).unasked }, 1);
        }
        return UNASKED;
    }
    let is_read = if asked != 0 && asked == told { ASKED_FOR } else { UNASKED };
    if book.is_null() {
        return is_read;
    }
    // SAFETY: a map's value.
    unsafe {
        add((&raw mut (*book).responses).cast::<u64>().add(rcode_place(flags)), 1);
        add(&raw mut (*book).waited_ns, waited_ns);
        add((&raw mut (*book).waits).cast::<u64>().add(bucket(waited_ns)), 1);
    }
    is_read
}

/// The book of a cgroup, in the table of this moment; null if there is no room.
#[inline(never)]
fn book(cgroup: u64) -> *mut DnsBook {
    let books = if slots::control().flow_epoch & 1 == 0 { &DNS_EVEN } else { &DNS_ODD };
    if let Some(book) = books.get_ptr_mut(cgroup) {
        return book;
    }
    if let Some(blank) = DNS_BLANK.get(0) {
        // Where another CPU is first, it is there as well.
        let _ = books.insert(cgroup, blank, u64::from(BPF_NOEXIST));
    }
    books.get_ptr_mut(cgroup).unwrap_or(core::ptr::null_mut())
}

/// Hands an answer to user space, which knows what to read in it. One without addresses only while there is room enough for others.
#[inline(never)]
fn tell(skb: *mut __sk_buff, cgroup: u64, at: u32) -> u64 {
    // SAFETY: the context of the program.
    let bytes = unsafe { (*skb).len }.wrapping_sub(at);
    if at == 0 || bytes < HEADER_BYTES.into() || bytes > u32::from(u16::MAX) {
        count(UNTOLD);
        return 0;
    }
    // Flags, questions, answers.
    let words = packet::load::<[u16; 3]>(skb, at + 2).unwrap_or_default();
    let is_empty = rcode_place(u16::from_be(words[0])) != 0 || words[2] == 0;
    if is_empty && DNS_ANSWERS.query(BPF_RB_AVAIL_DATA.into()) > u64::from(ANSWER_RING_BYTES / 2) {
        count(UNTOLD);
        return 0;
    }
    let is_told = if bytes <= SHORT_ANSWER_BYTES as u32 {
        hand_over::<SHORT_ANSWER_BYTES>(skb, cgroup, at, bytes)
    } else {
        hand_over::<ANSWER_BYTES>(skb, cgroup, at, bytes)
    };
    if !is_told {
        count(UNTOLD);
    }
    0
}

/// `MOST` must be a power of two.
#[inline(always)]
fn hand_over<const MOST: usize>(skb: *mut __sk_buff, cgroup: u64, at: u32, bytes: u32) -> bool {
    let Some(mut record) = DNS_ANSWERS.reserve::<Answer<MOST>>(0) else { return false };
    let answer = record.as_mut_ptr();
    // The verifier has to see that it is at least one, and no more than there is room for.
    let last = core::hint::black_box((bytes - 1).min(MOST as u32 - 1));
    let bytes = (last & (MOST as u32 - 1)) + 1;
    // SAFETY: the record's memory; the helper writes `bytes` of it, which is at most as many as there are.
    let copied = unsafe {
        (*answer).cgroup = cgroup;
        (*answer).bytes = bytes.into();
        bpf_skb_load_bytes(skb.cast(), at, (&raw mut (*answer).message).cast(), bytes)
    };
    if copied == 0 {
        record.submit(BPF_RB_NO_WAKEUP.into());
    } else {
        record.discard(BPF_RB_NO_WAKEUP.into());
    }
    copied == 0
}

#[inline(always)]
fn count(what: u32) {
    if let Some(counter) = DNS_BOOKED.get_ptr_mut(what) {
        add(counter, 1);
    }
}
