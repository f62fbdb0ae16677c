//! What another agent finds in the directory.

use super::fixture::{Kept, START, deployment, key, open_again, sends, workload};
use crate::history::{History, StateDir, StateError, Step, Subject};
use std::time::{Duration, Instant};

#[test]
fn an_interrupted_minute_and_hour_go_on_where_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let (web, api) = (deployment("web"), deployment("api"));
    let mut kept = Kept::open(directory.path());
    kept.write();
    for second in 0..90 {
        kept.second(START + second, &[(&web, sends(100.0)), (&api, sends(1.0))]);
        kept.write();
    }
    // No goodbye.
    drop(kept);
    let mut again = Kept::open(directory.path());
    again.write();
    // In another order, so that numbers that are given anew would be others.
    for second in 100..3700 {
        again.second(START + second, &[(&api, sends(1.0)), (&web, sends(100.0))]);
        again.write();
    }
    let now = START + 3700;
    let minutes = again.answer(&workload("web"), "egress_mean", Step::Minute, now);
    assert!(minutes.rows.iter().all(|row| (row.value - 100.0).abs() < 0.01), "{:?}", minutes.rows);
    let second = minutes.rows[1];
    assert_eq!(second.time_unix_seconds, START + 60);
    assert!((second.covered_seconds - 50.0).abs() <= 5.0, "{second:?}: ten seconds nobody watched, five may be lost");
    let hours = again.answer(&workload("web"), "egress_mean", Step::Hour, now);
    assert_eq!(hours.rows.len(), 2);
    assert!((hours.rows[0].covered_seconds - 3590.0).abs() <= 5.0, "{:?}", hours.rows[0]);
    assert!(again.rows("api", "egress_peak", Step::Hour, now).iter().all(|(_, value)| (value - 1.0).abs() < 0.01));
}

#[test]
fn what_came_before_the_database_was_open_is_written_under_its_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let (web, api, new) = (deployment("web"), deployment("api"), deployment("new"));
    let mut kept = Kept::open(directory.path());
    kept.write();
    for second in 0..20 {
        kept.second(START + second, &[(&web, sends(100.0)), (&api, sends(1.0))]);
        kept.write();
    }
    drop(kept);
    let mut again = Kept::open(directory.path());
    for second in 20..40 {
        again.second(START + second, &[(&new, sends(7.0)), (&api, sends(1.0)), (&web, sends(100.0))]);
    }
    // Only now.
    again.write();
    for second in 40..60 {
        again.second(START + second, &[(&new, sends(7.0)), (&api, sends(1.0)), (&web, sends(100.0))]);
        again.write();
    }
    for (name, value, from) in [("web", 100.0, 0), ("api", 1.0, 0), ("new", 7.0, 20)] {
        let rows = again.rows(name, "egress_mean", Step::Second, START + 60);
        assert_eq!(rows.first().map(|(time, _)| *time), Some(START + from), "{name}");
        assert_eq!(rows.len() as u64, 60 - from, "{name}");
        assert!(rows.iter().all(|(_, found)| (found - value).abs() < 0.01), "{name}: {rows:?}");
        let minutes = again.answer(&workload(name), "egress_peak", Step::Minute, START + 60);
        assert!((minutes.rows[0].covered_seconds - 60.0).abs() < 1e-6 && minutes.rows.len() == 1, "{:?}", minutes.rows);
    }
}

#[test]
fn a_second_agent_on_a_directory_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let kept = Kept::open(directory.path());
    let error = StateDir::open(directory.path(), None).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("is in use by another agent; give each"), "{error}");
    let other = History::without_store(error.to_string());
    assert_eq!(other.facts().down_because, Some(error.to_string()));
    drop(kept);
    open_again(directory.path());
}

#[test]
fn the_thread_writes_by_itself_and_all_of_it_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let Kept { mut history, writer } = Kept::open(directory.path());
    writer.start().unwrap();
    let web = deployment("web");
    for second in 0..17 {
        super::fixture::window(&mut history, START + second, 1000, &[(&web, sends(5.0))]);
    }
    let began = Instant::now();
    while history.facts().down_because.is_some() {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", history.facts());
        std::thread::sleep(Duration::from_millis(5));
    }
    history.end();
    history.wait_for_the_end(Instant::now() + Duration::from_secs(30));
    drop(history);
    let mut again = Kept::open(directory.path());
    again.write();
    again.second(START + 17, &[(&web, sends(5.0))]);
    assert_eq!(again.rows("web", "egress_mean", Step::Second, START + 60).len(), 18);
}

#[test]
fn two_workloads_of_one_name_are_told_apart_by_their_kind() {
    let directory = tempfile::tempdir().unwrap();
    let (job, deployment) = (key("shop", "web", "cronjob"), key("shop", "web", "deployment"));
    let mut kept = Kept::open(directory.path());
    kept.second(START, &[(&job, sends(1.0)), (&deployment, sends(2.0))]);
    let ask = |kind: Option<&str>, name: &str| {
        let subject = Subject::Workload { namespace: "shop".into(), name: name.into(), kind: kind.map(str::to_owned) };
        let query = crate::history::HistoryQuery {
            subject,
            selection: "egress_mean".parse().unwrap(),
            since_seconds: 60,
            step: None,
        };
        kept.history.gather(&query, "node-7", START + 1)
    };
    let error = ask(None, "web").unwrap_err();
    assert_eq!(error.kind, "ambiguous_workload");
    assert!(error.message.contains("cronjob") && error.message.contains("deployment"), "{error}");
    let rows = ask(Some("cronjob"), "web").unwrap().answer().unwrap().rows;
    assert!((rows[0].value - 1.0).abs() < 1e-3);
    let error = ask(None, "wep").unwrap_err();
    assert!(error.kind == "unknown_workload" && error.message.contains("/api/v1/history/workloads"), "{error}");
}
