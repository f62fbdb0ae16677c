//! What the kernel programs and user space agree on: map values, their layout, limits, and the two rules that both sides
//! must compute alike (the wait histogram's buckets and a packet's bytes on the wire).
//!
//! `no_std`: compiled into the eBPF object and, unchanged, into the host crates, where it is tested.
#![no_std]
#![forbid(unsafe_code)]

pub mod carried;
pub mod causes;
pub mod dns;
pub mod flows;
pub mod histogram;
pub mod waited;
pub mod wire;

/// Where the other end of a socket is. The numbers are the index into [`NetBook::scopes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Scope {
    /// 127.0.0.0/8 or `::1`.
    Loopback = 0,
    /// This node: one of its addresses, or a pod of it.
    Node = 1,
    /// The cluster: pods and nodes elsewhere.
    Cluster = 2,
    /// The address of a service.
    Service = 3,
    /// Private, shared (RFC 6598), unique local, link-local and multicast addresses.
    Intranet = 4,
    /// Everything else.
    Internet = 5,
}

impl Scope {
    /// Every scope, by its number.
    pub const ALL: [Self; SCOPES] =
        [Self::Loopback, Self::Node, Self::Cluster, Self::Service, Self::Intranet, Self::Internet];

    /// The value of the `scope` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Service => "service",
            Self::Intranet => "intranet",
            Self::Internet => "internet",
        }
    }
}

/// How many scopes there are.
pub const SCOPES: usize = 6;
/// Slot 0 belongs to nobody: what finds no free slot is booked there, so that the sum stays whole.
pub const UNATTRIBUTED_SLOT: u32 = 0;
/// Entries of each CPU's cache from cgroup id to slot; a power of two.
pub const SLOT_CACHE_ENTRIES: u32 = 256;
/// Default of `--max-cgroups`.
pub const DEFAULT_SLOTS: u32 = 3072;
/// Open uninterruptible sleeps that fit; beyond it they are counted in [`Drop::SleepTableFull`].
pub const MAX_OPEN_SLEEPS: u32 = 4096;
/// Turns of each CPU that are remembered; a power of two.
pub const TURNS: usize = 64;
/// Spans of throttling that are remembered of each group on each CPU; a power of two.
pub const THROTTLE_SPANS: usize = 8;
/// Run queues of throttled groups that are remembered, for each CPU.
pub const THROTTLES_PER_CPU: u32 = 256;
/// Tasks of one run queue that [`LastingTask`]s tell of.
pub const MAX_LASTING: usize = 256;
/// Address prefixes that decide a scope; the kernel's memory holds those that there are.
pub const MAX_SCOPE_PREFIXES: u32 = 16_384;
/// Bytes of the ring buffer of cgroup events.
pub const EVENT_RING_BYTES: u32 = 128 * 1024;
/// The longest cgroup path an event carries; the kernel's own tracepoint cuts there too.
pub const EVENT_PATH_BYTES: usize = 1024;

/// L3 bytes and packets of one scope, as on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// Bytes sent.
    pub transmit_bytes: u64,
    /// Packets sent.
    pub transmit_packets: u64,
    /// Bytes received.
    pub receive_bytes: u64,
    /// Packets received.
    pub receive_packets: u64,
}

/// One scope's [`Traffic`] as the programs add it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ScopeBook {
    /// Bytes and packets sent, as [`carried::joined`] takes them; where the kernel cannot take a word and leave another by one instruction,
    /// a word for each.
    pub sent: [u64; 2],
    /// Bytes received.
    pub receive_bytes: u64,
    /// Packets received.
    pub receive_packets: u64,
}

/// One slot's traffic on one CPU: entry `slot * cpus + cpu` of the map `NET`, where `cpus` are those that are present. Three cache lines that no other CPU writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct NetBook {
    /// By [`Scope`].
    pub scopes: [ScopeBook; SCOPES],
}

/// One slot's scheduling on one CPU: entry `slot * cpus + cpu` of the map `SCHED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct SchedBook {
    /// The cgroup that this CPU books here; user space zeroes it when it takes the slot back.
    pub owner: u64,
    /// Nanoseconds that tasks waited for a CPU, by the scheduler's clock.
    pub wait_ns: u64,
    /// Nanoseconds that tasks had a CPU, of the turns that have ended.
    pub run_ns: u64,
    /// Nanoseconds of uninterruptible sleep that have ended.
    pub uninterruptible_ns: u64,
    /// Waits by [`histogram::bucket`]; each wraps at 2^32.
    pub waits: [u32; histogram::BUCKETS],
}

/// What went wrong with one slot's TCP connections: an entry of the map `TCP`, by slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TcpBook {
    /// Segments sent again.
    pub retransmits: u64,
    /// Resets sent.
    pub transmit_resets: u64,
    /// Resets received.
    pub receive_resets: u64,
    /// Connections that were asked for and did not come to be.
    pub failed_connects: u64,
}

/// An entry of a CPU's cache from cgroup id to its [`SchedBook`]: entry `cpu * SLOT_CACHE_ENTRIES + id % SLOT_CACHE_ENTRIES` of `SLOT_CACHE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CachedSlot {
    /// The cgroup id; ids are never reused, so an entry never lies about whose it is.
    pub cgroup: u64,
    /// The entry `slot * cpus + cpu` of the map `SCHED`.
    pub entry: u32,
    /// The [`Control::slot_generation`] at which slot 0 was the answer.
    pub generation: u32,
}

/// What user space tells the programs while they run: the only entry of the map `CONTROL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Grows (mod 2^16) when the address ranges changed: every socket decides its scope again.
    pub scope_generation: u32,
    /// Grows when slots came free after there had been none: whoever was sent to slot 0 asks again.
    pub slot_generation: u32,
    /// Grows whenever user space turns to the other one of the two tables of flows: even, `FLOWS_EVEN` is added to.
    pub flow_epoch: u64,
    /// Grows whenever user space looks at open sockets.
    pub look: u64,
}

/// An uninterruptible sleep that has not ended: value of the map `SLEEPS`, keyed by thread id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sleep {
    /// The task's cgroup when it fell asleep.
    pub cgroup: u64,
    /// `CLOCK_MONOTONIC` then, in nanoseconds.
    pub start_ns: u64,
}

/// A task's turn on a CPU: who, and since when by the run queue's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Turn {
    /// The task's cgroup; [`IDLE`](causes::IDLE) when there was none to run.
    pub cgroup: u64,
    /// When it began; 0 for none.
    pub since_ns: u64,
    /// The entry of the cgroup's slot in the maps `SCHED` and `CAUSES`; the largest number for none.
    pub book: u32,
    /// The task's thread id.
    pub thread: u32,
    /// Where the queue of the task's group was when the turn ended; 0 while it goes on.
    pub queue: u64,
}

/// The last turns of one CPU: an entry of the map `TURNS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Turns {
    /// Where this CPU's run queue is: what [`LastingTask`]s are found from.
    pub run_queue: u64,
    /// Turns that have begun; the newest is entry `begun % TURNS`.
    pub begun: u64,
    /// Small parts of waits since one was taken for all; see [`causes::take_part`].
    pub parts_ns: u64,
    /// The newest and those before it.
    pub turns: [Turn; TURNS],
}

/// How much the tasks of a group's run queue on a CPU were kept from running by a CPU quota: value of the map `THROTTLES`, keyed by the
/// address of the `struct cfs_rq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Throttle {
    /// The kernel's own sum when it was last looked at.
    pub seen_ns: u64,
    /// Spans that were seen; the newest is entry `seen % THROTTLE_SPANS`.
    pub seen: u64,
    /// How long the spans are together.
    pub kept_ns: u64,
    /// How much of the time from the oldest span that is remembered to the newest was throttled, in parts of 2^16.
    pub share: u64,
    /// From when until when, by the run queue's clock.
    pub spans: [[u64; 2]; THROTTLE_SPANS],
}

/// A task that runs or waits for a CPU at the moment of asking: a record of the iterator `observer_lasting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LastingTask {
    /// The task's cgroup, or one of the marks.
    pub cgroup: u64,
    /// Since when, by the run queue's clock.
    pub since_ns: u64,
    /// How much of that it was throttled.
    pub throttled_ns: u64,
    /// Its thread id; with the bit [`LastingTask::THROTTLED_BIT`] if it is throttled at this moment.
    pub thread: u64,
}

impl LastingTask {
    /// Beyond the bits of a thread id.
    pub const THROTTLED_BIT: u32 = 32;
    /// Marks a record that holds the time on a run queue's clock: the first of each CPU.
    pub const CLOCK: u64 = u64::MAX;
    /// Marks a record that holds how many turns have begun on a CPU, in the place of the time, and how many tasks are on its queue,
    /// in the place of the thread: by the kernel's count before the tasks are told of, and after them by how many there were. Where
    /// two such records differ, the queue has changed under the reader, who may have missed a task or seen it twice.
    pub const STATE: u64 = u64::MAX - 1;
    /// Marks a record that holds how many tasks of a queue sleep and are still on it, in the place of the thread.
    pub const ASLEEP: u64 = u64::MAX - 2;
}

/// Key data of the map `SCOPE_PREFIXES` (a longest-prefix-match trie): an IPv6 or IPv4-mapped address in network order.
pub type Address = [u8; 16];

/// What came to pass with a cgroup: the head of each record in the ring buffer `EVENTS`; the path's bytes follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CgroupEvent {
    /// The cgroup's id.
    pub cgroup: u64,
    /// [`CgroupEvent::MADE`] or [`CgroupEvent::REMOVED`].
    pub kind: u32,
    /// Bytes of the path that follow, without a terminating zero.
    pub path_bytes: u32,
}

impl CgroupEvent {
    /// The cgroup was made.
    pub const MADE: u32 = 1;
    /// The cgroup was removed.
    pub const REMOVED: u32 = 2;
}

/// Why something could not be counted where it belongs: an index into the map `DROPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Drop {
    /// Packets booked to `unattributed` because no slot was free.
    PacketNoSlot = 0,
    /// Waits booked to `unattributed` because no slot was free.
    WaitNoSlot = 1,
    /// Packets booked to `unattributed` because the slot table refused the cgroup (`-EBUSY`, `-ENOMEM`).
    PacketSlotTable = 2,
    /// Waits booked to `unattributed` because the slot table refused the cgroup.
    WaitSlotTable = 3,
    /// Uninterruptible sleeps that were not recorded because the table was full.
    SleepTableFull = 4,
    /// Uninterruptible sleeps booked to `unattributed` because no slot was free for their cgroup.
    SleepNoSlot = 5,
    /// Cgroup events that did not fit the ring buffer; a walk of the tree heals it.
    EventRingFull = 6,
    /// Packets whose headers could not be read: booked with the scope `internet` and without GSO correction.
    PacketUnreadable = 7,
    /// Uninterruptible sleeps booked to `unattributed` because the slot table refused the cgroup.
    SleepSlotTable = 8,
    /// Packets on a CPU that was not present at the load: booked with those of CPU 0.
    PacketNewCpu = 9,
    /// Turns, waits and sleeps that ended on a CPU that was not present at the load: booked nowhere.
    SwitchNewCpu = 10,
    /// Turns on a CPU booked to `unattributed` because no slot was free.
    RunNoSlot = 11,
    /// Turns on a CPU booked to `unattributed` because the slot table refused the cgroup.
    RunSlotTable = 12,
    /// Parts of waits whose pair did not fit the table: by their kind they are booked all the same, unless that was not known.
    WaitPairTable = 13,
    /// Traffic whose far end is not told of, since the table of flows was full: it is in its entity's sums all the same.
    FlowTable = 14,
    /// What went wrong with TCP connections, booked to `unattributed` because no slot was free.
    TcpNoSlot = 15,
    /// The same because the slot table refused the cgroup.
    TcpSlotTable = 16,
    /// Traffic in no flow at all, since the table of flows had no room even without far ends, or a socket got no storage.
    FlowLost = 17,
    /// DNS messages that are in no count, since the table of those who ask was full, or there was no memory.
    DnsTable = 18,
    /// DNS questions of which nobody will know how long they waited, since too many were open.
    DnsQuestionTable = 19,
    /// Segments of DNS connections over TCP in which messages could not be told apart.
    DnsStream = 20,
}

impl Drop {
    /// Every reason, by its number.
    pub const ALL: [Self; DROPS] = [
        Self::PacketNoSlot,
        Self::WaitNoSlot,
        Self::PacketSlotTable,
        Self::WaitSlotTable,
        Self::SleepTableFull,
        Self::SleepNoSlot,
        Self::EventRingFull,
        Self::PacketUnreadable,
        Self::SleepSlotTable,
        Self::PacketNewCpu,
        Self::SwitchNewCpu,
        Self::RunNoSlot,
        Self::RunSlotTable,
        Self::WaitPairTable,
        Self::FlowTable,
        Self::TcpNoSlot,
        Self::TcpSlotTable,
        Self::FlowLost,
        Self::DnsTable,
        Self::DnsQuestionTable,
        Self::DnsStream,
    ];

    /// The value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::PacketNoSlot => "packet_no_slot",
            Self::WaitNoSlot => "wait_no_slot",
            Self::PacketSlotTable => "packet_slot_table",
            Self::WaitSlotTable => "wait_slot_table",
            Self::SleepTableFull => "sleep_table_full",
            Self::SleepNoSlot => "sleep_no_slot",
            Self::EventRingFull => "event_ring_full",
            Self::PacketUnreadable => "packet_unreadable",
            Self::SleepSlotTable => "sleep_slot_table",
            Self::PacketNewCpu => "packet_new_cpu",
            Self::SwitchNewCpu => "switch_new_cpu",
            Self::RunNoSlot => "run_no_slot",
            Self::RunSlotTable => "run_slot_table",
            Self::WaitPairTable => "wait_pair_table",
            Self::FlowTable => "flow_table",
            Self::TcpNoSlot => "tcp_no_slot",
            Self::TcpSlotTable => "tcp_slot_table",
            Self::FlowLost => "flow_lost",
            Self::DnsTable => "dns_table",
            Self::DnsQuestionTable => "dns_question_table",
            Self::DnsStream => "dns_stream",
        }
    }
}

/// How many reasons the programs count.
pub const DROPS: usize = 21;

const _: () = assert!(size_of::<NetBook>() == 192 && size_of::<SchedBook>() == 128);
const _: () = assert!(size_of::<CachedSlot>() == 16 && size_of::<CgroupEvent>() == 16);
const _: () = assert!(SLOT_CACHE_ENTRIES.is_power_of_two());
const _: () = assert!(TURNS.is_power_of_two() && THROTTLE_SPANS.is_power_of_two());
