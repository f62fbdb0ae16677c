//! What entities ask DNS servers.

use crate::metrics::family::{Family, Kind, Room, Series, Unit, Value};

fn unless_none(count: u64) -> Option<Value> {
    (count > 0).then_some(Value::Count(count))
}

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "observer_dns_queries_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| Some(Value::Count(entity.books.dns.as_deref()?.queries))),
        help: "DNS messages that the cgroup's sockets sent to port 53 over UDP or TCP, those sent again included; a rate of many a \
               second is a resolver that nobody caches for, or a loop.",
    },
    Family {
        name: "observer_dns_responses_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::DnsResponses,
        help: "DNS messages that answered a question that was open, by response code; NXDOMAIN beyond NOERROR is a search list that is tried in vain.",
    },
    Family {
        name: "observer_dns_unasked_responses_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| unless_none(entity.books.dns.as_deref()?.unasked)),
        help: "DNS messages from port 53 that answered no question that was open: they came too late, twice, from the second of several \
               servers that were asked at once (if the socket still waits), from one that was not asked, to a socket that asked nothing, as a further part of an \
               answer (a zone transfer), or they repeated another question.",
    },
    Family {
        name: "observer_dns_unanswered_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| Some(Value::Count(entity.books.dns.as_deref()?.unanswered))),
        help: "DNS questions that nobody answered within 10 seconds (within 2, while more than 2048 are open on the node).",
    },
    Family {
        name: "observer_dns_response_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        room: Room::Kernel,
        series: Series::DnsWaits,
        help: "Time from a DNS question to its answer, as the cgroup's sockets saw it; a question that was sent again is as old as it was \
               when it was sent first.",
    },
];
