//! Flows: their order, whose each is, and who stands behind services.

use super::*;
use crate::ledger::{Added, Interval, PodHolder, PodTold, Sample, fixture::Services};
use observer_ebpf::{
    Traffic,
    flows::{FlowKey, FlowSum, OUTBOUND, TCP, address_of},
};
use std::{net::Ipv6Addr, sync::Arc};

fn query(text: &str) -> Result<FlowsQuery, String> {
    FlowsQuery::of_parameters(form_urlencoded::parse(text.as_bytes()).into_owned())
}

fn key(remote: u64, scope: Scope) -> FlowKey {
    let (port, scope) = (443, scope as u8);
    FlowKey { remote: [0, remote], port, protocol: TCP, direction: OUTBOUND, scope, ..FlowKey::default() }
}

fn source<'a>(ledger: &'a Ledger, views: [&'a FlowView; 2], now_unix_seconds: u64) -> FlowsSource<'a> {
    let (programs, translated) = (&[], &[]);
    let own = OwnAddresses { known: &[], and_all_others: true };
    FlowsSource { node: "n", ledger, views, programs, translated, translated_missing: None, own, now_unix_seconds }
}

/// Books what the flows carried at that time.
fn book(ledger: &mut Ledger, at_ns: u64, flows: &[(FlowKey, u64)]) -> FlowView {
    let sum = |bytes| FlowSum {
        traffic: Traffic { transmit_bytes: bytes, transmit_packets: 1, ..Traffic::default() },
        ..FlowSum::default()
    };
    let flows = flows.iter().map(|(key, bytes)| (*key, sum(*bytes))).collect();
    let second = 100 + at_ns / 1_000_000_000;
    let flows_interval = Some(Interval { from: second, until: second });
    ledger.book(&Sample { flows, flows_interval, ..Sample::default() }, &Services, at_ns);
    let mut view = FlowView::at(at_ns);
    ledger.complete(&mut view);
    view
}

#[test]
fn the_fastest_come_first_and_then_the_largest() {
    let second = 1_000_000_000;
    let mut ledger = Ledger::default();
    let (a, b, c) = (key(1, Scope::Internet), key(2, Scope::Internet), key(3, Scope::Node));
    let before = book(&mut ledger, second, &[(a, 100), (b, 5000), (c, 1)]);
    let now = book(&mut ledger, 3 * second, &[(a, 200)]);
    let answer = |text: &str| FlowsAnswer::of(source(&ledger, [&before, &now], 0), &query(text).unwrap());
    let bytes = |answer: &FlowsAnswer| answer.flows.iter().map(|row| row.transmit_bytes).collect::<Vec<_>>();
    let all = answer("");
    assert_eq!((bytes(&all), all.interval_seconds), (vec![300, 5000, 1], 2.0));
    assert_eq!((all.flows[0].transmit_bytes_per_second, all.flows[0].remote_port), (100.0, Some(443)));
    assert_eq!((bytes(&answer("top=1")), answer("top=1").more), (vec![300], 2));
    assert_eq!(answer("top=1").more_carried.map(|more| more.transmit_bytes), Some(5001));
    assert_eq!((all.more, all.more_carried), (0, None));
    assert_eq!(bytes(&answer("scope=node")), [1]);
    assert_eq!(bytes(&answer("since=1s")), [300]);
    assert_eq!(bytes(&answer("entity=unattributed")).len(), 3);
    assert!(answer("entity=shop/web-1").flows.is_empty());
}

#[test]
fn each_half_of_a_flow_has_the_name_of_who_had_the_address_then() {
    let second = 1_000_000_000;
    let mut ledger = Ledger::default();
    let flow = key(7, Scope::Cluster);
    let pod = |name: &str, since, until| PodTold {
        pod: Arc::new(PodHolder {
            uid: name.into(),
            namespace: "shop".into(),
            name: name.into(),
            workload: None,
            node: None,
        }),
        addresses: vec![Ipv6Addr::from(address_of(flow.remote)).into()],
        node_ports: Arc::new([]),
        since_unix_seconds: Some(since),
        until_unix_seconds: until,
        has_nodes_network: false,
        is_followed: true,
    };
    book(&mut ledger, second, &[(flow, 100)]);
    ledger.pod_told(&pod("a", 90, None), 100);
    let before = book(&mut ledger, 2 * second, &[(flow, 900)]);
    ledger.pod_told(&pod("a", 90, Some(103)), 103);
    // It sends before it is known.
    let now = book(&mut ledger, 4 * second, &[(flow, 50)]);
    let answer = |ledger: &mut Ledger| {
        ledger.settle_far_ends();
        FlowsAnswer::of(source(ledger, [&before, &now], 120), &query("").unwrap())
    };
    let told = |answer: &FlowsAnswer| -> Vec<_> {
        let name = |row: &FlowRow| row.remote.as_ref().map(|remote| (remote.name.clone(), remote.until_unix_seconds));
        let rows = answer.flows.iter();
        rows.map(|row| (name(row), row.transmit_bytes, row.transmit_bytes_per_second)).collect()
    };
    let of_a = (Some(("a".into(), Some(103))), 1000, 0.0);
    assert_eq!(told(&answer(&mut ledger)), [(None, 50, 25.0), of_a.clone()]);
    ledger.pod_told(&pod("b", 104, None), 120);
    assert_eq!(told(&answer(&mut ledger)), [(Some(("b".into(), None)), 50, 25.0), of_a]);
}

#[test]
fn who_stands_behind_a_service_is_told_at_its_last_flow_alone() {
    let mut ledger = Ledger::default();
    let second = 1_000_000_000;
    let service =
        FlowKey { remote: [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, 10, 96, 0, 1])], ..key(0, Scope::Service) };
    // Before it was known that the address is a service's.
    let before = book(&mut ledger, second, &[(FlowKey { scope: Scope::Intranet as u8, ..service }, 900)]);
    let now = book(&mut ledger, 2 * second, &[(service, 50)]);
    let end = |text: &str| text.parse().unwrap();
    let connection = |source: &str, behind: &str| Translated {
        protocol: TCP,
        source: end(source),
        spoken_to: end("10.96.0.1:443"),
        behind: end(behind),
    };
    let translated: Vec<_> = (0..=110)
        .map(|at| connection(&format!("10.244.0.5:{at}"), &format!("10.244.1.{at}:6443")))
        .chain([connection("10.244.0.5:9999", "10.244.1.110:6443")])
        .collect();
    let source = FlowsSource {
        translated: &translated,
        translated_missing: Some("it is long"),
        ..source(&ledger, [&before, &now], 100)
    };
    let answer = FlowsAnswer::of(source, &query("").unwrap());
    let [one, other] = &answer.flows[..] else { panic!("{answer:?}") };
    let (last, first) = if one.scope == "service" { (one, other) } else { (other, one) };
    assert_eq!((first.scope.as_str(), first.behind.len(), first.behind_more), ("intranet", 0, 0));
    assert_eq!((last.behind.len(), last.behind_more), (100, 11));
    let heaviest = &last.behind[0];
    assert_eq!((heaviest.address.as_str(), heaviest.port, heaviest.connections), ("10.244.1.110", 6443, 2));
    assert_eq!(answer.behind_missing.as_deref(), Some("it is long"));
    let spoken_to = SpokenTo { address: "10.96.0.1".parse().unwrap(), port: Some(443), protocol: Some(TCP) };
    assert_eq!(answer.services(), [spoken_to].into());
    // Whatever is asked for, they are that flow's.
    let of_before = FlowsAnswer::of(source, &query("scope=intranet").unwrap());
    assert_eq!((of_before.flows.len(), of_before.flows[0].behind.len()), (1, 0));
}

#[test]
fn what_is_missing_is_told_with_its_reason() {
    let facts = |name, down_because| ProgramFacts { name, down_because, run_time: None, verified_instructions: None };
    let programs = [
        facts(program::RELEASE, Some("lockdown".to_owned())),
        facts(program::SOCKETS, None),
        facts(program::SWITCH, Some("no fields".to_owned())),
    ];
    let told = missing(&programs);
    assert_eq!(told, [MissingProgram { program: program::RELEASE.into(), reason: "lockdown".into() }]);
}

#[test]
fn where_open_sockets_cannot_be_read_it_is_told_what_they_carried_and_not_how_many_there_are() {
    let mut ledger = Ledger::default();
    let flow = key(7, Scope::Internet);
    let sent = |bytes| Traffic { transmit_bytes: bytes, transmit_packets: 1, receive_bytes: 5, receive_packets: 1 };
    let mut added = Added::default();
    (added.traffic[Scope::Internet as usize], added.traffic[Scope::Node as usize]) = (sent(1000), sent(70));
    ledger.book(&Sample { added: vec![added], ..Sample::default() }, &Services, 1);
    let view = book(&mut ledger, 2, &[(flow, 300)]);
    let answer = |down_because: Option<&str>, text: &str| {
        let facts = ProgramFacts {
            name: program::SOCKETS,
            down_because: down_because.map(str::to_owned),
            run_time: None,
            verified_instructions: None,
        };
        let source = FlowsSource { programs: &[facts], ..source(&ledger, [&view, &view], 0) };
        FlowsAnswer::of(source, &query(text).unwrap())
    };
    let open = |answer: &FlowsAnswer| answer.flows[0].tcp.as_ref().unwrap().open_connections;
    let (whole, less) = (answer(None, ""), answer(Some("lockdown"), ""));
    assert_eq!((whole.in_no_flow, open(&whole)), (None, Some(0)));
    let carried = |transmit_bytes, receive_bytes| Some(Carried { transmit_bytes, receive_bytes });
    assert_eq!((less.in_no_flow, open(&less)), (carried(770, 10), None));
    let of = |text: &str| answer(Some("lockdown"), text).in_no_flow;
    assert_eq!(of("scope=node&top=1"), carried(70, 5));
    assert_eq!(of("entity=unattributed&scope=internet"), carried(700, 5));
    assert_eq!(of("entity=shop/web-1"), carried(0, 0));
}
