//! What one reading of the kernel brings: by cgroup, what was added since the reading before.

use super::By;
use observer_ebpf::{
    SCOPES, TcpBook, Traffic,
    causes::CAUSES,
    dns::DnsBook,
    flows::{FlowKey, FlowSum},
    histogram,
};

/// One reading. Its buffers are used again for the next.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Only cgroups to which something was added; a cgroup may stand here twice.
    pub added: Vec<Added>,
    /// Who waited for whom, of the waits that have ended.
    pub caused: Vec<Caused>,
    /// What sockets carried that have closed, or turned to another far end; a flow may stand here twice.
    pub flows: Vec<(FlowKey, FlowSum)>,
    /// From when to when that may have been carried, as far as it is known; else it is of now.
    pub flows_interval: Option<Interval>,
    /// What has not ended; a cgroup may stand here several times.
    pub lasting: Vec<Lasting>,
    /// Tasks that sleep, and that the kernel counts as active all the same: it has not taken them off their run queues yet.
    pub asleep: u64,
}

impl Sample {
    /// Empties it for the next reading.
    pub fn clear(&mut self) {
        let Self { added, caused, flows, flows_interval, lasting, asleep } = self;
        *asleep = 0;
        *flows_interval = None;
        added.clear();
        caused.clear();
        flows.clear();
        lasting.clear();
    }
}

/// When something was carried, in seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Not before.
    pub from: u64,
    /// Not after.
    pub until: u64,
}

/// Time that a cgroup's tasks waited for a CPU that somebody else had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caused {
    /// The cgroup that waited.
    pub victim: u64,
    /// Who had the CPU.
    pub culprit: Culprit,
    /// Task-nanoseconds.
    pub ns: u64,
    /// Whether they are in no [`Added::caused_ns`] yet, since nobody has told the programs how near the culprit is.
    pub is_open: bool,
}

/// Who had a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// Tasks of a cgroup.
    Cgroup(u64),
    /// Nobody: it was idle and had yet to wake up.
    Idle,
    /// Whoever; the victim's CPU quota was used up.
    Throttled,
}

/// What lasts: a turn on a CPU, a wait or a sleep that has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    /// The task's cgroup.
    pub cgroup: u64,
    /// The task.
    pub thread: u32,
    /// Whether it has a CPU or waits for one; else it sleeps.
    pub on_queue: bool,
    /// When it began, by the clock of the run queues or, if it sleeps, by another: what lasts is told apart by it.
    pub since_ns: u64,
    /// How long it has lasted so far.
    pub active_ns: u64,
}

/// What was added to a cgroup's books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The cgroup's id; 0 is nobody's: what found no free slot.
    pub cgroup: u64,
    /// Traffic by scope.
    pub traffic: [Traffic; SCOPES],
    /// What went wrong with its TCP connections.
    pub tcp: TcpBook,
    /// What it asked DNS servers, if anything.
    pub dns: Option<Box<DnsBook>>,
    /// Waits by bucket.
    pub waits: [u32; histogram::BUCKETS],
    /// Nanoseconds waited.
    pub wait_ns: u64,
    /// Task-nanoseconds on a CPU, of the turns that have ended.
    pub run_ns: u64,
    /// Task-nanoseconds in uninterruptible sleep.
    pub uninterruptible_ns: u64,
    /// Nanoseconds of waits above the threshold, by [`By`].
    pub caused_ns: [u64; CAUSES],
}

impl Added {
    /// Task-nanoseconds that the load average counts: it does not count what is throttled. Less than zero when that is of waits
    /// that were counted before.
    pub fn active_ns(&self) -> i64 {
        let all_ns = self.wait_ns + self.run_ns + self.uninterruptible_ns;
        all_ns.cast_signed() - self.caused_ns[By::Throttled as usize].cast_signed()
    }

    /// Bytes sent and received, over all scopes.
    pub fn bytes(&self) -> (u64, u64) {
        let sum = |bytes: fn(&Traffic) -> u64| self.traffic.iter().map(bytes).sum();
        (sum(|traffic| traffic.transmit_bytes), sum(|traffic| traffic.receive_bytes))
    }

    /// How many packets, waits and DNS messages these are, and one for uninterruptible sleep: what a drop reason counts when they
    /// have no owner.
    pub fn events(&self) -> u64 {
        let packets: u64 = self.traffic.iter().map(|t| t.transmit_packets + t.receive_packets).sum();
        let messages = |dns: &DnsBook| dns.queries + dns.responses.iter().sum::<u64>() + dns.unasked + dns.unanswered;
        let messages = self.dns.as_deref().map_or(0, messages);
        packets
            + messages
            + self.waits.iter().map(|w| u64::from(*w)).sum::<u64>()
            + u64::from(self.uninterruptible_ns > 0)
    }
}
