//! Who stands behind the address of a service, as the API tells it.

use super::{FarEnd, flow_row::WITH_PORTS};
use crate::ledger::{Behind, Holder, Ledger, Translated, Whose};
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
    let row = |(end, connections): (SocketAddr, u64)| BehindRow {
        address: end.ip().to_string(),
        port: end.port(),
        connections,
        remote: whose(ledger, end, protocol, now_unix_seconds).or_else(|| last(ledger, end)).map(FarEnd::of),
    };
    (all.into_iter().take(MOST).map(row).collect(), more)
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
