//! What the last windows brought: the newest, the peaks of a minute, and load averages by the kernel's own recipe.

use super::{Added, LoadAverages, Peak};

/// The kernel keeps this much of its averages from one sample to the next (`EXP_1`, `EXP_5` and `EXP_15` of
/// include/linux/sched/loadavg.h, over `FIXED_1`).
const KEPT: [f64; 3] = [1884.0 / 2048.0, 2014.0 / 2048.0, 2037.0 / 2048.0];
/// Between two of its samples (`LOAD_FREQ`).
pub(super) const PERIOD_NS: u64 = 5_000_000_000;
/// A period is over with the window that ends this close to it.
pub(super) const PERIOD_SLACK_NS: u64 = 100_000_000;

/// A period that has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    elapsed_ns: u64,
    /// What is kept of each average over it.
    kept: [f64; 3],
}

impl Period {
    pub(super) fn of(elapsed_ns: u64) -> Self {
        Self { elapsed_ns, kept: KEPT.map(|kept| kept.powf(elapsed_ns as f64 / PERIOD_NS as f64)) }
    }
}

/// What came in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Bytes sent.
    pub transmit_bytes: u64,
    /// Bytes received.
    pub receive_bytes: u64,
    /// Nanoseconds of waits for a CPU that ended.
    pub wait_ns: u64,
    /// Task-nanoseconds of running, waiting or uninterruptible sleep.
    pub active_ns: u64,
}

impl Window {
    fn add(&mut self, other: Self) {
        let Self { transmit_bytes, receive_bytes, wait_ns, active_ns } = other;
        self.transmit_bytes += transmit_bytes;
        self.receive_bytes += receive_bytes;
        self.wait_ns += wait_ns;
        self.active_ns += active_ns;
    }
}

/// What the last windows brought.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// The newest window that has ended.
    pub window: Window,
    /// Bytes sent, a second, in the largest window of the last minute.
    pub transmit_peak: Peak,
    /// Bytes received, a second, in the largest window of the last minute.
    pub receive_peak: Peak,
    /// Active tasks in the largest window of the last minute.
    pub load_peak: Peak,
    /// Its share of the node's load averages.
    pub load: LoadAverages,
    /// What has come since.
    coming: Window,
    /// Task-nanoseconds since the averages were last brought forward.
    period_active_ns: u64,
}

impl Recent {
    /// Whether anything of it was active in the windows that are remembered: it may last, and nothing of it have ended yet.
    pub fn has_load(&self) -> bool {
        self.window.active_ns > 0 || self.load.one > 0.0
    }

    /// What came until now was before the first window.
    pub(super) fn begin(&mut self) {
        self.coming = Window::default();
    }

    /// Adds a reading to the window that is coming. Active time is booked when it ends.
    pub(super) fn add(&mut self, added: &Added) {
        let (transmitted, received) = added.bytes();
        self.coming.transmit_bytes += transmitted;
        self.coming.receive_bytes += received;
        self.coming.wait_ns += added.wait_ns;
    }

    pub(super) fn add_active(&mut self, active_ns: u64) {
        self.coming.active_ns += active_ns;
    }

    /// Ends a window of `elapsed_ns`: what it brought is a candidate for the peaks.
    pub(super) fn end_window(&mut self, ended_ns: u64, elapsed_ns: u64) {
        self.window = std::mem::take(&mut self.coming);
        let Window { transmit_bytes, receive_bytes, wait_ns: _, active_ns } = self.window;
        let seconds = elapsed_ns as f64 / 1e9;
        self.transmit_peak.push(ended_ns, transmit_bytes as f64 / seconds);
        self.receive_peak.push(ended_ns, receive_bytes as f64 / seconds);
        self.load_peak.push(ended_ns, active_ns as f64 / elapsed_ns as f64);
        self.period_active_ns += active_ns;
    }

    /// Brings the averages forward by the period that has passed.
    pub(super) fn end_period(&mut self, period: &Period) {
        let active = std::mem::take(&mut self.period_active_ns) as f64 / period.elapsed_ns as f64;
        let LoadAverages { one, five, fifteen } = &mut self.load;
        for (average, kept) in [one, five, fifteen].into_iter().zip(period.kept) {
            *average = *average * kept + active * (1.0 - kept);
        }
    }

    /// Takes over all that another brought that became one with this.
    pub(super) fn merge(&mut self, mut other: Self) {
        self.take_load(&mut other);
        let Self { window: _, transmit_peak, receive_peak, load_peak, load: _, coming: _, period_active_ns: _ } = other;
        self.transmit_peak.merge(transmit_peak);
        self.receive_peak.merge(receive_peak);
        self.load_peak.merge(load_peak);
    }

    /// Takes another's share of the load over, and its windows: averages of sums are sums of averages, so nothing of the node's is lost.
    pub(super) fn take_load(&mut self, other: &mut Self) {
        self.share_load(other);
        (other.load, other.period_active_ns) = (LoadAverages::default(), 0);
        self.window.add(std::mem::take(&mut other.window));
        self.coming.add(std::mem::take(&mut other.coming));
    }

    /// Adds a share of the load that is another's too.
    pub(super) fn share_load(&mut self, other: &Self) {
        let LoadAverages { one, five, fifteen } = other.load;
        self.load.one += one;
        self.load.five += five;
        self.load.fifteen += fifteen;
        self.period_active_ns += other.period_active_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(windows: u32, active_ns: u64) -> Recent {
        let mut recent = Recent::default();
        for _ in 0..windows {
            recent.add_active(active_ns);
            recent.end_window(0, PERIOD_NS);
            recent.end_period(&Period::of(PERIOD_NS));
        }
        recent
    }

    /// The kernel's arithmetic of `calc_load`, without its rounding up.
    #[test]
    fn three_tasks_for_a_minute_are_what_the_kernel_makes_of_them() {
        let LoadAverages { one, five, fifteen } = after(12, 3 * PERIOD_NS).load;
        let fixed = |exponent: f64| (0..12).fold(0.0, |load, _| (load * exponent + 3.0 * (2048.0 - exponent)) / 2048.0);
        for (ours, exponent) in [(one, 1884.0), (five, 2014.0), (fifteen, 2037.0)] {
            assert!((ours - fixed(exponent)).abs() < 1e-9, "{ours}, {}", fixed(exponent));
        }
        assert!((1.85..1.95).contains(&one), "{one}");
    }

    #[test]
    fn a_late_period_weighs_what_has_passed() {
        let mut late = after(12, 2 * PERIOD_NS);
        late.end_period(&Period::of(2 * PERIOD_NS));
        let mut punctual = after(12, 2 * PERIOD_NS);
        punctual.end_period(&Period::of(PERIOD_NS));
        punctual.end_period(&Period::of(PERIOD_NS));
        assert!((late.load.one - punctual.load.one).abs() < 1e-12);
    }

    #[test]
    fn the_windows_of_one_that_is_taken_over_are_not_lost() {
        let traffic = |bytes| {
            let mut traffic = [observer_ebpf::Traffic::default(); observer_ebpf::SCOPES];
            traffic[0].transmit_bytes = bytes;
            Added { traffic, wait_ns: bytes, ..Added::default() }
        };
        let of = |ended, coming| {
            let mut recent = Recent::default();
            recent.add(&traffic(ended));
            recent.end_window(PERIOD_NS, PERIOD_NS);
            recent.add(&traffic(coming));
            recent
        };
        let (mut one, mut taken) = (of(1, 10), of(5, 50));
        one.take_load(&mut taken);
        assert_eq!((one.window.transmit_bytes, one.window.wait_ns, taken.window), (6, 6, Window::default()));
        one.merge(of(100, 1000));
        assert_eq!(one.window.transmit_bytes, 106);
        one.end_window(2 * PERIOD_NS, PERIOD_NS);
        taken.end_window(2 * PERIOD_NS, PERIOD_NS);
        assert_eq!((one.window.transmit_bytes, taken.window), (1060, Window::default()));
    }

    #[test]
    fn averages_of_those_that_become_one_add_up() {
        let (mut one, other) = (after(5, PERIOD_NS), after(5, 2 * PERIOD_NS));
        one.merge(other);
        assert!((one.load.five - after(5, 3 * PERIOD_NS).load.five).abs() < 1e-12);
    }
}
