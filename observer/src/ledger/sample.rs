//! What one reading of the kernel brings: by cgroup, what was added since the reading before.

use observer_ebpf::{SCOPES, Traffic, histogram};

/// One reading. Its buffers are used again for the next.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Only cgroups to which something was added; a cgroup may stand here twice.
    pub added: Vec<Added>,
    /// Who waited for whom, of the waits that have ended.
    pub caused: Vec<Caused>,
    /// What has not ended; a cgroup may stand here several times.
    pub lasting: Vec<Lasting>,
}

impl Sample {
    /// Empties it for the next reading.
    pub fn clear(&mut self) {
        let Self { added, caused, lasting } = self;
        added.clear();
        caused.clear();
        lasting.clear();
    }
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

/// What lasts: turns on a CPU, waits and sleeps of a cgroup's tasks that have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    /// The cgroup's id.
    pub cgroup: u64,
    /// How long they have lasted so far, together.
    pub active_ns: u64,
}

/// What was added to a cgroup's books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The cgroup's id; 0 is nobody's: what found no free slot.
    pub cgroup: u64,
    /// Traffic by scope.
    pub traffic: [Traffic; SCOPES],
    /// Waits by bucket.
    pub waits: [u32; histogram::BUCKETS],
    /// Nanoseconds waited.
    pub wait_ns: u64,
    /// Task-nanoseconds on a CPU, of the turns that have ended.
    pub run_ns: u64,
    /// Task-nanoseconds in uninterruptible sleep.
    pub uninterruptible_ns: u64,
}

impl Added {
    /// Task-nanoseconds that the load average counts.
    pub fn active_ns(&self) -> u64 {
        self.wait_ns + self.run_ns + self.uninterruptible_ns
    }

    /// Bytes sent and received, over all scopes.
    pub fn bytes(&self) -> (u64, u64) {
        let sum = |bytes: fn(&Traffic) -> u64| self.traffic.iter().map(bytes).sum();
        (sum(|traffic| traffic.transmit_bytes), sum(|traffic| traffic.receive_bytes))
    }

    /// How many packets and waits these are, and one for uninterruptible sleep: what a drop reason counts when they have
    /// no owner.
    pub fn events(&self) -> u64 {
        let packets: u64 = self.traffic.iter().map(|t| t.transmit_packets + t.receive_packets).sum();
        packets + self.waits.iter().map(|w| u64::from(*w)).sum::<u64>() + u64::from(self.uninterruptible_ns > 0)
    }
}
