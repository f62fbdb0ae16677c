//! The largest one-second window of the last minute.

use std::collections::VecDeque;

/// How many windows a peak looks back on.
const WINDOWS: u64 = 60;

/// A sliding maximum: the windows that can still become the largest, in falling order of their rate.
#[derive(Clone, Debug, Default)]
pub struct Peak {
    candidates: VecDeque<(u64, f64)>,
}

impl Peak {
    /// Adds the window that ends with sample number `window`, at `rate` a second.
    pub fn push(&mut self, window: u64, rate: f64) {
        self.forget(window);
        while self.candidates.back().is_some_and(|(_, smaller)| *smaller <= rate) {
            self.candidates.pop_back();
        }
        if rate > 0.0 {
            self.candidates.push_back((window, rate));
        }
    }

    /// The largest rate, zero when nothing happened for a minute. `window` is the newest sample's number.
    pub fn largest(&self, window: u64) -> f64 {
        self.candidates.iter().find(|(at, _)| at + WINDOWS > window).map_or(0.0, |(_, rate)| *rate)
    }

    fn forget(&mut self, window: u64) {
        while self.candidates.front().is_some_and(|(at, _)| at + WINDOWS <= window) {
            self.candidates.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_the_peak_for_sixty_windows_and_then_forgotten() {
        let mut peak = Peak::default();
        peak.push(1, 900.0);
        for window in 2..=60 {
            peak.push(window, 10.0);
            assert_eq!(peak.largest(window).to_bits(), 900f64.to_bits());
        }
        peak.push(61, 10.0);
        assert_eq!(peak.largest(61).to_bits(), 10f64.to_bits());
    }

    #[test]
    fn the_peak_equals_the_maximum_of_the_last_sixty_windows() {
        let mut peak = Peak::default();
        let rates: Vec<f64> = (0..500u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761) >> 16)).collect();
        for (window, rate) in rates.iter().enumerate() {
            peak.push(window as u64, *rate);
            let expected = rates[window.saturating_sub(59)..=window].iter().copied().fold(0.0, f64::max);
            assert_eq!(peak.largest(window as u64).to_bits(), expected.to_bits());
        }
    }
}
