//! `/api/v1/flows`: where an entity's bytes go and come from.

use super::{
    FarEnd, FlowRow, FlowsQuery, SpokenTo, Who, behind,
    flow_row::{Candidate, WITH_PORTS, names, protocol_name, row},
};
use crate::{
    kernel::program,
    ledger::{
        BehindAll, EntityId, Flow, FlowBooks, FlowView, Identity, Ledger, OpenConnections, ProgramFacts, Speech,
        Translated,
    },
};
use observer_ebpf::Scope;
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, hash_map::Entry},
};

/// The flows that carry the most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowsAnswer {
    /// The node.
    pub node: String,
    /// Over how long the rates are.
    pub interval_seconds: f64,
    /// The fastest first, and those that carry nothing now by what they carried.
    pub flows: Vec<FlowRow>,
    /// How many flows there are beyond those that were asked for.
    pub more: usize,
    /// Flows whose far ends were forgotten since the agent started, since there were more than it keeps.
    pub forgotten: u64,
    /// Programs that do not run, without which some of this is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingProgram>,
    /// Why it is not told, or not wholly, who stands behind the services that are spoken to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_missing: Option<String>,
}

/// What flows are told from.
#[derive(Clone, Copy, Debug)]
pub struct FlowsSource<'a> {
    /// The node.
    pub node: &'a str,
    /// The books.
    pub ledger: &'a Ledger,
    /// The flows before, and now.
    pub views: [&'a FlowView; 2],
    /// The programs and why some do not run.
    pub programs: &'a [ProgramFacts],
    /// Connections to services, and where they go.
    pub translated: &'a [Translated],
    /// Why those may not be all.
    pub translated_missing: Option<&'a str>,
    /// Now.
    pub now_unix_seconds: u64,
}

/// A program that does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingProgram {
    /// Its name.
    pub program: String,
    /// Why.
    pub reason: String,
}

/// Flows as they are shown: what is yet to be told apart by who has an address is together.
fn shown(ledger: &Ledger, wants: impl Fn(&Flow) -> bool) -> HashMap<Flow, Cow<'_, FlowBooks>> {
    let mut all = HashMap::new();
    for (flow, books) in ledger.flows().filter(|(flow, _)| wants(flow)) {
        match all.entry(ledger.as_shown(flow)) {
            Entry::Vacant(place) => _ = place.insert(Cow::Borrowed(books)),
            Entry::Occupied(mut known) => known.get_mut().to_mut().merge(books),
        }
    }
    all
}

/// The last tenancy of each flow's far end: what is known of now is of that.
fn latest(flows: &HashMap<Flow, Cow<'_, FlowBooks>>) -> HashMap<Flow, u32> {
    let mut latest = HashMap::new();
    for flow in flows.keys().filter(|flow| flow.tenancy != 0) {
        let last: &mut u32 = latest.entry(flow.of_anyone()).or_default();
        *last = flow.tenancy.max(*last);
    }
    latest
}

impl FlowsAnswer {
    /// What the books say, and what happened between two views.
    pub fn of(source: FlowsSource<'_>, query: &FlowsQuery) -> Self {
        let FlowsSource { node, ledger, views: [before, now], programs, translated, now_unix_seconds, .. } = source;
        let identities: HashMap<EntityId, &Identity> =
            ledger.entities().iter().map(|entity| (entity.id, &entity.identity)).collect();
        let wanted = query.entity.as_deref().map(|wanted| -> Vec<EntityId> {
            let is_meant = |identity: &Identity| Who::from(identity).is_meant_by(wanted);
            identities.iter().filter(|(_, identity)| is_meant(identity)).map(|(id, _)| *id).collect()
        });
        let interval = now.at_ns.saturating_sub(before.at_ns) as f64 / 1e9;
        let rate = |bytes: u64| if interval > 0.0 { bytes as f64 / interval } else { 0.0 };
        let is_wanted = |flow: &Flow| wanted.as_ref().is_none_or(|wanted| wanted.contains(&flow.entity));
        let flows = shown(ledger, is_wanted);
        let latest = latest(&flows);
        let mut all: Vec<_> = flows
            .into_iter()
            .filter(|(flow, books)| query.wants(flow, books, now.at_ns))
            .map(|(flow, books)| {
                let is_latest = latest.get(&flow.of_anyone()).is_none_or(|latest| *latest == flow.tenancy);
                let rates = if is_latest { now.bytes_since(before, &flow).map(rate) } else { [0.0; 2] };
                let open = if is_latest { now.open(&flow) } else { OpenConnections::default() };
                Candidate { flow, books, open, rates }
            })
            .collect();
        all.sort_unstable_by(|one, other| {
            let key = |candidate: &Candidate<'_>| candidate.rates.iter().sum::<f64>();
            let by_rate = key(other).total_cmp(&key(one));
            by_rate.then(other.books.bytes().cmp(&one.books.bytes())).then_with(|| one.flow.cmp(&other.flow))
        });
        let BehindAll { of: behind, unclear } = ledger.behind(now, translated, now_unix_seconds);
        let last = last_of_each(&all);
        let rows = all.iter().take(query.top).filter_map(|candidate| {
            let speech = Speech::of(&candidate.flow).filter(|speech| last.get(speech) == Some(&candidate.flow));
            let behind = speech.and_then(|speech| Some((speech.protocol, behind.get(&speech)?)));
            let (behind, behind_more) = behind.map_or((Vec::new(), 0), |(protocol, behind)| {
                behind::rows(ledger, behind, Some(protocol), now_unix_seconds)
            });
            let quiet_seconds = now.at_ns.saturating_sub(candidate.books.active_ns) / 1_000_000_000;
            let active = now_unix_seconds.saturating_sub(quiet_seconds);
            let held = ledger.far_end(&candidate.flow, active).map(FarEnd::of);
            let remote = held.or_else(|| ledger.looked_up_name(&candidate.flow, active).map(FarEnd::looked_up));
            let names = names(ledger, &candidate.flow);
            let entity = identities.get(&candidate.flow.entity)?;
            Some(FlowRow { behind, behind_more, names, ..row(Who::from(*entity), remote, candidate) })
        });
        Self {
            node: node.to_owned(),
            interval_seconds: interval,
            flows: rows.collect(),
            more: all.len().saturating_sub(query.top),
            forgotten: ledger.flows_forgotten(),
            missing: missing(programs),
            behind_missing: behind_missing(source.translated_missing, unclear),
        }
    }

    /// The services that are spoken to.
    pub fn services(&self) -> HashSet<SpokenTo> {
        let is_service = |row: &&FlowRow| {
            row.scope == Scope::Service.label() || row.remote.as_ref().is_some_and(|remote| remote.kind == "service")
        };
        let spoken_to = |row: &FlowRow| {
            let protocol = WITH_PORTS.into_iter().find(|protocol| protocol_name(*protocol) == row.protocol)?;
            let address = row.remote_address.as_ref()?.parse().ok()?;
            Some(SpokenTo { address, port: Some(row.remote_port?), protocol: Some(protocol) })
        };
        self.flows.iter().filter(is_service).filter_map(spoken_to).collect()
    }
}

/// Of the flows that speak to the same, at different times, the one that carried something last: what is known of now is of that.
fn last_of_each(all: &[Candidate<'_>]) -> HashMap<Speech, Flow> {
    let mut last: HashMap<Speech, &Candidate<'_>> = HashMap::new();
    let key = |candidate: &Candidate<'_>| (candidate.books.active_ns, candidate.flow.tenancy);
    for candidate in all {
        let Some(speech) = Speech::of(&candidate.flow) else { continue };
        let known = last.entry(speech).or_insert(candidate);
        if key(candidate) > key(known) {
            *known = candidate;
        }
    }
    last.into_iter().map(|(speech, candidate)| (speech, candidate.flow)).collect()
}

fn behind_missing(why: Option<&str>, unclear: u64) -> Option<String> {
    let unclear = (unclear > 0).then(|| {
        format!(
            "of {unclear} connections to services it cannot be told whose they are: several containers have the address"
        )
    });
    let all: Vec<_> = why.map(str::to_owned).into_iter().chain(unclear).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Those without which flows are not whole.
fn missing(programs: &[ProgramFacts]) -> Vec<MissingProgram> {
    const NEEDED: [&str; 5] = [program::EGRESS, program::INGRESS, program::ACCEPT, program::RELEASE, program::SOCKETS];
    let needed = programs.iter().filter(|program| NEEDED.contains(&program.name));
    let down = needed.filter_map(|program| Some((program.name, program.down_because.as_ref()?)));
    down.map(|(program, reason)| MissingProgram { program: program.into(), reason: reason.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Cgroup, Names, PodHolder, PodNames, PodTold, Sample};
    use observer_ebpf::{
        Traffic,
        causes::Membership,
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

    struct Nobody;

    impl Names for Nobody {
        fn cgroup(&self, _: u64) -> Option<Cgroup> {
            None
        }

        fn pod(&self, _: &str) -> Option<Arc<PodNames>> {
            None
        }

        fn membership(&self, _: u64) -> Option<Membership> {
            None
        }

        fn container(&self, _: &str, _: &str) -> Option<Arc<str>> {
            None
        }
    }

    fn source<'a>(ledger: &'a Ledger, views: [&'a FlowView; 2], now_unix_seconds: u64) -> FlowsSource<'a> {
        let (programs, translated) = (&[], &[]);
        FlowsSource { node: "n", ledger, views, programs, translated, translated_missing: None, now_unix_seconds }
    }

    /// Books what the flows carried at that time.
    fn book(ledger: &mut Ledger, at_ns: u64, flows: &[(FlowKey, u64)]) -> FlowView {
        let sum = |bytes| FlowSum {
            traffic: Traffic { transmit_bytes: bytes, transmit_packets: 1, ..Traffic::default() },
            ..FlowSum::default()
        };
        let flows = flows.iter().map(|(key, bytes)| (*key, sum(*bytes))).collect();
        let flows_from_unix_seconds = Some(100 + at_ns / 1_000_000_000);
        ledger.book(&Sample { flows, flows_from_unix_seconds, ..Sample::default() }, &Nobody, at_ns);
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
            let name =
                |row: &FlowRow| row.remote.as_ref().map(|remote| (remote.name.clone(), remote.until_unix_seconds));
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
    }

    #[test]
    fn what_is_missing_is_told_with_its_reason() {
        let facts =
            |name, down_because| ProgramFacts { name, down_because, run_time: None, verified_instructions: None };
        let programs = [
            facts(program::RELEASE, Some("lockdown".to_owned())),
            facts(program::SOCKETS, None),
            facts(program::SWITCH, Some("no fields".to_owned())),
        ];
        let told = missing(&programs);
        assert_eq!(told, [MissingProgram { program: program::RELEASE.into(), reason: "lockdown".into() }]);
    }
}
