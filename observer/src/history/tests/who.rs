//! Who has rows, when there are more than there is room for.

use super::fixture::{Kept, START, deployment, key, sends, window, workload};
use crate::{
    history::{History, MAX_KNOWN, Step, Subject},
    ledger::WorkloadKey,
};

#[test]
fn a_job_a_minute_for_forty_days_is_forgotten_in_turn_and_who_stays_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let web = deployment("web");
    let mut kept = Kept::open(directory.path());
    kept.write();
    for number in 0..3 * MAX_KNOWN as u64 {
        let job = key("batch", &format!("run-{number}"), "job");
        kept.second(START + number, &[(&web, sends(5.0)), (&job, sends(1.0))]);
        if number % 50 == 0 {
            kept.write();
        }
    }
    kept.write();
    let facts = kept.history.facts();
    assert!(facts.workloads as usize <= MAX_KNOWN, "{facts:?}");
    assert!(facts.forgotten_workloads >= 2 * MAX_KNOWN as u64, "{facts:?}");
    drop(kept);
    let mut again = Kept::open(directory.path());
    again.write();
    let now = START + 3 * MAX_KNOWN as u64;
    again.second(now, &[(&web, sends(5.0))]);
    let known = again.history.known_workloads("node-7").workloads;
    assert!(known.len() <= MAX_KNOWN && known.len() > MAX_KNOWN / 2, "{}", known.len());
    assert!(known.iter().any(|known| known.workload == "web"), "the one that stays");
    assert!(!known.iter().any(|known| known.workload == "run-0"), "the first job");
    assert_eq!(again.rows("web", "egress_mean", Step::Hour, now).len(), 1 + (now - START) as usize / 3600);
}

#[test]
fn beyond_the_places_the_smallest_share_a_row_which_is_counted() {
    let all: Vec<WorkloadKey> = (0..1500).map(|number| deployment(&format!("w{number}"))).collect();
    let rows: Vec<_> = all.iter().zip(1..).map(|(key, bytes)| (key, sends(f64::from(bytes)))).collect();
    let mut history = History::in_memory();
    window(&mut history, START, 1000, &rows);
    let value = |subject: &Subject| {
        let gather = super::fixture::gather(&history, subject, "egress_mean", Step::Second, START + 1);
        gather.answer().unwrap().rows.first().map_or(0.0, |row| row.value)
    };
    let shared: f64 = (1..=1500 - 1024).map(f64::from).sum();
    assert!((value(&Subject::Other) / shared - 1.0).abs() < 1e-4, "{}", value(&Subject::Other));
    assert!((value(&workload("w1499")) - 1500.0).abs() < 0.1);
    assert!(value(&workload("w0")).abs() < f64::EPSILON, "no row of its own");
    assert_eq!(history.facts().shared_rows, 1500 - 1024);
}

#[test]
fn in_memory_only_there_is_a_bound_and_no_row_counts_as_lost() {
    let all: Vec<WorkloadKey> = (0..250).map(|number| deployment(&format!("w{number}"))).collect();
    let rows: Vec<_> = all.iter().zip(1..).map(|(key, bytes)| (key, sends(f64::from(bytes)))).collect();
    let mut history = History::in_memory();
    for second in 0..4000 {
        window(&mut history, START + second, 1000, &rows);
    }
    let facts = history.facts();
    assert!(facts.waiting_bytes <= 512 * 1024 && facts.waiting_bytes > 200 * 1024, "{facts:?}");
    assert_eq!((facts.lost_rows, facts.on_disk, facts.down_because), (0, false, None));
}
