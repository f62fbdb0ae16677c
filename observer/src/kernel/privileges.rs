//! Which capabilities the features need, which this process has, and how it gives all of them up.
//!
//! Everything privileged happens before the first sample: loading and attaching. Reading the maps through descriptors that
//! are open needs nothing, so after the attach [`drop_everything`] takes every capability and the root user away. Reading
//! needs `CAP_BPF` on kernels before 5.19 whose `kernel.unprivileged_bpf_disabled` is set: [`reading_needs_bpf`] finds out.

mod surrender;
#[cfg(test)]
mod tests;
mod user;

pub use surrender::{DropError, Dropped, drop_everything, reading_needs_bpf};
pub use user::{NOBODY, PASSWD, User, UserError};

use super::release;
use caps::{CapSet, Capability, CapsHashSet};
use std::fmt;
use std::path::Path;

/// What the kernel gives the initial user namespace as its number; capabilities of any other are void for bpf(2).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// A part of the agent that needs privileges while it is being attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Bytes and packets: `cgroup_skb` programs on the root cgroup.
    Bytes,
    /// Where bytes go: a `cgroup_sock` program on the root cgroup, a `tp_btf` program on `inet_sock_set_state`, an iterator.
    Flows,
    /// Waits and uninterruptible sleep: a `tp_btf` program on `sched_switch`.
    Scheduler,
    /// Cgroups that come and go: `tp_btf` programs on `cgroup_mkdir` and `cgroup_rmdir`.
    CgroupEvents,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bytes, Self::Flows, Self::Scheduler, Self::CgroupEvents];

    /// The capabilities it takes (kernel 5.8 and later). Without `CAP_PERFMON` the verifier refuses the packet programs too: it
    /// lets nobody else add to pointers in a way that a CPU might speculate on.
    pub const fn needs(self) -> &'static [Capability] {
        match self {
            Self::Bytes | Self::Flows => &[Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON],
            Self::Scheduler | Self::CgroupEvents => &[Capability::CAP_BPF, Capability::CAP_PERFMON],
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes and packets per cgroup",
            Self::Flows => "flows of connections",
            Self::Scheduler => "run-queue wait and uninterruptible sleep per cgroup",
            Self::CgroupEvents => "cgroups that live for less than a sample",
        })
    }
}

/// What this thread may do.
#[derive(Clone, Debug, Default)]
pub struct Held {
    effective: CapsHashSet,
    /// Whether this kernel takes `CAP_SYS_ADMIN` for `CAP_NET_ADMIN`.
    admin_attaches: bool,
}

/// From this kernel on whoever holds `CAP_SYS_ADMIN` attaches to cgroups; those before ask for `CAP_NET_ADMIN` by name.
const ADMIN_ATTACHES: release::Version = (6, 9);

impl Held {
    /// Reads the effective set. In a user namespace that is not the initial one nothing counts as held, since bpf(2)
    /// asks for capabilities over the initial one.
    pub fn read() -> Self {
        if in_user_namespace() {
            return Self::default();
        }
        Self::with(caps::read(None, CapSet::Effective).unwrap_or_default(), &release::running())
    }

    /// A set made up, on a kernel of this release.
    pub fn of(capabilities: &[Capability], release: &str) -> Self {
        Self::with(capabilities.iter().copied().collect(), release)
    }

    fn with(effective: CapsHashSet, release: &str) -> Self {
        Self { effective, admin_attaches: release::version(release) >= Some(ADMIN_ATTACHES) }
    }

    /// Whether the capability, or one that stands for it, is held.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective.contains(&capability) || self.has_by_admin(capability)
    }

    /// Whether `CAP_SYS_ADMIN` is held and stands for it.
    fn has_by_admin(&self, capability: Capability) -> bool {
        let stands_for = match capability {
            Capability::CAP_BPF | Capability::CAP_PERFMON => true,
            Capability::CAP_NET_ADMIN => self.admin_attaches,
            _ => false,
        };
        stands_for && self.effective.contains(&Capability::CAP_SYS_ADMIN)
    }

    /// What the feature needs, in the words of what is held: `CAP_SYS_ADMIN` by its own name where it is what counts.
    pub fn stands_in(&self, feature: Feature) -> Vec<Capability> {
        let mut standing: Vec<_> =
            feature.needs().iter().copied().filter(|need| self.effective.contains(need)).collect();
        if standing.len() < feature.needs().len() {
            standing.push(Capability::CAP_SYS_ADMIN);
        }
        standing
    }

    /// What the feature needs and this process has not.
    pub fn missing_for(&self, feature: Feature) -> Vec<Capability> {
        feature.needs().iter().copied().filter(|capability| !self.has(*capability)).collect()
    }
}

/// Whether this process is in a user namespace of its own (a rootless container), where no capability helps.
pub fn in_user_namespace() -> bool {
    let namespace = std::fs::read_link("/proc/self/ns/user");
    namespace.is_ok_and(|namespace| namespace != Path::new(INITIAL_USER_NAMESPACE))
}

/// `CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON`, for messages.
pub fn listed(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
