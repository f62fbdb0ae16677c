//! What entities send and receive.

use super::has_traffic;
use crate::{
    ledger::Entity,
    metrics::family::{Family, Kind, Room, Series, Unit, Value},
};
use observer_ebpf::TcpBook;

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "observer_network_transmit_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::PerScope(|traffic| traffic.transmit_bytes),
        help: "Bytes sent by the cgroup's sockets as on the wire at L3 (IP headers and retransmits included), by where the \
               other end is; rate() over scope=\"internet\" finds who fills the uplink.",
    },
    Family {
        name: "observer_network_receive_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::PerScope(|traffic| traffic.receive_bytes),
        help: "Bytes received by the cgroup's sockets as on the wire at L3 (IP headers and retransmits included), by where \
               the other end is.",
    },
    Family {
        name: "observer_network_transmit_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        room: Room::Kernel,
        series: Series::PerScope(|traffic| traffic.transmit_packets),
        help: "Packets sent as on the wire, after segmentation; many small ones cost more CPU than their bytes suggest.",
    },
    Family {
        name: "observer_network_receive_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        room: Room::Kernel,
        series: Series::PerScope(|traffic| traffic.receive_packets),
        help: "Packets received as on the wire, before they are merged.",
    },
    Family {
        name: "observer_network_transmit_peak_bytes_per_second",
        kind: Kind::Gauge,
        unit: Unit::BytesPerSecond,
        room: Room::Agent,
        series: Series::PerEntity(|entity, window| peak(entity, entity.recent.transmit_peak.largest(window))),
        help: "Bytes sent in the busiest second of the last 60 (with --sample-interval above 1s: the busiest interval); far \
               above rate() means bursts that an average hides.",
    },
    Family {
        name: "observer_network_receive_peak_bytes_per_second",
        kind: Kind::Gauge,
        unit: Unit::BytesPerSecond,
        room: Room::Agent,
        series: Series::PerEntity(|entity, window| peak(entity, entity.recent.receive_peak.largest(window))),
        help: "Bytes received in the busiest second of the last 60 (with --sample-interval above 1s: the busiest interval); \
               far above rate() means bursts that an average hides.",
    },
    Family {
        name: "observer_network_connections",
        kind: Kind::Gauge,
        unit: Unit::Connections,
        room: Room::Kernel,
        series: Series::Connections,
        help: "TCP connections that are open, by where the other end is and who asked first (direction: inbound, outbound), counted \
               at the scrape; one that was there before the agent counts once it has carried something.",
    },
    Family {
        name: "observer_tcp_retransmits_total",
        kind: Kind::Counter,
        unit: Unit::Segments,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| tcp(entity, |tcp| tcp.retransmits)),
        help: "TCP segments sent again, a listener's answers included; over the packets sent it is the loss that the entity's \
               connections meet.",
    },
    Family {
        name: "observer_tcp_transmit_resets_total",
        kind: Kind::Counter,
        unit: Unit::Resets,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| tcp(entity, |tcp| tcp.transmit_resets)),
        help: "TCP connections that this end reset: closed with data unread, or the far end sent to one that is over. Resets of \
               what was never there (a closed port) are nobody's.",
    },
    Family {
        name: "observer_tcp_receive_resets_total",
        kind: Kind::Counter,
        unit: Unit::Resets,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| tcp(entity, |tcp| tcp.receive_resets)),
        help: "TCP connections that the far end reset, refused ones included.",
    },
    Family {
        name: "observer_tcp_failed_connects_total",
        kind: Kind::Counter,
        unit: Unit::Connections,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| tcp(entity, |tcp| tcp.failed_connects)),
        help: "TCP connections asked for that did not come to be: refused, unanswered, given up. One for which the node has no \
               route is refused before anything is sent, and in no count.",
    },
];

/// Absent until the entity has had traffic.
fn tcp(entity: &Entity, of: fn(&TcpBook) -> u64) -> Option<Value> {
    has_traffic(&entity.books).then(|| Value::Count(of(&entity.books.tcp)))
}

/// Absent until the entity has had traffic.
fn peak(entity: &Entity, largest: f64) -> Option<Value> {
    has_traffic(&entity.books).then_some(Value::Float(largest))
}
