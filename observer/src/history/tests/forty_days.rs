//! Forty days through the real store in seconds, and what is seen of the incident: peaks that grow by 3 % a day under a mean
//! that does not.

use super::fixture::{Kept, START, deployment, key, sends, window, workload};
use crate::{
    explain::{Evidence, choose},
    history::{GrowthQuery, Metric, Step, Trend, daily_maxima, daily_means, reading},
    ledger::WorkloadKey,
    server::{PairsAnswer, SnapshotAnswer},
};
use std::{fs, path::PathBuf};

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

/// A month of hours that ends at `end`: a workload that sends a burst now and then, from its tenth day on 3 % more each day and as much in all, beside
/// one that is larger and level.
fn month(kept: &mut Kept, end: u64, [grows, level]: &[WorkloadKey; 2]) {
    kept.write();
    let start = end - end % 3600 - 30 * 86_400;
    for hour in 0..30 * 24 {
        let at = start + hour * 3600;
        let days = (hour as f64 / 24.0 - 10.0).max(0.0);
        let burst = 17e6 * 1.03_f64.powf(days);
        let rest = (1.5e6 * 3600.0 - burst) / 3599.0;
        let daily = 1.0 + 0.3 * (hour as f64 / 24.0 * std::f64::consts::TAU).sin();
        let busy = |sent: f64, load: f64| reading([Some(sent), Some(2e4), Some(load), Some(load / 10.0), Some(6e7)]);
        for (from, seconds, sent, load) in [(at, 1, burst, 0.8), (at + 1, 3599, rest, 0.2)] {
            let rows = [(grows, busy(sent, load)), (level, busy(6e6 * daily, 0.5 * daily))];
            window(&mut kept.history, from, seconds * 1000, &rows);
        }
        if hour % 24 == 23 {
            kept.write();
        }
    }
    kept.write();
}

#[test]
fn who_grows_under_a_flat_mean_is_explained_first_and_since_the_day_on_which_it_began() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Kept::open(directory.path());
    let end = START + 30 * 86_400;
    month(&mut kept, end, &[deployment("report"), deployment("web")]);
    let growth = |metric| {
        let query = GrowthQuery { metric, since_seconds: 30 * 86_400, top: 100 };
        kept.history.gather_growth(query, "node-7", end).answer().unwrap()
    };
    let evidence = Evidence {
        snapshot: SnapshotAnswer::default(),
        egress: growth(Metric::Egress),
        load: growth(Metric::Load),
        pairs: PairsAnswer::default(),
    };
    let suspects = choose(&evidence, 10);
    let names: Vec<_> = suspects.iter().map(|suspect| suspect.name.as_str()).collect();
    assert_eq!(names, ["shop/report"], "what is level and not there is no suspect");
    let egress = &suspects[0].egress;
    let days = (end - egress.since_unix_seconds.unwrap()) / 86_400;
    assert!((19..=21).contains(&days) && egress.is_onset_seen, "{egress:?}");
    assert!((egress.peak_growth_per_day.unwrap() - 0.03).abs() < 0.002, "{egress:?}");
    assert!(egress.mean_growth_per_day.unwrap().abs() < 1e-4, "{egress:?}");
}

/// For docs/incident.md: such a month, up to now, in the directory that `OBSERVER_MONTH` names.
#[test]
#[ignore = "writes where it is told to"]
fn a_month_that_ends_now() {
    let directory = PathBuf::from(std::env::var_os("OBSERVER_MONTH").expect("OBSERVER_MONTH is a directory"));
    let mut kept = Kept::open(&directory);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    month(&mut kept, now, &[key("vendor", "metrics-agent", "daemonset"), deployment("web")]);
}
