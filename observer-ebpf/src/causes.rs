//! What both sides know of who makes whom wait for a CPU.

/// Who had the CPU while somebody waited for it. The numbers are the index into [`CauseBook::caused_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum By {
    /// The victim's own container, or cgroup.
    SameContainer = 0,
    /// Another container of its pod.
    SamePod = 1,
    /// Another pod.
    OtherPod = 2,
    /// What belongs to no pod: services, kernel threads, a CPU that had yet to wake up.
    Host = 3,
    /// Nobody: the victim's CPU quota was used up.
    Throttled = 4,
}

/// How many kinds there are.
pub const CAUSES: usize = 5;

impl By {
    /// Every kind, by its number.
    pub const ALL: [Self; CAUSES] = [Self::SameContainer, Self::SamePod, Self::OtherPod, Self::Host, Self::Throttled];

    /// How near a culprit is to its victim, if they are not the same cgroup.
    pub const fn of(victim: Membership, culprit: Membership) -> Self {
        if victim.container == culprit.container {
            Self::SameContainer
        } else if culprit.pod == 0 {
            Self::Host
        } else if victim.pod == culprit.pod {
            Self::SamePod
        } else {
            Self::OtherPod
        }
    }

    /// The value of the `by` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SameContainer => "same_container",
            Self::SamePod => "same_pod",
            Self::OtherPod => "other_pod",
            Self::Host => "host",
            Self::Throttled => "throttled",
        }
    }
}

/// What a cgroup is part of: it decides how near a culprit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Membership {
    /// The pod's number; 0 for what is in no pod.
    pub pod: u64,
    /// The container's number. What is in a pod and in no container has one for all of that pod; what is in no pod, one for the cgroup.
    pub container: u64,
}

/// What one slot's waits on one CPU were for: entry `slot * cpus + cpu` of the map `CAUSES`. A cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct CauseBook {
    /// The cgroup whose membership this is; user space writes it after that, and zeroes it when it takes the slot back.
    pub owner: u64,
    /// By user space.
    pub membership: Membership,
    /// Nanoseconds of waits above the threshold, by [`By`].
    pub caused_ns: [u64; CAUSES],
}

/// Who waited, and who had the CPU meanwhile: key of the map `WAIT_PAIRS`, whose values are nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct WaitPair {
    /// The cgroup that waited.
    pub victim: u64,
    /// The cgroup that ran, [`IDLE`] or [`THROTTLED`].
    pub culprit: u64,
    /// Not 0 if the memberships were not known then: the sum is in no [`CauseBook`], and its kind is for user space to tell.
    pub is_open: u64,
}

/// The [`WaitPair::culprit`] of a wait while the CPU was idle: it had yet to wake up.
pub const IDLE: u64 = 0;
/// The [`WaitPair::culprit`] of a wait while the victim's own CPU quota, or one above it, was used up.
pub const THROTTLED: u64 = u64::MAX;
/// Pairs that fit between two readings; beyond it they are counted in [`Drop::WaitPairTable`](crate::Drop::WaitPairTable).
pub const MAX_WAIT_PAIRS: u32 = 2048;
/// Waits up to this long are not asked what they were for. A hundred microseconds.
pub const DEFAULT_WAIT_THRESHOLD_NS: u64 = 100_000;
/// As a threshold: no wait is asked, and no turn is remembered.
pub const NO_CAUSES: u64 = u64::MAX;
/// A culprit's part of a wait that is at least this long is added to its pair. A millisecond, nearly.
pub const LARGE_PART_NS: u64 = 1 << 20;
/// Of the smaller parts one in so many nanoseconds is taken, for all of them: the pairs of a thousand pods that wake together cost as
/// little as those of two. Some 17 ms.
pub const PART_STEP_NS: u64 = 1 << 24;

/// Adds a small part to those of which none has been taken; returns for how many nanoseconds this one is taken. On average that is its
/// own length, and the sum over all is never further from the truth than one step.
pub const fn take_part(waiting_ns: u64, part_ns: u64) -> (u64, u64) {
    let sum_ns = waiting_ns + part_ns;
    (sum_ns % PART_STEP_NS, sum_ns - sum_ns % PART_STEP_NS)
}

const _: () = assert!(size_of::<CauseBook>() == 64 && PART_STEP_NS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_are_taken_as_often_as_they_are_long_and_few_of_them() {
        let (mut waiting_ns, mut taken, mut times) = (0, [0u64; 3], 0);
        // Lengths that share no rhythm with the step.
        let lengths = [20_011, 90_001, 300_007];
        for round in 0..60_000u64 {
            let who = (round * 7 % 3) as usize;
            let ns;
            (waiting_ns, ns) = take_part(waiting_ns, lengths[who]);
            taken[who] += ns;
            times += u64::from(ns > 0);
        }
        for (length, ns) in lengths.into_iter().zip(taken) {
            let truth = length * 20_000;
            assert!(ns.abs_diff(truth) < truth / 10, "{ns} of {truth}");
        }
        let all: u64 = lengths.iter().map(|length| length * 20_000).sum();
        assert_eq!(taken.iter().sum::<u64>() + waiting_ns, all);
        assert_eq!(times, all / PART_STEP_NS);
    }

    #[test]
    fn kinds_are_numbered_by_their_place() {
        for (place, by) in By::ALL.into_iter().enumerate() {
            assert_eq!(by as usize, place);
        }
    }
}
