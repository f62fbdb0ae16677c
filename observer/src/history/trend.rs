//! How much something grows, day by day: the median of the slopes between any two days, in the logarithms (Theil and Sen).
//!
//! What grows by 3 % a day is a straight line there, and neither a wild day nor a quarter of them moves it. A day is 24 hours counted back
//! from the newest row, so that the last is whole.

pub(super) const DAY: u64 = 24 * 3600;
/// A day with rows for less time says little of its maximum.
pub(super) const LEAST_COVERED: u64 = DAY / 2;
/// Fewer days are no trend.
const LEAST_DAYS: usize = 3;

/// A trend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// What is added each day, as a share: 0.03 is 3 %.
    pub growth_per_day: f64,
    /// How many days it is made of.
    pub days: usize,
}

impl Trend {
    /// The trend of days, each with its number and value. `None` for fewer than three that are not zero.
    pub fn of(days: &[(u64, f64)]) -> Option<Self> {
        let known = days.iter().filter(|(_, value)| *value > 0.0 && value.is_finite());
        let points: Vec<(u64, f64)> = known.map(|(day, value)| (*day, value.ln())).collect();
        if points.len() < LEAST_DAYS {
            return None;
        }
        let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
        for (at, (day, value)) in points.iter().enumerate() {
            let others = points[at + 1..].iter().filter(|(other, _)| other != day);
            slopes.extend(others.map(|(other, its)| (its - value) / (*other as f64 - *day as f64)));
        }
        Some(Self { growth_per_day: median(&mut slopes)?.exp_m1(), days: points.len() })
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    let is_even = values.len().is_multiple_of(2);
    let (_, lower, above) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = above.iter().copied().min_by(f64::total_cmp).filter(|_| is_even);
    Some(f64::midpoint(*lower, upper.unwrap_or(*lower)))
}

/// The largest value of each day that is covered by rows for at least half of it. A row is its time, how many seconds it covers,
/// and its value; the days are numbered, the oldest of the range lowest.
pub fn daily_maxima(rows: &[(u64, u64, f64)]) -> Vec<(u64, f64)> {
    daily(rows, |before, value, _| before.max(value), |largest, _| largest)
}

/// The mean of each such day.
pub fn daily_means(rows: &[(u64, u64, f64)]) -> Vec<(u64, f64)> {
    daily(rows, |before, value, covered| before + value * covered, |sum, covered| sum / covered)
}

fn daily(
    rows: &[(u64, u64, f64)],
    add: impl Fn(f64, f64, f64) -> f64,
    finish: impl Fn(f64, f64) -> f64,
) -> Vec<(u64, f64)> {
    let Some(newest) = rows.iter().map(|(time, covered, _)| time + covered).max() else { return Vec::new() };
    let mut days = std::collections::BTreeMap::<u64, (u64, f64)>::new();
    for (time, covered, value) in rows {
        let day = u64::MAX / DAY - (newest - time.saturating_add(1).min(newest)) / DAY;
        let (covered_so_far, so_far) = days.entry(day).or_default();
        *covered_so_far += covered;
        *so_far = add(*so_far, *value, *covered as f64);
    }
    let whole = days.into_iter().filter(|(_, (covered, _))| *covered >= LEAST_COVERED);
    whole.map(|(day, (covered, value))| (day, finish(value, covered as f64))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(days: u64, value: impl Fn(u64) -> f64) -> Vec<(u64, u64, f64)> {
        (0..days * 24).map(|hour| (1_700_000_000 + hour * 3600, 3600, value(hour))).collect()
    }

    #[test]
    fn three_percent_a_day_are_found_again_under_noise() {
        // One hour a day has the day's burst; each day's is off by up to 5 %.
        let burst = |hour: u64| if hour % 24 == 7 { 1e6 * 1.03_f64.powf(hour as f64 / 24.0) } else { 1e4 };
        let noise = |hour: u64| 1.0 + 0.05 * ((hour / 24 * 7919 % 13) as f64 / 6.0 - 1.0);
        let maxima = daily_maxima(&rows(30, |hour| burst(hour) * noise(hour)));
        assert_eq!(maxima.len(), 30);
        let trend = Trend::of(&maxima).unwrap();
        assert!((trend.growth_per_day - 0.03).abs() < 0.003, "{trend:?}");
        assert_eq!(trend.days, 30);
    }

    #[test]
    fn a_wild_day_moves_nothing() {
        let grows = |day: u64| (day, 1.03_f64.powf(day as f64));
        for wild in [0, 15, 29] {
            let days: Vec<_> =
                (0..30).map(grows).map(|(day, value)| (day, if day == wild { 6.0 * value } else { value })).collect();
            let trend = Trend::of(&days).unwrap();
            assert!((trend.growth_per_day - 0.03).abs() < 0.001, "{wild}: {trend:?}");
        }
    }

    #[test]
    fn of_slopes_the_middle_one_counts_or_what_is_between_the_two() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 8.0]), Some(3.0));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn what_is_flat_does_not_grow_and_what_shrinks_shrinks() {
        let flat = Trend::of(&daily_means(&rows(20, |_| 5.0))).unwrap();
        assert!(flat.growth_per_day.abs() < 1e-9);
        let falling = Trend::of(&daily_maxima(&rows(20, |hour| 0.9_f64.powf((hour / 24) as f64)))).unwrap();
        assert!((falling.growth_per_day + 0.1).abs() < 1e-6, "{falling:?}");
    }

    #[test]
    fn two_days_are_no_trend_and_neither_is_silence() {
        assert_eq!(Trend::of(&daily_maxima(&rows(2, |_| 1.0))), None);
        assert_eq!(Trend::of(&daily_maxima(&rows(20, |_| 0.0))), None);
        assert_eq!(Trend::of(&[]), None);
    }

    #[test]
    fn a_day_of_which_little_is_known_does_not_count() {
        let mut some = rows(10, |_| 1.0);
        some.retain(|(time, _, _)| (time - 1_700_000_000) / 86400 != 4 || (time - 1_700_000_000) % 86400 < 6 * 3600);
        assert_eq!(daily_maxima(&some).len(), 9);
    }

    #[test]
    fn a_mean_is_weighted_by_what_it_covers() {
        let day: Vec<_> =
            (0..24).map(|hour| (hour * 3600, if hour < 12 { 3600 } else { 1800 }, f64::from(hour < 12))).collect();
        let means = daily_means(&day);
        assert!((means[0].1 - 2.0 / 3.0).abs() < 1e-9, "{means:?}");
    }
}
