use super::*;
use crate::{
    explain::{Destination, Grown, Sufferer, Suspect},
    server::{Averages, Doings, FarEnd},
};

const DAY: u64 = 86_400;
const HERE: Asked<'_> = Asked { called: "observer", reach: "", since: "30d" };

fn sync() -> Suspect {
    let text = |text: &str| Some(text.to_owned());
    let remote = Some(FarEnd {
        kind: "pod".into(),
        namespace: text("metrics"),
        name: "gateway-0".into(),
        workload: text("gateway"),
        workload_type: text("statefulset"),
        node: text("worker-3"),
        ..FarEnd::default()
    });
    Suspect {
        name: "shop/sync".into(),
        workload_type: text("daemonset"),
        entities: vec!["shop/sync-1/app".into()],
        now: Doings {
            transmit_bytes_per_second: 1.25e6,
            transmit_peak_bytes_per_second: 9.1e6,
            load: Averages { load1: 2.9, ..Averages::default() },
            ..Doings::default()
        },
        egress: Grown {
            days: 30,
            grows: true,
            peak_growth_per_day: Some(0.03),
            mean_growth_per_day: Some(0.0),
            since_unix_seconds: Some(20_764 * DAY),
            is_onset_seen: true,
            peak_then: Some(5.1e6),
            peak_now: Some(9.1e6),
        },
        active_tasks: Grown { days: 1, ..Grown::default() },
        destinations: vec![Destination {
            remote_address: text("10.244.3.7"),
            remote,
            remote_port: Some(9335),
            protocol: "tcp".into(),
            scope: "cluster".into(),
            transmit_bytes: 7_500_000_000,
            share: 0.98,
            ..Destination::default()
        }],
        other_destinations_bytes: 150_000_000,
        caused_wait_seconds: 120.5,
        sufferer: Some(Sufferer { name: "shop/web-1/app".into(), wait_seconds: 80.0 }),
    }
}

#[test]
fn an_explanation_names_who_since_when_where_to_how_much_and_how_it_is_known() {
    let explanation = Explanation {
        node: "worker-1".into(),
        time_unix_seconds: 20_784 * DAY + 3600,
        since_unix_seconds: 20_754 * DAY,
        load: Some(Averages { load1: 4.41, load5: 3.9, load15: 3.2 }),
        load1_unattributed: Some(0.25),
        all: Doings { transmit_bytes_per_second: 1.31e6, transmit_peak_bytes_per_second: 9.12e6, ..Doings::default() },
        egress: Grown { days: 30, peak_growth_per_day: Some(0.001), peak_now: Some(9.12e6), ..Grown::default() },
        active_tasks: Grown::default(),
        suspects: vec![sync()],
    };
    let expected = "\
worker-1 at 2026-11-27 01:00:00 UTC: load 4.41 3.90 3.20 (0.25 nobody's); sends 1.31 MB/s, 9.12 MB/s in the busiest second of the last minute
  egress        level over 30 days: the newest day has 9.12 MB/s in its largest second
  load          no whole day is known yet: growth is told from five days on

1. shop/sync (daemonset)
   egress        the largest second of a day grows by 3.0 % a day since 2026-11-07: 5.10 MB/s then, 9.10 MB/s now; the mean 0.0 % a day
                 now 1.25 MB/s, 9.10 MB/s in the busiest second of the last minute
   goes to       98 % pod metrics/gateway-0 (statefulset gateway) on worker-3, 10.244.3.7:9335 tcp, cluster, 7.50 GB so far
                 and 150 MB elsewhere
   load          one day is known: growth is told from five days on
                 now 2.90 of the node's 4.41 (66 %)
   in the way    others waited 120.5 s for CPUs that it had, shop/web-1/app the longest: 80.0 s
   here          shop/sync-1/app
   seen by       observer history --workload shop/sync --metric egress_peak --since 30d
                 observer whois 10.244.3.7
                 /api/v1/flows?entity=shop/sync-1/app, /api/v1/pairs
";
    assert_eq!(report(&explanation, &HERE), expected);
    let there = Asked { called: "kubectl observer", reach: " --node worker-1", since: "14d" };
    let text = report(&explanation, &there);
    for command in [
        "kubectl observer history --workload shop/sync --metric egress_peak --since 14d --node worker-1\n",
        "kubectl observer whois 10.244.3.7 --node worker-1\n",
    ] {
        assert!(text.contains(command), "{text}");
    }
}

#[test]
fn who_is_gone_and_a_quiet_node_are_told_as_such() {
    let service = Suspect { name: "/backup.service".into(), workload_type: None, ..sync() };
    let gone = Suspect { entities: Vec::new(), destinations: Vec::new(), sufferer: None, ..sync() };
    let mut explanation = Explanation {
        node: "worker-1".into(),
        time_unix_seconds: 0,
        since_unix_seconds: 0,
        load: None,
        load1_unattributed: None,
        all: Doings::default(),
        egress: Grown::default(),
        active_tasks: Grown::default(),
        suspects: vec![gone, service],
    };
    let text = report(&explanation, &HERE);
    let (first, _) = text.split_once("\n2. ").unwrap();
    assert!(first.contains("none of its pods is on this node") && !first.contains("whois"), "{first}");
    let (_, service) = text.split_once("2. /backup.service\n").unwrap();
    assert!(service.starts_with("   egress        now 1.25 MB/s") && !service.contains("growth"), "{service}");
    explanation.suspects.clear();
    assert!(report(&explanation, &HERE).ends_with("\nNobody does anything.\n"));
}
