use super::*;
use crate::{
    history::{Growth, GrowthAnswer, GrowthDay, KnownWorkload, WorkloadGrowth},
    server::{Averages, Doings, EntityRow, FlowRow, Pair, PairsAnswer, SnapshotAnswer, Who},
};

const DAY: u64 = 86_400;

fn who(workload: &str, number: usize) -> Who {
    Who {
        namespace: Some("shop".into()),
        pod: Some(format!("{workload}-{number}")),
        container: Some("main".into()),
        workload: Some(workload.into()),
        workload_type: Some("deployment".into()),
        cgroup: None,
        node: None,
    }
}

fn row(entity: Who, sends: f64, load1: f64) -> EntityRow {
    let now = Doings {
        transmit_bytes_per_second: sends,
        transmit_peak_bytes_per_second: 2.0 * sends,
        load: Averages { load1, ..Averages::default() },
        ..Doings::default()
    };
    EntityRow { entity, now, ..EntityRow::default() }
}

fn growth(values: impl Fn(i32) -> f64) -> Growth {
    let days = (0..30).map(|day| GrowthDay {
        time_unix_seconds: (20_000 + day as u64) * DAY,
        covered_seconds: DAY as f64,
        mean: 100.0,
        peak: values(day),
    });
    Growth { days: days.collect(), ..Growth::default() }
}

fn of(workload: &str, growth: Growth) -> WorkloadGrowth {
    let workload = KnownWorkload {
        namespace: "shop".into(),
        workload: workload.into(),
        workload_type: "deployment".into(),
        last_seen_unix_seconds: 20_030 * DAY,
    };
    WorkloadGrowth { workload: Some(workload), growth }
}

fn answer(metric: &str, workloads: Vec<WorkloadGrowth>) -> GrowthAnswer {
    GrowthAnswer {
        node: "worker-1".into(),
        metric: metric.into(),
        unit: "x".into(),
        since_unix_seconds: 20_000 * DAY,
        until_unix_seconds: 20_030 * DAY,
        kept_in: "disk".into(),
        all: growth(|_| 5000.0),
        workloads,
        more: 0,
    }
}

/// `sync` grows and is small, `web` is large and level, `batch` makes load, `backup` is no pod's.
fn evidence() -> Evidence {
    let entities = vec![
        row(who("web", 1), 9e6, 0.5),
        row(who("web", 2), 1e6, 0.25),
        row(who("sync", 1), 1e5, 0.1),
        row(who("batch", 1), 10.0, 3.0),
        row(Who { cgroup: Some("/backup.service".into()), ..Who::default() }, 5e5, 0.2),
    ];
    let pair = |victim, culprit, wait_seconds| Pair { victim, cause: "entity".into(), culprit, wait_seconds };
    Evidence {
        snapshot: SnapshotAnswer { node: "worker-1".into(), entities, ..SnapshotAnswer::default() },
        egress: answer(
            "egress",
            vec![
                of("sync", growth(|day| 1e6 * 1.03_f64.powi((day - 10).max(0)))),
                of("web", growth(|_| 1e7)),
                of("gone", growth(|day| 1e5 * 1.02_f64.powi(day))),
            ],
        ),
        load: answer("load", vec![of("batch", growth(|day| 3.0 + 0.001 * f64::from(day)))]),
        pairs: PairsAnswer {
            pairs: vec![
                pair(who("web", 1), Some(who("batch", 1)), 80.0),
                pair(who("sync", 1), Some(who("batch", 1)), 40.5),
                pair(who("batch", 1), Some(who("batch", 1)), 1000.0),
                pair(who("web", 1), None, 7.0),
            ],
            ..PairsAnswer::default()
        },
    }
}

fn names(suspects: &[Suspect]) -> Vec<&str> {
    suspects.iter().map(|suspect| suspect.name.as_str()).collect()
}

#[test]
fn what_grows_comes_first_and_then_what_does_the_most_now() {
    let suspects = choose(&evidence(), 10);
    assert_eq!(names(&suspects), ["shop/sync", "shop/gone", "shop/web", "shop/batch", "/backup.service"]);
    assert_eq!(names(&choose(&evidence(), 2)), ["shop/sync", "shop/gone"]);
}

#[test]
fn a_growth_is_told_with_its_first_day_and_the_mean_beside_it() {
    let suspects = choose(&evidence(), 10);
    let sync = &suspects[0].egress;
    assert_eq!(sync.since_unix_seconds, Some(20_010 * DAY));
    assert!(sync.is_onset_seen && sync.grows && sync.days == 30, "{sync:?}");
    assert!((sync.peak_growth_per_day.unwrap() - 0.03).abs() < 1e-6, "{sync:?}");
    assert!(sync.mean_growth_per_day.unwrap().abs() < 1e-9, "{sync:?}");
    assert!((sync.peak_then.unwrap() - 1e6).abs() < 1.0, "{sync:?}");
    let web = &suspects[2].egress;
    assert!(!web.grows && web.peak_now == Some(1e7) && web.since_unix_seconds.is_none(), "{web:?}");
    assert!(!suspects[3].active_tasks.grows, "a thousandth a day is level");
}

#[test]
fn pods_of_a_workload_are_one_and_those_who_waited_for_it_are_others() {
    let suspects = choose(&evidence(), 10);
    let (web, batch) = (&suspects[2], &suspects[3]);
    assert_eq!(web.entities, ["shop/web-1/main", "shop/web-2/main"]);
    assert!((web.now.transmit_bytes_per_second - 1e7).abs() < 1.0 && (web.now.load.load1 - 0.75).abs() < 1e-9);
    assert!((web.now.transmit_peak_bytes_per_second - 1.8e7).abs() < 1.0, "the largest of one");
    assert!((batch.caused_wait_seconds - 120.5).abs() < 1e-9, "not those of its own");
    assert_eq!(batch.sufferer, Some(Sufferer { name: "shop/web-1/main".into(), wait_seconds: 80.0 }));
    assert_eq!(web.sufferer, None);
}

#[test]
fn where_bytes_go_is_told_by_shares_of_its_own_flows() {
    let flow = |entity: Who, address: &str, transmit_bytes| {
        let json = serde_json::json!({
            "entity": entity, "remote_address": address, "protocol": "tcp", "direction": "outbound", "scope": "cluster",
            "transmit_bytes_per_second": 0.0, "receive_bytes_per_second": 0.0, "transmit_bytes": transmit_bytes,
            "transmit_packets": 1, "receive_bytes": 1, "receive_packets": 1,
        });
        serde_json::from_value::<FlowRow>(json).unwrap()
    };
    let mut web = choose(&evidence(), 10).swap_remove(2);
    web.sends_by(
        vec![
            flow(who("web", 2), "10.0.0.1", 10),
            flow(who("web", 1), "10.0.0.2", 50),
            flow(who("web", 2), "10.0.0.2", 30),
            flow(who("sync", 1), "10.0.0.2", 1000),
            flow(who("web", 1), "10.0.0.3", 7),
            flow(who("web", 1), "10.0.0.4", 3),
        ],
        2,
    );
    let told: Vec<_> = web.destinations.iter().map(|one| (one.remote_address.as_deref(), one.share)).collect();
    assert_eq!(told, [(Some("10.0.0.2"), 0.8), (Some("10.0.0.1"), 0.1)]);
    assert_eq!(web.other_destinations_bytes, 10);
    web.sends_by(Vec::new(), 2);
    assert!(web.destinations.is_empty() && web.other_destinations_bytes == 0);
}

#[test]
fn an_agent_that_has_just_begun_has_suspects_and_no_growth() {
    let mut evidence = evidence();
    for answer in [&mut evidence.egress, &mut evidence.load] {
        answer.all.days.truncate(1);
        answer.workloads.iter_mut().for_each(|one| one.growth.days.truncate(1));
    }
    let suspects = choose(&evidence, 3);
    assert_eq!(names(&suspects), ["shop/web", "shop/batch", "/backup.service"]);
    assert_eq!((suspects[0].egress.days, suspects[0].egress.peak_growth_per_day), (1, None));
    let explanation = evidence.explanation();
    assert_eq!((explanation.node.as_str(), explanation.egress.days), ("worker-1", 1));
}
