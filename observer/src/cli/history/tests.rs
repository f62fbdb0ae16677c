//! What is printed, from answers that are made up here.

use super::*;
use crate::history::{HistoryRow, KnownWorkload};
use std::net::TcpListener;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const START: u64 = 1_780_012_800; // 2026-05-29 00:00 UTC

fn answer(metric: &str, step: u64, rows: impl Iterator<Item = (u64, f64)>) -> HistoryAnswer {
    let rows: Vec<_> = rows
        .map(|(time_unix_seconds, value)| HistoryRow { time_unix_seconds, covered_seconds: step as f64, value })
        .collect();
    HistoryAnswer {
        node: "worker-1".into(),
        of: "workload".into(),
        workload: Some(KnownWorkload {
            namespace: "shop".into(),
            workload: "web".into(),
            workload_type: "deployment".into(),
            last_seen_unix_seconds: START,
        }),
        metric: metric.into(),
        unit: "bytes_per_second".into(),
        step_seconds: step,
        since_unix_seconds: START,
        until_unix_seconds: START + 30 * DAY,
        kept_in: "disk".into(),
        rows,
    }
}

/// Thirty days whose peaks grow by 3 % a day under a flat mean.
fn incident() -> (HistoryAnswer, HistoryAnswer) {
    let hours = || (0..30 * 24_u64).map(|hour| START + hour * HOUR).zip(0_u64..);
    let peak =
        hours().map(|(time, hour)| (time, if hour % 24 == 5 { 8e6 * 1.03_f64.powf(hour as f64 / 24.0) } else { 1e5 }));
    (answer("egress_peak", HOUR, peak), answer("egress_mean", HOUR, hours().map(|(time, _)| (time, 2e5))))
}

#[test]
fn a_peak_that_grows_by_three_percent_under_a_flat_mean_is_told_in_a_line() {
    let (peak, mean) = incident();
    let text = report(&peak, &mean, Metric::Egress, 100);
    assert!(
        text.starts_with("egress_peak of deployment shop/web on worker-1, 2026-05-29 00:00 to 2026-06-28 00:00 UTC\n"),
        "{text}"
    );
    assert!(text.contains("egress_peak grew 3.0 % a day over 30 days; egress_mean grew 0.0 % a day\n"), "{text}");
    let text = report(&mean, &peak, Metric::Egress, 100);
    assert!(text.contains("egress_mean grew 0.0 % a day over 30 days; egress_peak grew 3.0 % a day\n"), "{text}");
}

#[test]
fn the_table_fits_a_screen_and_the_plot_its_columns() {
    let (peak, mean) = incident();
    for columns in [40, 80, 160] {
        let text = report(&peak, &mean, Metric::Egress, columns);
        let table = text.lines().skip(1).take_while(|line| !line.is_empty()).count();
        assert!((20..=33).contains(&table), "{table} lines");
        let widest = text.lines().filter(|line| line.contains('│')).map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= columns && widest > columns / 2), "{widest:?} of {columns}");
        assert!(!text.contains('\u{1b}'), "no colours");
    }
    let text = report(&peak, &mean, Metric::Egress, 100);
    assert!(text.contains("\n2026-05-29 00:00  200.0 kB/s    8.0 MB/s\n"), "{text}");
}

#[test]
fn the_plot_grows_with_the_rows_and_leaves_gaps() {
    let rows = [(0, 1.0), (1, 2.0), (2, 4.0), (5, 8.0), (6, 0.0)];
    let answer = answer("load_mean", 60, rows.into_iter().map(|(at, value)| (START + at * 60, value)));
    let text = plot::render(&answer, Metric::Load, 80);
    let lines: Vec<Vec<char>> =
        text.lines().take(10).map(|line| line.split('│').nth(1).unwrap_or_default().chars().collect()).collect();
    // Filled cells of a column from the bottom.
    let height = |column: usize| lines.iter().filter(|line| line.get(column).is_some_and(|cell| *cell == '█')).count();
    assert_eq!((0..7).map(height).collect::<Vec<_>>(), [1, 2, 5, 0, 0, 10, 0]);
    assert_eq!((lines[9][3], lines[9][4], lines[9][6]), (' ', ' ', '_'), "a gap is no zero");
    assert!(text.contains("8.000 │") && text.contains("0.000 │"), "{text}");
}

#[test]
fn short_ranges_have_no_trend_and_empty_ones_no_table() {
    let rows = || (0..60_u64).map(|minute| (START + minute * 60, 1.0));
    let text = report(&answer("load_peak", 60, rows()), &answer("load_mean", 60, rows()), Metric::Load, 80);
    assert!(text.contains("no trend: it takes three days"), "{text}");
    let none = answer("memory_peak", 60, std::iter::empty());
    let text = report(&none, &none, Metric::Memory, 80);
    assert!(text.contains("no rows: this agent does not read the memory"), "{text}");
}

#[test]
fn a_heading_says_whose_history_it_is() {
    let web = answer("load_mean", 1, [].into_iter());
    let of = |of: &str| heading(&HistoryAnswer { of: of.into(), workload: None, ..web.clone() });
    assert!(heading(&web).starts_with("load_mean of deployment shop/web on worker-1, "), "{}", heading(&web));
    assert!(of("node").starts_with("load_mean of the node worker-1, "), "{}", of("node"));
    assert!(of("other").starts_with("load_mean of the workloads without a place of their own on worker-1, "));
}

#[test]
fn values_have_a_unit_that_fits() {
    for (value, metric, expected) in [
        (0.0, Metric::Egress, "0.0 B/s"),
        (999.96, Metric::Egress, "1.0 kB/s"),
        (12_345_678.0, Metric::Ingress, "12.3 MB/s"),
        (3e13, Metric::Memory, "30.0 TB"),
        (0.12345, Metric::Wait, "0.123"),
    ] {
        assert_eq!(number::value(value, metric), expected);
    }
}

#[test]
fn what_shrinks_is_said_to_shrink() {
    let trend = |growth_per_day| grown(Trend { growth_per_day, days: 9 });
    assert_eq!(trend(0.0304), "grew 3.0 % a day");
    assert_eq!(trend(-0.021), "shrank 2.1 % a day");
    assert_eq!(trend(-0.0004), "grew 0.0 % a day");
}

#[test]
fn nobody_who_listens_is_told_with_what_to_do() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client::ask::<HistoryAnswer>(&address.to_string(), "/").unwrap_err().to_string();
    assert!(error.contains(&format!("no agent listens on {address}")) && error.contains("port-forward"), "{error}");
}

#[test]
fn an_agents_address_is_a_plain_one_with_a_port() {
    for right in ["http://127.0.0.1:9811", "http://127.0.0.1:9811/"] {
        assert_eq!(client::authority(right).as_deref(), Ok("127.0.0.1:9811"));
    }
    for wrong in [
        "127.0.0.1:9811",
        "https://127.0.0.1:9811",
        "http://127.0.0.1",
        "http://127.0.0.1:9811/metrics",
        "http://me@127.0.0.1:9811",
        "x y",
    ] {
        assert!(client::authority(wrong).is_err_and(|error| error.contains("wanted: http://ADDRESS:PORT")), "{wrong}");
    }
}

#[test]
fn somebody_else_who_listens_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n").unwrap();
    });
    let error = client::ask::<HistoryAnswer>(&address.to_string(), "/").unwrap_err().to_string();
    assert!(error.contains("status 404") && error.contains("9811"), "{error}");
    server.join().unwrap();
}

#[test]
fn a_step_that_does_not_reach_as_far_back_as_was_asked_is_told() {
    let minutes = (0..60).map(|at| (START + 29 * DAY + at * 60, 1.0));
    let (mean, peak) = (answer("load_mean", 60, minutes.clone()), answer("load_peak", 60, minutes));
    let text = report(&mean, &peak, Metric::Load, 80);
    assert!(text.contains("\nrows of 1m are kept for a day only; ask for --step 1h\n"), "{text}");
    assert!(text.ends_with("no trend: it takes three days with a value, and there are 0\n"), "{text}");
    let hours = || answer("load_mean", HOUR, (0..2).map(|at| (START + at * HOUR, 1.0)));
    let text = report(&hours(), &hours(), Metric::Load, 80);
    assert!(!text.contains("are kept for"), "{text}");
    // The two ends of a plot of two columns.
    assert!(text.contains("\n2026-05-29 00:00 to 2026-05-29 02:00\n"), "{text}");
}
