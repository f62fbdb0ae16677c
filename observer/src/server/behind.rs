//! Who stands behind the address of a service, as the API tells it.

use super::{FarEnd, flow_row::WITH_PORTS};
use crate::ledger::{Behind, Holder, Ledger, OnNode, REMEMBERED_SECONDS, Translated, Whose};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Far ends behind one at the most.
const MOST: usize = 100;

/// Where the node sends connections that speak to another address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehindRow {
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// Connections that the node's table has, those among them that ended within the last minutes.
    pub connections: u64,
    /// Whose address it is; not there if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<FarEnd>,
}

/// An address that may be a service's, with or without a port and a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpokenTo {
    /// The address.
    pub address: IpAddr,
    /// The port, if it is to be one.
    pub port: Option<u16>,
    /// The protocol's number, if it is to be one.
    pub protocol: Option<u8>,
}

impl SpokenTo {
    /// Everything that a connection may be asked for by.
    pub fn all_of(one: &Translated) -> [Self; 3] {
        let bare = Self { address: one.spoken_to.ip(), port: None, protocol: None };
        let with_port = Self { port: Some(one.spoken_to.port()), ..bare };
        [bare, with_port, Self { protocol: Some(one.protocol), ..with_port }]
    }
}

/// How many of the connections go where.
pub(super) fn count(translated: &[Translated]) -> Behind {
    let mut behind = Behind::new();
    for one in translated {
        *behind.entry(one.behind).or_default() += 1;
    }
    behind
}

/// The far ends with the most connections, and the connections of those that are left out.
pub(super) fn rows(
    ledger: &Ledger,
    behind: &Behind,
    protocol: Option<u8>,
    now_unix_seconds: u64,
) -> (Vec<BehindRow>, u64) {
    let mut all: Vec<_> = behind.iter().map(|(end, connections)| (*end, *connections)).collect();
    all.sort_unstable_by_key(|(end, connections)| (std::cmp::Reverse(*connections), *end));
    let more = all.iter().skip(MOST).map(|(_, connections)| connections).sum();
    let far_end = |end| {
        let whose = whose(ledger, end, protocol, now_unix_seconds).or_else(|| last(ledger, end))?;
        let on_node = whose.on_node.filter(|told| is_alone(ledger, told, end.port(), now_unix_seconds));
        Some(FarEnd::of(Whose { on_node, ..whose }))
    };
    let row = |(end, connections): (SocketAddr, u64)| BehindRow {
        address: end.ip().to_string(),
        port: end.port(),
        connections,
        remote: far_end(end),
    };
    (all.into_iter().take(MOST).map(row).collect(), more)
}

/// Whether all connections to a port of a node, those that have ended among them, can only have been this pod's: else they are the node's.
fn is_alone(ledger: &Ledger, told: &OnNode, port: u16, now_unix_seconds: u64) -> bool {
    let Some(node) = &told.pod.node else { return true };
    let has_it = |other: &OnNode| other.ports.iter().any(|its| its.0 == port && told.ports.contains(its));
    // The end of one elsewhere that is not in its node's network is not told.
    let last_seen = |other: &OnNode| match other.until_unix_seconds {
        None if other.is_followed => now_unix_seconds,
        until => until.unwrap_or(other.as_of_unix_seconds),
    };
    let was_lately = |other: &OnNode| now_unix_seconds.saturating_sub(last_seen(other)) < REMEMBERED_SECONDS;
    let others = ledger.all_on_node(node, port);
    !others.iter().any(|other| other.pod.uid != told.pod.uid && has_it(other) && was_lately(other))
}

/// Who had an address last: of a connection that has ended, whoever it went to may have, too.
fn last(ledger: &Ledger, end: SocketAddr) -> Option<Whose<'_>> {
    let tenancy = ledger.holders(end.ip()).last()?;
    Some(Whose { tenancy, on_node: None, is_followed: ledger.is_followed(end.ip()) })
}

/// Who has an address, and who listens on a port of it if it is a node's; on which protocol's, if that is to be one.
pub(super) fn whose(ledger: &Ledger, end: SocketAddr, protocol: Option<u8>, at_unix_seconds: u64) -> Option<Whose<'_>> {
    let tenancy = ledger.holder_at(end.ip(), at_unix_seconds)?;
    let on_node = match &tenancy.holder {
        Holder::Node { name } => WITH_PORTS
            .into_iter()
            .filter(|known| protocol.is_none_or(|protocol| protocol == *known))
            .find_map(|protocol| ledger.on_node(name, end.port(), protocol, at_unix_seconds)),
        Holder::Pod(_) | Holder::Service { .. } => None,
    };
    Some(Whose { tenancy, on_node, is_followed: ledger.is_followed(end.ip()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{PodHolder, PodTold};
    use std::sync::Arc;

    const TCP: u8 = 6;

    #[test]
    fn a_nodes_port_is_the_pods_that_has_it_unless_another_had_it_minutes_ago() {
        let mut ledger = Ledger::default();
        let address: IpAddr = [10, 1, 0, 8].into();
        ledger.nodes_told(&[(address, "worker-8".into())], &[], 100);
        let pod = |name: &str, port: (u16, u8), since, until| PodTold {
            pod: Arc::new(PodHolder {
                uid: name.into(),
                namespace: "shop".into(),
                name: name.into(),
                workload: None,
                node: Some("worker-8".into()),
            }),
            addresses: Vec::new(),
            has_nodes_network: true,
            node_ports: [port].into(),
            since_unix_seconds: Some(since),
            until_unix_seconds: until,
            is_followed: true,
        };
        let name = |ledger: &Ledger, now| {
            let behind = Behind::from([(SocketAddr::new(address, 8088), 1)]);
            rows(ledger, &behind, Some(TCP), now).0.swap_remove(0).remote.map(|remote| (remote.kind, remote.name))
        };
        let is = |kind: &str, name: &str| Some((kind.to_owned(), name.to_owned()));
        ledger.pod_told(&pod("old", (8088, TCP), 100, None), 100);
        ledger.pod_told(&pod("other", (8088, 17), 100, None), 100);
        assert_eq!(name(&ledger, 150), is("pod", "old"), "that of another protocol says nothing");
        ledger.pod_told(&pod("old", (8088, TCP), 100, Some(200)), 200);
        ledger.pod_told(&pod("new", (8088, TCP), 203, None), 203);
        assert_eq!(name(&ledger, 204), is("node", "worker-8"));
        assert_eq!(name(&ledger, 379), is("node", "worker-8"));
        assert_eq!(name(&ledger, 380), is("pod", "new"));
        let elsewhere = |name, since| PodTold {
            is_followed: false,
            has_nodes_network: false,
            ..pod(name, (8088, TCP), since, None)
        };
        ledger.pod_told(&pod("new", (8088, TCP), 203, Some(390)), 390);
        ledger.pod_told(&elsewhere("handed-on", 400), 400);
        ledger.pod_told(&elsewhere("to-the-next", 500), 500);
        assert_eq!(name(&ledger, 579), is("node", "worker-8"));
        ledger.pod_told(&elsewhere("to-the-next", 500), 580);
        assert_eq!(name(&ledger, 580), is("pod", "to-the-next"));
    }
}
