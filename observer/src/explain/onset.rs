//! Since when something grows.

use crate::history::{GrowthDay, Trend};

/// Half a day at least has to be known of a day that counts: less says little of its peak.
const LEAST_COVERED: f64 = 12.0 * 3600.0;
/// A growth needs so many days to be told from noise.
const LEAST_DAYS: usize = 3;
/// A later start has to explain the days so much better than an earlier one.
const BETTER: f64 = 0.8;

/// A growth, from a day on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Onset {
    /// The first day of it.
    pub(super) since_unix_seconds: u64,
    /// What that day had.
    pub(super) then: f64,
    /// How much is added each day from then on.
    pub(super) growth_per_day: f64,
    /// Whether there are days before it, on which it did not grow.
    pub(super) is_seen: bool,
}

/// Looks for the day that parts the days into some that are level and some that grow evenly, so that what is left over is least. `None` for
/// fewer than three days.
pub(super) fn onset(days: &[GrowthDay], value: fn(&GrowthDay) -> f64) -> Option<Onset> {
    let known: Vec<_> = days
        .iter()
        .filter(|day| day.covered_seconds >= LEAST_COVERED && value(day) > 0.0)
        .map(|day| (day.time_unix_seconds, value(day)))
        .collect();
    let last_start = known.len().checked_sub(LEAST_DAYS)?;
    let mut best: Option<(f64, Onset)> = None;
    for start in 0..=last_start {
        let (level, growing) = known.split_at(start);
        let points: Vec<_> = growing.iter().map(|(time, value)| (time / 86_400, *value)).collect();
        let Some(trend) = Trend::of(&points) else { continue };
        let left = spread(level.iter().map(|(_, value)| value.ln()))
            + spread(points.iter().map(|(day, value)| value.ln() - *day as f64 * trend.growth_per_day.ln_1p()));
        if best.as_ref().is_none_or(|(least, _)| left < least * BETTER - 1e-9) {
            let (since_unix_seconds, then) = growing[0];
            let growth_per_day = trend.growth_per_day;
            best = Some((left, Onset { since_unix_seconds, then, growth_per_day, is_seen: start > 0 }));
        }
    }
    best.map(|(_, onset)| onset)
}

/// The sum of squares about the mean.
fn spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count();
    if count == 0 {
        return 0.0;
    }
    let mean = values.clone().sum::<f64>() / count as f64;
    values.map(|value| (value - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn days(values: impl Iterator<Item = f64>) -> Vec<GrowthDay> {
        let day = |(number, peak)| GrowthDay {
            time_unix_seconds: (20_000 + number as u64) * DAY,
            covered_seconds: DAY as f64,
            mean: 1.0,
            peak,
        };
        values.enumerate().map(day).collect()
    }

    fn noise(day: usize) -> f64 {
        1.0 + 0.03 * ((day * 7919 % 13) as f64 / 6.0 - 1.0)
    }

    #[test]
    fn the_day_on_which_a_growth_begins_is_found_under_noise() {
        let grows = |day: usize| 1.03_f64.powf(day.saturating_sub(12) as f64) * noise(day);
        let onset = onset(&days((0..30).map(grows)), |day| day.peak).unwrap();
        let day = onset.since_unix_seconds / DAY - 20_000;
        assert!((10..=15).contains(&day) && onset.is_seen, "{onset:?}");
        assert!((onset.growth_per_day - 0.03).abs() < 0.005, "{onset:?}");
    }

    #[test]
    fn what_grows_all_the_time_grows_since_the_first_day() {
        let onset = onset(&days((0..30).map(|day| 1.03_f64.powf(day as f64) * noise(day))), |day| day.peak).unwrap();
        assert_eq!((onset.since_unix_seconds, onset.is_seen), (20_000 * DAY, false));
    }

    #[test]
    fn what_is_level_does_not_grow() {
        let onset = onset(&days((0..30).map(noise)), |day| day.peak).unwrap();
        assert!(onset.growth_per_day.abs() < 0.01, "{onset:?}");
    }

    #[test]
    fn a_day_of_which_little_is_known_does_not_count_and_two_are_too_few() {
        let mut some = days([1.0, 1.0, 9.0, 1.0].into_iter());
        some[2].covered_seconds = 3600.0;
        assert!(onset(&some, |day| day.peak).unwrap().growth_per_day.abs() < 1e-9);
        assert_eq!(onset(&some[..3], |day| day.peak), None);
        assert_eq!(onset(&[], |day| day.peak), None);
    }
}
