//! How many series an entity has.

use super::fixed_labels::BOUND_LABELS;
use super::samples::stalls;
use super::{Family, Series, families};
use crate::ledger::Entity;
use observer_ebpf::Traffic;

/// More series than an entity can have.
pub const MOST_SERIES: u64 = 128;

/// How many series an entity has on a page.
pub fn series_of(entity: &Entity) -> usize {
    let scopes = entity.books.traffic.iter().filter(|traffic| **traffic != Traffic::default()).count();
    let waits = if entity.books.waits.iter().any(|count| *count > 0) { BOUND_LABELS.len() + 3 } else { 0 };
    let causes = entity.books.caused_ns.iter().filter(|ns| **ns > 0).count();
    let dns = entity.books.dns.as_deref();
    let series = |family: &Family| match family.series {
        Series::PerScope(_) => scopes,
        Series::Waits => waits,
        Series::Caused => causes,
        Series::DnsResponses => dns.map_or(0, |dns| dns.responses.iter().filter(|count| **count > 0).count()),
        Series::DnsWaits => dns.map_or(0, |dns| dns.waits.len() + 2),
        Series::Stalls => stalls(entity).into_iter().flatten().flatten().count(),
        Series::Connections => entity.connections.as_flattened().iter().flatten().count(),
        Series::PerEntity(read) => usize::from(read(entity, u64::MAX).is_some()),
        _ => 0,
    };
    families().map(series).sum()
}
