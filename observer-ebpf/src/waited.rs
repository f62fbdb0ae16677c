//! What a thread has waited for CPUs, remembered in a table of fixed size.

/// Threads of which it is remembered; a power of two.
pub const PLACES: u32 = 4096;

/// What a task has waited for CPUs: entry [`place`](Self::place) of the map `WAITED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Waited {
    /// The kernel's sum of all its waits, as far as it is booked.
    pub known_ns: u64,
    /// What of that is of the wait that lasts, in units of 1024 ns; 0 if none lasts.
    booked: u32,
    /// The task's seal, and the sum: of an entry that two tasks write at a time nothing fits.
    check: u32,
}

impl Waited {
    /// The entry of a thread. Threads that follow each other run at the same time, and have no cache line in common.
    pub const fn place(thread: u32) -> u32 {
        const LINE: u32 = 4;
        (thread % LINE) * (PLACES / LINE) + thread / LINE % (PLACES / LINE)
    }

    /// What tells tasks apart, also those that have an id after each other.
    pub const fn seal(thread: u32, born_ns: u64) -> u32 {
        thread.wrapping_mul(0x9e37_79b1) ^ born_ns as u32
    }

    /// The entry of a task that waits.
    pub const fn lasting(seal: u32, known_ns: u64, booked_ns: u64) -> Self {
        let booked = (booked_ns >> 10) as u32;
        Self { known_ns, booked: if booked == 0 { 1 } else { booked }, check: seal ^ Self::fold(known_ns) }
    }

    /// The entry of a task that has a CPU.
    pub const fn ended(seal: u32, known_ns: u64) -> Self {
        Self { known_ns, booked: 0, check: seal ^ Self::fold(known_ns) }
    }

    /// Whether it is that of a task.
    pub const fn is_of(&self, seal: u32) -> bool {
        self.check == seal ^ Self::fold(self.known_ns)
    }

    /// Whether it is of one that waits.
    pub const fn lasts(&self) -> bool {
        self.booked != 0
    }

    /// Nanoseconds of the wait that lasts that are booked.
    pub const fn booked_ns(&self) -> u64 {
        (self.booked as u64) << 10
    }

    const fn fold(ns: u64) -> u32 {
        (ns ^ (ns >> 32)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_follow_each_other_have_places_of_their_own_and_no_line_in_common() {
        let mut taken = [false; PLACES as usize];
        for thread in 77..77 + PLACES {
            assert!(!core::mem::replace(&mut taken[Waited::place(thread) as usize], true), "{thread}");
        }
        assert!((0..PLACES).all(|thread| Waited::place(thread).abs_diff(Waited::place(thread + 1)) >= 4));
    }

    #[test]
    fn an_entry_is_that_of_its_thread_alone() {
        let seal = Waited::seal(1234, 5_000_000_321);
        let entry = Waited::lasting(seal, 7_000_000_123, 3_000_000);
        assert!(entry.is_of(seal));
        assert_eq!((entry.known_ns, entry.booked_ns() >> 10), (7_000_000_123, 3_000_000 >> 10));
        // However little of a wait is known, it lasts until it has ended.
        assert!(Waited::lasting(seal, 7_000_000_123, 0).lasts() && !Waited::ended(seal, 7_000_000_123).lasts());
        // The next of that number, another with the same place, and two that wrote at a time.
        assert!(!entry.is_of(Waited::seal(1234, 6_000_000_321)));
        assert!(!entry.is_of(Waited::seal(1234 + PLACES, 5_000_000_321)));
        assert!(!Waited { known_ns: 7_000_000_124, ..entry }.is_of(seal));
        assert!(!Waited { known_ns: 7_000_000_123 + (9 << 32), ..entry }.is_of(seal));
    }
}
