//! The node's own figures.

use crate::metrics::family::{Family, Kind, Room, Series, Unit, Value};

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "observer_node_load1",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Procfs,
        series: Series::Node(|node| Some(Value::Float(node.load?.one))),
        help: "The kernel's own load average over 1 minute.",
    },
    Family {
        name: "observer_node_load5",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Procfs,
        series: Series::Node(|node| Some(Value::Float(node.load?.five))),
        help: "The kernel's own load average over 5 minutes.",
    },
    Family {
        name: "observer_node_load15",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Procfs,
        series: Series::Node(|node| Some(Value::Float(node.load?.fifteen))),
        help: "The kernel's own load average over 15 minutes.",
    },
    Family {
        name: "observer_node_load1_unattributed",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Agent,
        series: Series::Node(|node| Some(Value::Float(node.unattributed_load?))),
        help: "observer_node_load1 less all entities' observer_load1: what the kernel's samples at instants differ from the time \
               that passed (docs/kernel.md), and in the first minutes what was active before the agent started.",
    },
    Family {
        name: "observer_node_load1_sleeping",
        kind: Kind::Gauge,
        unit: Unit::Tasks,
        room: Room::Kernel,
        series: Series::Node(|node| Some(Value::Float(node.sleeping_load?))),
        help: "The part of observer_node_load1_unattributed that are tasks which sleep: since Linux 6.12 the kernel leaves some on \
               their run queues for a while, and counts them. By one look a second, averaged as the kernel does.",
    },
    Family {
        name: "observer_node_network_device_transmit_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Procfs,
        series: Series::PerDevice(|device| device.transmit_bytes),
        help: "Bytes sent by a device of the node as the device counts them (L2, forwarded traffic included): what the \
               cgroups' bytes are compared with.",
    },
    Family {
        name: "observer_node_network_device_receive_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Procfs,
        series: Series::PerDevice(|device| device.receive_bytes),
        help: "Bytes received by a device of the node as the device counts them (L2, forwarded traffic included).",
    },
    Family {
        name: "observer_node_network_unattributed_transmit_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::Unattributed(|traffic| traffic.transmit_bytes),
        help: "Bytes sent that could be booked to no cgroup; observer_dropped_total says why. The same bytes are the \
               series with cgroup=\"unattributed\".",
    },
    Family {
        name: "observer_node_network_unattributed_receive_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        room: Room::Kernel,
        series: Series::Unattributed(|traffic| traffic.receive_bytes),
        help: "Bytes received that could be booked to no cgroup; observer_dropped_total says why. The same bytes are the \
               series with cgroup=\"unattributed\".",
    },
];
