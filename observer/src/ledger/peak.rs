//! The largest window of the last minute.

use std::collections::VecDeque;

/// How far a peak looks back.
const SPAN_NS: u64 = 60_000_000_000;

/// A sliding maximum: the windows that can still become the largest, in falling order of their rate.
#[derive(Clone, Debug, Default)]
pub struct Peak {
    candidates: VecDeque<(u64, f64)>,
}

impl Peak {
    /// Adds the window that ended at `ended_ns`, at `rate` a second.
    pub fn push(&mut self, ended_ns: u64, rate: f64) {
        self.forget(ended_ns);
        while self.candidates.back().is_some_and(|(_, smaller)| *smaller <= rate) {
            self.candidates.pop_back();
        }
        if rate > 0.0 {
            self.candidates.push_back((ended_ns, rate));
        }
    }

    /// The largest rate, zero when nothing happened for a minute. `newest_ns` is when the newest window ended.
    pub fn largest(&self, newest_ns: u64) -> f64 {
        self.candidates.iter().find(|(ended, _)| ended + SPAN_NS > newest_ns).map_or(0.0, |(_, rate)| *rate)
    }

    /// Takes over the windows of another that became one with this. They seldom overlap; where they do, the larger counts.
    pub(super) fn merge(&mut self, other: Self) {
        let mut windows: Vec<_> = std::mem::take(&mut self.candidates).into_iter().chain(other.candidates).collect();
        windows.sort_by_key(|(ended, _)| *ended);
        for (ended, rate) in windows {
            self.push(ended, rate);
        }
    }

    fn forget(&mut self, newest_ns: u64) {
        while self.candidates.front().is_some_and(|(ended, _)| ended + SPAN_NS <= newest_ns) {
            self.candidates.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_the_peak_for_a_minute_and_then_forgotten() {
        let mut peak = Peak::default();
        peak.push(SECOND, 900.0);
        for window in 2..=60 {
            peak.push(window * SECOND, 10.0);
            assert_eq!(peak.largest(window * SECOND).to_bits(), 900f64.to_bits());
        }
        peak.push(61 * SECOND, 10.0);
        assert_eq!(peak.largest(61 * SECOND).to_bits(), 10f64.to_bits());
    }

    #[test]
    fn the_peak_equals_the_maximum_of_the_windows_of_the_last_minute() {
        let mut peak = Peak::default();
        let rates: Vec<f64> = (0..500u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761) >> 16)).collect();
        for (window, rate) in rates.iter().enumerate() {
            peak.push(window as u64 * SECOND, *rate);
            let expected = rates[window.saturating_sub(59)..=window].iter().copied().fold(0.0, f64::max);
            assert_eq!(peak.largest(window as u64 * SECOND).to_bits(), expected.to_bits());
        }
    }
}
