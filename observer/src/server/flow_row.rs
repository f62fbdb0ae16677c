//! A flow, as the API tells it.

use super::{BehindRow, FarEnd, Who};
use crate::ledger::{AskedName, Flow, FlowBooks, Ledger, OpenConnections};
use observer_ebpf::{
    Scope, dns,
    flows::{OUTBOUND, TCP, address_of},
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, net::Ipv6Addr};

/// A flow: all connections of an entity with one far end, or the datagrams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Whose it is.
    pub entity: Who,
    /// The far end's address; not there if it was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<String>,
    /// Whose address it is, or was when this was carried; not there if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<FarEnd>,
    /// Of what goes to a service: where the node sends its connections, the most first. What they carry is this flow's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<BehindRow>,
    /// Connections to far ends behind the service beyond those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub behind_more: u64,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
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
    /// Connections that are open, where that can be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_connections: Option<u64>,
    /// Segments sent again.
    pub retransmits: u64,
    /// The mean of the connections' smoothed round trips, each as it was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_seconds: Option<f64>,
}

/// Protocols whose connections have ports.
pub(super) const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// A flow on its way into the answer.
pub(super) struct Candidate<'a> {
    pub(super) flow: Flow,
    pub(super) books: Cow<'a, FlowBooks>,
    /// Unknown where open sockets cannot be read.
    pub(super) open: Option<OpenConnections>,
    pub(super) rates: [f64; 2],
}

/// What is asked for, where a flow goes to a DNS server.
pub(super) fn names(ledger: &Ledger, flow: &Flow) -> Vec<NameRow> {
    if flow.direction != OUTBOUND || flow.port != dns::PORT {
        return Vec::new();
    }
    let names = ledger.names_asked(flow.entity).into_iter().take(MOST_NAMES);
    names.map(|AskedName { name, answers }| NameRow { name: (**name).to_owned(), answers: *answers }).collect()
}

pub(super) fn row(
    entity: Who,
    remote: Option<FarEnd>,
    Candidate { flow, books, open, rates }: &Candidate<'_>,
) -> FlowRow {
    let is_outbound = flow.direction == OUTBOUND;
    let port = (!flow.is_rest() && flow.port != 0).then_some(flow.port);
    let FlowBooks { traffic, connections, failed, retransmits, round_trips: past, active_ns: _, begun_unix_seconds: _ } =
        **books;
    let known_open = open.unwrap_or_default();
    let (sum_us, count) = (past.0 + known_open.round_trips.0, past.1 + known_open.round_trips.1);
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
        behind: Vec::new(),
        behind_more: 0,
        tcp: (flow.protocol == TCP).then(|| TcpRow {
            connections,
            failed_connections: failed,
            open_connections: open.map(|open| open.count),
            retransmits,
            round_trip_seconds: (count > 0).then(|| sum_us as f64 / count as f64 / 1e6),
        }),
    }
}

pub(super) fn protocol_name(number: u8) -> String {
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
    use crate::ledger::EntityId;
    use observer_ebpf::{Traffic, flows::INBOUND};

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
            let open = Some(OpenConnections::default());
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
