//! An entity with its books.

use super::{Added, CAUSES, Connections, Identity, MemoryUse, Pressure, Recent};
use observer_ebpf::{SCOPES, TcpBook, Traffic, dns::DnsBook, histogram};

/// Never reused while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub u64);

/// An entity with its books.
#[derive(Clone, Debug)]
pub struct Entity {
    /// Its number.
    pub id: EntityId,
    /// Its labels; they change when names come late.
    pub identity: Identity,
    /// Whether it has series of its own; if not, what is booked on it is on its namespace's `other` too.
    pub shown: bool,
    /// Its sums.
    pub books: Books,
    /// What the last windows brought.
    pub recent: Recent,
    /// What its cgroups use of memory now, once that has been read; [`Ledger::sum_memory`](super::Ledger::sum_memory) forms it.
    pub memory: Option<MemoryUse>,
    /// Open TCP connections, as they were counted last.
    pub connections: Connections,
}

/// Sums since the agent started; none ever falls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// L3 traffic by [`observer_ebpf::Scope`].
    pub traffic: [Traffic; SCOPES],
    /// What went wrong with its TCP connections.
    pub tcp: TcpBook,
    /// What it asked DNS servers, once it has.
    pub dns: Option<Box<DnsBook>>,
    /// Waits for a CPU by [`histogram::bucket`].
    pub waits: [u64; histogram::BUCKETS],
    /// Nanoseconds waited.
    pub wait_ns: u64,
    /// Task-nanoseconds on a CPU, of the turns that have ended.
    pub run_ns: u64,
    /// Task-nanoseconds in uninterruptible sleep.
    pub uninterruptible_ns: u64,
    /// Nanoseconds of waits above the threshold by who had the CPU, by [`By`](super::By).
    pub caused_ns: [u64; CAUSES],
    /// `cpu.stat`, once it has been read.
    pub cpu: Option<CpuUsage>,
    /// Pressure stall information, where it is read.
    pub pressure: Option<Box<Pressure>>,
    /// Processes that the kernel killed for want of memory, where that is counted.
    pub oom_kills: Option<u64>,
}

/// What `cpu.stat` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// `usage_usec`.
    pub usage_us: u64,
    /// Present where the cpu controller is, in v2 or in v1.
    pub throttling: Option<Throttling>,
}

/// The cpu controller's part of `cpu.stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// `nr_periods`.
    pub periods: u64,
    /// `nr_throttled`.
    pub throttled_periods: u64,
    /// `throttled_nsec`.
    pub throttled_ns: u64,
}

impl Books {
    /// Adds a reading.
    pub(super) fn add(&mut self, added: &Added) {
        let Added { cgroup: _, traffic, tcp, dns, waits, wait_ns, run_ns, uninterruptible_ns, caused_ns } = added;
        for (sum, more) in self.traffic.iter_mut().zip(traffic) {
            add_traffic(sum, more);
        }
        add_tcp(&mut self.tcp, tcp);
        add_dns(&mut self.dns, dns.as_deref());
        for (sum, more) in self.waits.iter_mut().zip(waits) {
            *sum += u64::from(*more);
        }
        self.wait_ns += wait_ns;
        self.run_ns += run_ns;
        self.uninterruptible_ns += uninterruptible_ns;
        for (sum, more) in self.caused_ns.iter_mut().zip(caused_ns) {
            *sum += more;
        }
    }

    /// Adds other books to these.
    pub(super) fn merge(&mut self, other: &Self) {
        let Self { traffic, tcp, dns, waits, wait_ns, run_ns, uninterruptible_ns, caused_ns, cpu, pressure, oom_kills } =
            other;
        for (sum, more) in self.traffic.iter_mut().zip(traffic) {
            add_traffic(sum, more);
        }
        add_tcp(&mut self.tcp, tcp);
        add_dns(&mut self.dns, dns.as_deref());
        for (sum, more) in self.waits.iter_mut().zip(waits) {
            *sum += more;
        }
        self.wait_ns += wait_ns;
        self.run_ns += run_ns;
        self.uninterruptible_ns += uninterruptible_ns;
        for (sum, more) in self.caused_ns.iter_mut().zip(caused_ns) {
            *sum += more;
        }
        if let Some(cpu) = cpu {
            self.cpu.get_or_insert_default().add(*cpu, CpuUsage::default());
        }
        if let Some(pressure) = pressure {
            self.pressure.get_or_insert_default().add(pressure, &Pressure::default());
        }
        if let Some(kills) = oom_kills {
            *self.oom_kills.get_or_insert_default() += kills;
        }
    }

    /// What the smallest entities are found by: bytes, then time waited, then CPU time.
    pub(super) fn size(&self) -> (u64, u64, u64) {
        let bytes = self.traffic.iter().map(|traffic| traffic.transmit_bytes + traffic.receive_bytes).sum();
        (bytes, self.wait_ns, self.cpu.map_or(0, |cpu| cpu.usage_us))
    }
}

fn add_traffic(sum: &mut Traffic, more: &Traffic) {
    let Traffic { transmit_bytes, transmit_packets, receive_bytes, receive_packets } = more;
    sum.transmit_bytes += transmit_bytes;
    sum.transmit_packets += transmit_packets;
    sum.receive_bytes += receive_bytes;
    sum.receive_packets += receive_packets;
}

fn add_tcp(sum: &mut TcpBook, more: &TcpBook) {
    let TcpBook { retransmits, transmit_resets, receive_resets, failed_connects } = more;
    sum.retransmits += retransmits;
    sum.transmit_resets += transmit_resets;
    sum.receive_resets += receive_resets;
    sum.failed_connects += failed_connects;
}

fn add_dns(sum: &mut Option<Box<DnsBook>>, more: Option<&DnsBook>) {
    if let Some(more) = more {
        sum.get_or_insert_default().add(more);
    }
}

impl CpuUsage {
    /// The larger of two readings of one cgroup, figure by figure.
    pub(super) fn at_least(self, before: Self) -> Self {
        let throttling = match (self.throttling, before.throttling) {
            (Some(now), Some(then)) => Some(Throttling {
                periods: now.periods.max(then.periods),
                throttled_periods: now.throttled_periods.max(then.throttled_periods),
                throttled_ns: now.throttled_ns.max(then.throttled_ns),
            }),
            (now, then) => now.or(then),
        };
        Self { usage_us: self.usage_us.max(before.usage_us), throttling }
    }

    /// Adds what one cgroup used between two readings.
    pub(super) fn add(&mut self, now: Self, before: Self) {
        self.usage_us += now.usage_us.saturating_sub(before.usage_us);
        if let Some(now) = now.throttling {
            let before = before.throttling.unwrap_or_default();
            let sum = self.throttling.get_or_insert_default();
            sum.periods += now.periods.saturating_sub(before.periods);
            sum.throttled_periods += now.throttled_periods.saturating_sub(before.throttled_periods);
            sum.throttled_ns += now.throttled_ns.saturating_sub(before.throttled_ns);
        }
    }
}
