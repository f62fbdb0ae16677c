//! What entities ask DNS servers.

use crate::metrics::family::{Family, Kind, Room, Series, Unit, Value};

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
        help: "DNS messages that answered them, by response code; NXDOMAIN beyond NOERROR is a search list that is tried in vain.",
    },
    Family {
        name: "observer_dns_unanswered_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        room: Room::Kernel,
        series: Series::PerEntity(|entity, _| Some(Value::Count(entity.books.dns.as_deref()?.unanswered))),
        help: "DNS questions that nobody answered within 10 seconds.",
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
