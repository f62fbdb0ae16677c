//! Forty days through the real store in seconds, and what is seen of the incident: peaks that grow by 3 % a day under a mean
//! that does not.

use super::fixture::{Kept, START, deployment, sends, window, workload};
use crate::history::{GrowthQuery, Metric, Step, Trend, daily_maxima, daily_means};
use std::fs;

const DAYS: u64 = 40;

/// What the burst of a second sends on a day, and what is sent at other times so that the mean stays.
fn burst(minute: u64) -> f64 {
    4e6 * 1.03_f64.powf(minute as f64 / 1440.0)
}

/// Drives `count` workloads through `days`: each minute is a window of a second and one of 59, and each hour a commit.
pub(super) fn simulate(kept: &mut Kept, count: usize, days: u64) {
    let keys: Vec<_> = (0..count).map(|number| deployment(&format!("w{number}"))).collect();
    kept.write();
    for minute in 0..days * 1440 {
        let at = START + minute * 60;
        // A burst every ten minutes, after which less is sent: 300 MB in ten minutes in all.
        let bursts = minute % 10 == 3;
        let sum = 300e6;
        let rest = if bursts { (sum / 10.0 - burst(minute)).max(0.0) / 59.0 } else { sum / 600.0 };
        let first = if bursts { burst(minute) } else { rest };
        for (from, elapsed, bytes) in [(at, 1, first), (at + 1, 59, rest)] {
            let rows: Vec<_> = keys
                .iter()
                .enumerate()
                .map(|(number, key)| (key, sends(if number == 0 { bytes } else { 1e3 + number as f64 })))
                .collect();
            window(&mut kept.history, from, elapsed * 1000, &rows);
        }
        if minute % 60 == 59 {
            kept.write();
        }
    }
    kept.write();
}

fn trends(kept: &Kept, name: &str, now: u64) -> (f64, f64, usize) {
    let rows = |metric: &str| -> Vec<(u64, u64, f64)> {
        let answer = kept.answer(&workload(name), metric, Step::Hour, now);
        answer.rows.iter().map(|row| (row.time_unix_seconds, row.covered_seconds as u64, row.value)).collect()
    };
    let (peaks, means) = (rows("egress_peak"), rows("egress_mean"));
    let (peak, mean) = (Trend::of(&daily_maxima(&peaks)).unwrap(), Trend::of(&daily_means(&means)).unwrap());
    (peak.growth_per_day, mean.growth_per_day, peaks.len())
}

#[test]
fn forty_days_are_bounded_and_show_the_peak_that_grows_under_a_flat_mean() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Kept::open(directory.path());
    // Some days more than are kept: the oldest have to go.
    simulate(&mut kept, 4, DAYS + 2);
    let now = START + (DAYS + 2) * 86400;
    let (peak, mean, hours) = trends(&kept, "w0", now);
    assert!((peak - 0.03).abs() < 0.001, "the peak grows by {peak}");
    assert!(mean.abs() < 0.001, "the mean grows by {mean}");
    assert!((DAYS as usize * 24..=DAYS as usize * 24 + 13).contains(&hours), "{hours} hours");
    let minutes = kept.rows("w0", "egress_mean", Step::Minute, now).len();
    assert!((1440..=1440 + 91).contains(&minutes), "{minutes} minutes");
    let bytes = fs::metadata(directory.path().join("history.redb")).unwrap().len();
    assert!(bytes <= 2 * 1024 * 1024, "{bytes} bytes");
    assert_eq!(kept.history.facts().lost_rows, 0);
}

#[test]
fn who_grows_the_most_comes_first_and_its_days_are_those_of_its_rows() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Kept::open(directory.path());
    simulate(&mut kept, 4, 10);
    let now = START + 10 * 86400;
    let (peak, mean, _) = trends(&kept, "w0", now);
    let query = GrowthQuery { metric: Metric::Egress, since_seconds: 30 * 86400, top: 2 };
    let answer = kept.history.gather_growth(query, "node-7", now).answer().unwrap();
    assert_eq!((answer.workloads.len(), answer.more), (2, 2));
    let first = &answer.workloads[0];
    assert_eq!(first.workload.as_ref().unwrap().workload, "w0");
    assert!((first.growth.peak_growth_per_day.unwrap() - peak).abs() < 1e-3, "{first:?}");
    assert!((first.growth.mean_growth_per_day.unwrap() - mean).abs() < 1e-3, "{first:?}");
    assert_eq!(first.growth.days.len(), 10);
    for (number, day) in first.growth.days.iter().enumerate() {
        assert_eq!(day.time_unix_seconds, START + number as u64 * 86400);
        assert!((day.covered_seconds - 86400.0).abs() < 1e-6, "{day:?}");
        // The day's last burst is its largest; rows keep five digits.
        let largest = burst(number as u64 * 1440 + 1433);
        assert!(
            (day.peak / largest - 1.0).abs() < 1e-4 && (day.mean / 500_000.0 - 1.0).abs() < 1e-4,
            "{day:?}, {largest}"
        );
    }
    // The node's row is that of all.
    assert_eq!(answer.all.days.len(), 10);
    // Those that do not grow are not said to.
    assert!(answer.workloads[1].growth.peak_growth_per_day.unwrap().abs() < 1e-6);
    // Two days are no trend.
    let query = GrowthQuery { since_seconds: 2 * 86400, ..query };
    let answer = kept.history.gather_growth(query, "node-7", now).answer().unwrap();
    assert_eq!((answer.all.days.len(), answer.all.peak_growth_per_day), (2, None));
}
