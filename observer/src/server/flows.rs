//! `/api/v1/flows`: where an entity's bytes go and come from.

use super::{FarEnd, Who};
use crate::{
    history::duration_of,
    kernel::program,
    ledger::{AskedName, EntityId, Flow, FlowBooks, FlowView, Identity, Ledger, OpenConnections, ProgramFacts},
};
use observer_ebpf::{
    Scope, dns,
    flows::{OUTBOUND, TCP, address_of},
};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    net::Ipv6Addr,
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
}

/// A program that does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingProgram {
    /// Its name.
    pub program: String,
    /// Why.
    pub reason: String,
}

/// A flow: all connections of an entity with one far end, or the datagrams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Whose it is.
    pub entity: Who,
    /// The far end's address; not there if it was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<String>,
    /// Whose address it is, or was when this was carried; not there if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<FarEnd>,
    /// The far end's port, if this end asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// This end's port, if the far end asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// `tcp`, `udp`, `icmp` (of either family), `sctp`, `raw` for sockets that make up TCP by themselves, or the protocol's number.
    pub protocol: String,
    /// `outbound` if this end asked first, else `inbound`.
    pub direction: String,
    /// Where the far end is.
    pub scope: String,
    /// L3 bytes sent in a second.
    pub transmit_bytes_per_second: f64,
    /// L3 bytes received in a second.
    pub receive_bytes_per_second: f64,
    /// L3 bytes sent since the agent started.
    pub transmit_bytes: u64,
    /// Packets sent.
    pub transmit_packets: u64,
    /// L3 bytes received.
    pub receive_bytes: u64,
    /// Packets received.
    pub receive_packets: u64,
    /// Of what goes to a DNS server: the names that this end was answered the most often, by whichever server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameRow>,
    /// What only TCP has.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpRow>,
}

/// A name that an entity asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// The name.
    pub name: String,
    /// Answers that were read, at most.
    pub answers: u64,
}

/// Names of a flow at the most.
const MOST_NAMES: usize = 5;

/// A flow's connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpRow {
    /// Connections that came to be.
    pub connections: u64,
    /// Connections that did not: refused, unanswered, given up.
    pub failed_connections: u64,
    /// Connections that are open.
    pub open_connections: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// The mean of the connections' smoothed round trips, each as it was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_seconds: Option<f64>,
}

/// Flows in an answer to whom no number was named.
const USUAL: usize = 100;
/// Flows in an answer at the most.
const MOST: usize = 10_000;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowsQuery {
    /// Whose flows; all if nothing is said.
    pub entity: Option<String>,
    /// Where the far end is; anywhere if nothing is said.
    pub scope: Option<Scope>,
    /// How many flows.
    pub top: usize,
    /// Only those that carried something in the last so many seconds.
    pub since_seconds: Option<u64>,
}

impl FlowsQuery {
    /// Reads the parameters; the error says what would be right.
    pub(super) fn of_parameters(parameters: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut query = Self { top: USUAL, ..Self::default() };
        for (name, value) in parameters {
            match name.as_str() {
                "entity" if !value.is_empty() => query.entity = Some(value),
                "entity" => {
                    return Err(
                        "entity is empty; wanted: NAMESPACE/POD, NAMESPACE/POD/CONTAINER or a cgroup's path".into()
                    );
                }
                "scope" => {
                    let known = Scope::ALL.iter().find(|scope| scope.label() == value);
                    query.scope = Some(*known.ok_or_else(|| {
                        let all: Vec<_> = Scope::ALL.iter().map(|scope| scope.label()).collect();
                        format!("scope={value} is not right; wanted: {}", all.join(", "))
                    })?);
                }
                "top" => {
                    let top = value.parse().ok().filter(|top| (1..=MOST).contains(top));
                    query.top =
                        top.ok_or_else(|| format!("top={value} is not right; wanted: a number from 1 to {MOST}"))?;
                }
                "since" => query.since_seconds = Some(duration_of(&value)?),
                _ => return Err(format!("{name:?} is no parameter of flows; there are entity, scope, top and since")),
            }
        }
        Ok(query)
    }

    fn wants(&self, flow: &Flow, books: &FlowBooks, now_ns: u64) -> bool {
        let is_recent = self
            .since_seconds
            .is_none_or(|seconds| now_ns.saturating_sub(books.active_ns) <= seconds.saturating_mul(1_000_000_000));
        is_recent && self.scope.is_none_or(|scope| flow.scope == scope as u8)
    }
}

/// A flow on its way into the answer.
struct Candidate<'a> {
    flow: Flow,
    books: Cow<'a, FlowBooks>,
    open: OpenConnections,
    rates: [f64; 2],
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
    pub fn of(
        node: &str,
        ledger: &Ledger,
        [before, now]: [&FlowView; 2],
        programs: &[ProgramFacts],
        query: &FlowsQuery,
        now_unix_seconds: u64,
    ) -> Self {
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
        let rows = all.iter().take(query.top).filter_map(|candidate| {
            let quiet_seconds = now.at_ns.saturating_sub(candidate.books.active_ns) / 1_000_000_000;
            let active = now_unix_seconds.saturating_sub(quiet_seconds);
            let held = ledger.far_end(&candidate.flow, active).map(FarEnd::of);
            let remote = held.or_else(|| ledger.looked_up_name(&candidate.flow, active).map(FarEnd::looked_up));
            let names = names(ledger, &candidate.flow);
            let entity = identities.get(&candidate.flow.entity)?;
            Some(FlowRow { names, ..row(Who::from(*entity), remote, candidate) })
        });
        Self {
            node: node.to_owned(),
            interval_seconds: interval,
            flows: rows.collect(),
            more: all.len().saturating_sub(query.top),
            forgotten: ledger.flows_forgotten(),
            missing: missing(programs),
        }
    }
}

/// Those without which flows are not whole.
fn missing(programs: &[ProgramFacts]) -> Vec<MissingProgram> {
    const NEEDED: [&str; 5] = [program::EGRESS, program::INGRESS, program::ACCEPT, program::RELEASE, program::SOCKETS];
    let needed = programs.iter().filter(|program| NEEDED.contains(&program.name));
    let down = needed.filter_map(|program| Some((program.name, program.down_because.as_ref()?)));
    down.map(|(program, reason)| MissingProgram { program: program.into(), reason: reason.clone() }).collect()
}

/// What is asked for, where a flow goes to a DNS server.
fn names(ledger: &Ledger, flow: &Flow) -> Vec<NameRow> {
    if flow.direction != OUTBOUND || flow.port != dns::PORT {
        return Vec::new();
    }
    let names = ledger.names_asked(flow.entity).into_iter().take(MOST_NAMES);
    names.map(|AskedName { name, answers }| NameRow { name: (**name).to_owned(), answers: *answers }).collect()
}

fn row(entity: Who, remote: Option<FarEnd>, Candidate { flow, books, open, rates }: &Candidate<'_>) -> FlowRow {
    let is_outbound = flow.direction == OUTBOUND;
    let port = (!flow.is_rest() && flow.port != 0).then_some(flow.port);
    let FlowBooks { traffic, connections, failed, retransmits, round_trips: past, active_ns: _ } = **books;
    let (sum_us, count) = (past.0 + open.round_trips.0, past.1 + open.round_trips.1);
    // What was handed over twice by two CPUs at once is in another flow as less than nothing.
    let number = |count: u64| u64::try_from(count.cast_signed()).unwrap_or(0);
    FlowRow {
        entity,
        remote_address: (!flow.is_rest()).then(|| Ipv6Addr::from(address_of(flow.remote)).to_canonical().to_string()),
        remote,
        remote_port: port.filter(|_| is_outbound),
        local_port: port.filter(|_| !is_outbound),
        protocol: protocol_name(flow.protocol),
        direction: if is_outbound { "outbound" } else { "inbound" }.into(),
        scope: Scope::ALL.get(usize::from(flow.scope)).map_or("internet", |scope| scope.label()).into(),
        transmit_bytes_per_second: rates[0],
        receive_bytes_per_second: rates[1],
        transmit_bytes: number(traffic.transmit_bytes),
        transmit_packets: number(traffic.transmit_packets),
        receive_bytes: number(traffic.receive_bytes),
        receive_packets: number(traffic.receive_packets),
        names: Vec::new(),
        tcp: (flow.protocol == TCP).then(|| TcpRow {
            connections,
            failed_connections: failed,
            open_connections: open.count,
            retransmits,
            round_trip_seconds: (count > 0).then(|| sum_us as f64 / count as f64 / 1e6),
        }),
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        1 | 58 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        132 => "sctp".into(),
        255 => "raw".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Cgroup, Names, PodHolder, PodNames, PodTold, Sample};
    use observer_ebpf::{
        Traffic,
        causes::Membership,
        flows::{FlowKey, FlowSum, INBOUND},
    };
    use std::sync::Arc;

    fn query(text: &str) -> Result<FlowsQuery, String> {
        FlowsQuery::of_parameters(form_urlencoded::parse(text.as_bytes()).into_owned())
    }

    #[test]
    fn a_query_says_whose_where_how_many_and_since_when() {
        assert_eq!(query(""), Ok(FlowsQuery { top: 100, ..FlowsQuery::default() }));
        let all = query("entity=shop/web-1&scope=internet&top=5&since=90s").unwrap();
        assert_eq!((all.entity.as_deref(), all.scope), (Some("shop/web-1"), Some(Scope::Internet)));
        assert_eq!((all.top, all.since_seconds), (5, Some(90)));
        for (wrong, told) in [
            ("top=0", "from 1 to"),
            ("scope=mars", "loopback, node, cluster, service, intranet, internet"),
            ("since=yesterday", "90s"),
            ("entity=", "NAMESPACE/POD"),
            ("pod=x", "entity, scope, top and since"),
        ] {
            assert!(query(wrong).unwrap_err().contains(told), "{wrong}");
        }
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
        let answer = |text: &str| FlowsAnswer::of("n", &ledger, [&before, &now], &[], &query(text).unwrap(), 0);
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
            FlowsAnswer::of("n", ledger, [&before, &now], &[], &query("").unwrap(), 120)
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

    #[test]
    fn what_does_not_apply_is_left_out() {
        let udp = Flow {
            entity: EntityId(0),
            remote: [0; 2],
            port: 53,
            protocol: 17,
            direction: INBOUND,
            scope: Scope::Loopback as u8,
            tenancy: 0,
        };
        let mapped = Flow { remote: [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, 127, 0, 0, 1])], ..udp };
        let json = |flow: &Flow| {
            let traffic = Traffic { transmit_bytes: 10_u64.wrapping_neg(), ..Traffic::default() };
            let books = FlowBooks { traffic, ..FlowBooks::default() };
            let open = OpenConnections::default();
            let row = row(
                Who::default(),
                None,
                &Candidate { flow: *flow, books: Cow::Borrowed(&books), open, rates: [0.0; 2] },
            );
            assert_eq!(row.transmit_bytes, 0);
            serde_json::to_string(&row).unwrap()
        };
        let text = json(&mapped);
        assert!(
            text.contains(r#""remote_address":"127.0.0.1","local_port":53,"protocol":"udp","direction":"inbound""#),
            "{text}"
        );
        assert!(!text.contains("remote_port") && !text.contains("retransmits"), "{text}");
        let rest = json(&Flow { port: 0, ..udp });
        assert!(!rest.contains("remote_address") && !rest.contains("local_port"), "{rest}");
    }
}
