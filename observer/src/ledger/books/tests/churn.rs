//! Months of pods that come and go.

use super::*;

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_cron_job_every_five_seconds_for_a_month_stays_flat_and_its_sum_exact() {
    const RUNS: u64 = 30 * 24 * 3600 / 5;
    let mut ledger = Ledger::default();
    let mut most = (0, 0, 0, 0);
    for run in 1..=RUNS {
        let now = run * 5 * SECOND;
        let (uid, container) = (format!("u{run}"), format!("c{run}"));
        let names = Known::default();
        names.container_at(run, &uid, &container);
        // Every third is named at once, every third after it has ended, every third in between.
        let name = |names: &Known| {
            names.name_pod(&uid, &format!("tick-{run}"), "tick", "cronjob");
            names.name_container(&container, "job");
        };
        if run % 3 == 0 {
            name(&names);
        }
        ledger.book(&bytes(run, 7), &names, now);
        if run % 3 == 1 {
            name(&names);
            ledger.pod_changed(&uid, &names, now + SECOND);
        }
        ledger.cgroup_gone(run, now + SECOND);
        if run % 3 == 2 {
            name(&names);
            ledger.pod_changed(&uid, &names, now + 2 * SECOND);
        }
        ledger.expire(now);
        most = (
            most.0.max(ledger.entities().len()),
            most.1.max(ledger.by_cgroup.len()),
            most.2.max(ledger.workloads().len()),
            most.3.max(ledger.pods.len()),
        );
    }
    let tick = workload(&ledger, "tick").unwrap();
    assert_eq!((sum(&tick.books), tick.pods_started, tick.pods), (7 * RUNS, RUNS, 0));
    // Two minutes of runs, and `unattributed`.
    assert!(most.0 <= 27 && most.1 <= 26 && most.2 == 1 && most.3 <= 26, "{most:?}");
}

#[test]
fn workloads_whose_pods_come_once_go_after_two_minutes_and_the_others_after_a_day() {
    let names = Known::default();
    let mut ledger = Ledger::default();
    for (at, kind) in [(1, "job"), (2, "pod"), (3, "cronjob"), (4, "deployment")] {
        names.container_at(at, &format!("u{at}"), &format!("c{at}"));
        names.name_pod(&format!("u{at}"), &format!("p{at}"), kind, kind);
        ledger.book(&bytes(at, 1), &names, 1);
        ledger.cgroup_gone(at, SECOND);
    }
    let kinds = |ledger: &Ledger| {
        let names = ledger.workloads().iter().filter_map(|workload| workload.names.as_ref());
        names.map(|key| key.workload.kind.to_string()).collect::<Vec<_>>()
    };
    ledger.expire(SECOND + KEEP_NS - 1);
    assert_eq!(kinds(&ledger).len(), 4);
    ledger.expire(SECOND + KEEP_NS);
    assert_eq!(kinds(&ledger), ["cronjob", "deployment"]);
    ledger.expire(26 * 3600 * SECOND);
    assert_eq!(kinds(&ledger).len(), 0);
}
