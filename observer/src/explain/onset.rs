//! Since when something grows, and how fast: the median of all slopes between two days, and the day on which they begin, which neither a wild day
//! nor a step moves.

use crate::history::{GrowthDay, Trend};

/// Half a day at least has to be known of a day that counts: less says little of its peak.
pub(super) const LEAST_COVERED: f64 = 12.0 * 3600.0;
/// A growth needs so many days to be told from noise, and from one day that is out of line.
pub(super) const LEAST_DAYS: usize = 5;
/// A growth that began while somebody watched, so many: in fewer, one day that is out of line looks like one.
const LEAST_GROWING: usize = 7;
/// Less growth a day than this is level, and so is less in all.
const LEAST_A_DAY: f64 = 0.005;
const LEAST_IN_ALL: f64 = 0.1;
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
    /// How many days that are, the first one not counted.
    pub(super) days: u64,
    /// Whether there are days before it, on which it did not grow.
    pub(super) is_seen: bool,
}

impl Onset {
    /// Whether that is a growth, and not noise.
    pub(super) fn is_growth(&self) -> bool {
        self.growth_per_day >= LEAST_A_DAY && self.growth_per_day.ln_1p() * self.days as f64 >= LEAST_IN_ALL.ln_1p()
    }
}

/// Looks for the day that parts the days into some that are level and some that grow evenly, so that what is left over is least. `None` for
/// fewer than five days.
pub(super) fn onset(days: &[GrowthDay], value: fn(&GrowthDay) -> f64) -> Option<Onset> {
    let known = days.iter().filter(|day| day.covered_seconds >= LEAST_COVERED && value(day) > 0.0);
    let known: Vec<_> = known.map(|day| (day.time_unix_seconds, value(day))).collect();
    let tame = tame(&known.iter().map(|(_, value)| value.ln()).collect::<Vec<_>>());
    known.len().checked_sub(LEAST_DAYS)?;
    let last_start = known.len().saturating_sub(LEAST_GROWING);
    let mut best: Option<(f64, Onset)> = None;
    for start in 0..=last_start {
        let (growing, (level, rising)) = (&known[start..], tame.split_at(start));
        let day = |at: usize| growing[at].0 / 86_400;
        let points: Vec<_> = rising.iter().enumerate().map(|(at, value)| (day(at), value.exp())).collect();
        let Some(trend) = Trend::of(&points) else { continue };
        let left = spread(level.iter().copied())
            + spread(
                rising.iter().enumerate().map(|(at, value)| value - day(at) as f64 * trend.growth_per_day.ln_1p()),
            );
        if best.as_ref().is_none_or(|(least, _)| left < least * BETTER - 1e-9) {
            let (since_unix_seconds, then) = growing[0];
            let steepness = Trend::of(&growing.iter().map(|(time, value)| (time / 86_400, *value)).collect::<Vec<_>>());
            let growth_per_day = steepness.map_or(0.0, |trend| trend.growth_per_day);
            let days = growing.last().map_or(0, |(last, _)| (last - since_unix_seconds) / 86_400);
            best = Some((left, Onset { since_unix_seconds, then, growth_per_day, days, is_seen: start > 0 }));
        }
    }
    best.map(|(_, onset)| onset)
}

/// The days without what only one of them has: each is the median of it and its neighbours, the first and the last one that of it, its
/// neighbour, and where those beside it lead to (Tukey's rule).
fn tame(values: &[f64]) -> Vec<f64> {
    let median = |mut three: [f64; 3]| {
        three.sort_by(f64::total_cmp);
        three[1]
    };
    let mut tame = values.to_vec();
    for (at, near) in values.windows(3).enumerate() {
        tame[at + 1] = median([near[0], near[1], near[2]]);
    }
    if let [first, second, third, ..] = &mut *tame {
        *first = median([*first, *second, 3.0 * *second - 2.0 * *third]);
    }
    if let [.., third, second, last] = &mut *tame {
        *last = median([*last, *second, 3.0 * *second - 2.0 * *third]);
    }
    tame
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
        assert!((10..=15).contains(&day) && onset.is_seen && onset.is_growth(), "{onset:?}");
        assert!((onset.growth_per_day - 0.03).abs() < 0.005, "{onset:?}");
    }

    #[test]
    fn a_wild_day_moves_neither_the_day_on_which_it_begins_nor_how_fast_it_grows() {
        let grows = |day: usize| 1.03_f64.powf(day.saturating_sub(12) as f64) * noise(day);
        let calm = onset(&days((0..30).map(grows)), |day| day.peak).unwrap();
        for wild in [0, 3, 11, 14, 20, 28, 29] {
            let values = (0..30).map(|day| if day == wild { 6.0 } else { 1.0 } * grows(day));
            let onset = onset(&days(values), |day| day.peak).unwrap();
            assert!(onset.since_unix_seconds.abs_diff(calm.since_unix_seconds) <= 2 * DAY, "{wild}: {onset:?}");
            assert!((onset.growth_per_day - calm.growth_per_day).abs() < 0.004, "{wild}: {onset:?}");
        }
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
    fn a_day_of_which_little_is_known_does_not_count_and_four_are_too_few() {
        let mut some = days([1.0, 1.0, 9.0, 1.0, 1.0, 1.0].into_iter());
        some[2].covered_seconds = 3600.0;
        assert!(onset(&some, |day| day.peak).unwrap().growth_per_day.abs() < 1e-9);
        assert_eq!(onset(&some[..5], |day| day.peak), None);
        assert_eq!(onset(&[], |day| day.peak), None);
    }

    #[test]
    fn neither_a_step_nor_a_wild_last_day_is_a_growth() {
        let step = |day: usize| if day < 20 { 1.0 } else { 2.0 } * noise(day);
        let wild = |day: usize| if day < 29 { 1.0 } else { 5.0 } * noise(day);
        let weekly = |day: usize| if day % 7 < 5 { 2.0 } else { 1.0 } * noise(day);
        for values in [days((0..30).map(step)), days((0..30).map(wild)), days((0..30).map(weekly))] {
            let onset = onset(&values, |day| day.peak).unwrap();
            assert!(!onset.is_growth(), "{onset:?}");
        }
    }
}
