//! `/api/v1/flows`: where an entity's bytes go and come from.

use super::Who;
use crate::{
    history::duration_of,
    ledger::{EntityId, Flow, FlowBooks, FlowView, Identity, Ledger},
};
use observer_ebpf::{
    Scope,
    flows::{OUTBOUND, TCP, address_of},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, net::Ipv6Addr};

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
}

/// A flow: all connections of an entity with one far end, or the datagrams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Whose it is.
    pub entity: Who,
    /// The far end's address; not there if it was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<String>,
    /// The far end's port, if this end asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// This end's port, if the far end asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// `tcp`, `udp`, or the protocol's number.
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
    /// What only TCP has.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpRow>,
}

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
const MOST: usize = 100_000;

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
    flow: &'a Flow,
    books: &'a FlowBooks,
    rates: [f64; 2],
}

impl FlowsAnswer {
    /// What happened between two views.
    pub fn of(node: &str, ledger: &Ledger, before: &FlowView, now: &FlowView, query: &FlowsQuery) -> Self {
        let identities: HashMap<EntityId, &Identity> =
            ledger.entities().iter().map(|entity| (entity.id, &entity.identity)).collect();
        let wanted = query.entity.as_deref().map(|wanted| -> Vec<EntityId> {
            let is_meant = |identity: &Identity| Who::from(identity).is_meant_by(wanted);
            identities.iter().filter(|(_, identity)| is_meant(identity)).map(|(id, _)| *id).collect()
        });
        let interval = now.at_ns.saturating_sub(before.at_ns) as f64 / 1e9;
        let mut all: Vec<_> = now
            .flows
            .iter()
            .filter(|(flow, books)| {
                wanted.as_ref().is_none_or(|wanted| wanted.contains(&flow.entity))
                    && query.wants(flow, books, now.at_ns)
            })
            .map(|(flow, books)| Candidate { flow, books, rates: rates(before.flows.get(flow), books, interval) })
            .collect();
        all.sort_unstable_by(|one, other| {
            let key = |candidate: &Candidate<'_>| candidate.rates.iter().sum::<f64>();
            let by_rate = key(other).total_cmp(&key(one));
            by_rate.then(other.books.bytes().cmp(&one.books.bytes())).then_with(|| one.flow.cmp(other.flow))
        });
        let rows = all.iter().take(query.top).filter_map(|candidate| {
            identities.get(&candidate.flow.entity).map(|identity| row(Who::from(*identity), candidate))
        });
        Self {
            node: node.to_owned(),
            interval_seconds: interval,
            flows: rows.collect(),
            more: all.len().saturating_sub(query.top),
            forgotten: ledger.flows_forgotten(),
        }
    }
}

/// Bytes in a second, sent and received. What a socket has handed over and is not booked yet is missing for a moment: never less
/// than nothing.
fn rates(before: Option<&FlowBooks>, now: &FlowBooks, interval: f64) -> [f64; 2] {
    let before = before.copied().unwrap_or_default();
    let rate = |now: u64, before: u64| if interval > 0.0 { now.saturating_sub(before) as f64 / interval } else { 0.0 };
    [
        rate(now.traffic.transmit_bytes, before.traffic.transmit_bytes),
        rate(now.traffic.receive_bytes, before.traffic.receive_bytes),
    ]
}

fn row(entity: Who, Candidate { flow, books, rates }: &Candidate<'_>) -> FlowRow {
    let is_outbound = flow.direction == OUTBOUND;
    let port = (!flow.is_rest() && flow.port != 0).then_some(flow.port);
    let FlowBooks { traffic, connections, failed, open, retransmits, round_trips: (sum_us, count), active_ns: _ } =
        **books;
    FlowRow {
        entity,
        remote_address: (!flow.is_rest()).then(|| Ipv6Addr::from(address_of(flow.remote)).to_canonical().to_string()),
        remote_port: port.filter(|_| is_outbound),
        local_port: port.filter(|_| !is_outbound),
        protocol: protocol_name(flow.protocol),
        direction: if is_outbound { "outbound" } else { "inbound" }.into(),
        scope: Scope::ALL.get(usize::from(flow.scope)).map_or("internet", |scope| scope.label()).into(),
        transmit_bytes_per_second: rates[0],
        receive_bytes_per_second: rates[1],
        transmit_bytes: traffic.transmit_bytes,
        transmit_packets: traffic.transmit_packets,
        receive_bytes: traffic.receive_bytes,
        receive_packets: traffic.receive_packets,
        tcp: (flow.protocol == TCP).then(|| TcpRow {
            connections,
            failed_connections: failed,
            open_connections: open,
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
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_ebpf::{Traffic, flows::INBOUND};

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

    fn flow(remote: u64, scope: Scope) -> Flow {
        Flow {
            entity: EntityId(0),
            remote: [0, remote],
            port: 443,
            protocol: TCP,
            direction: OUTBOUND,
            scope: scope as u8,
        }
    }

    fn carried(bytes: u64, active_ns: u64) -> FlowBooks {
        let traffic = Traffic { transmit_bytes: bytes, transmit_packets: 1, ..Traffic::default() };
        FlowBooks { traffic, connections: 1, active_ns, ..FlowBooks::default() }
    }

    #[test]
    fn the_fastest_come_first_and_then_the_largest() {
        let second = 1_000_000_000;
        let (a, b, c) = (flow(1, Scope::Internet), flow(2, Scope::Internet), flow(3, Scope::Node));
        let view = |at_ns, flows: [(Flow, FlowBooks); 3]| FlowView { at_ns, flows: flows.into_iter().collect() };
        let before = view(second, [(a, carried(100, 0)), (b, carried(5000, 0)), (c, carried(1, 0))]);
        let now =
            view(3 * second, [(a, carried(300, 3 * second)), (b, carried(5000, second)), (c, carried(1, second))]);
        let answer = |text: &str| FlowsAnswer::of("n", &Ledger::default(), &before, &now, &query(text).unwrap());
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
    fn what_does_not_apply_is_left_out() {
        let udp = Flow { protocol: 17, direction: INBOUND, port: 53, ..flow(0, Scope::Loopback) };
        let mapped = Flow { remote: [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, 127, 0, 0, 1])], ..udp };
        let json = |flow: &Flow| {
            let books = carried(10, 0);
            let row = row(Who::default(), &Candidate { flow, books: &books, rates: [0.0; 2] });
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
