//! Every family that the agent exports: the one table from which the exporter and docs/metrics.md are drawn, a file for each
//! subject.
//!
//! To add a metric, add a row: its [`Series`](super::Series) says where in a snapshot the values are, and the encoder writes
//! nothing that has no row.

mod agent;
mod dns;
mod history;
mod network;
mod node;
mod resources;
mod tasks;
mod workloads;

use super::family::{Family, Value};
use crate::ledger::{Books, Recent};
use observer_ebpf::Traffic;

/// The families, in the order of the page.
pub fn families() -> impl Iterator<Item = &'static Family> + Clone {
    [
        network::FAMILIES,
        dns::FAMILIES,
        tasks::FAMILIES,
        resources::FAMILIES,
        workloads::FAMILIES,
        node::FAMILIES,
        history::FAMILIES,
        agent::FAMILIES,
    ]
    .into_iter()
    .flatten()
}

fn has_traffic(books: &Books) -> bool {
    books.traffic.iter().any(|traffic| *traffic != Traffic::default())
}

/// Absent until something of it was active.
fn load(books: &Books, recent: &Recent, load: f64) -> Option<Value> {
    let has_ended = books.wait_ns + books.run_ns + books.uninterruptible_ns > 0;
    (has_ended || recent.has_load()).then_some(Value::Float(load))
}

/// Absent until there is something to count.
fn nanoseconds(ns: u64) -> Option<Value> {
    (ns > 0).then_some(Value::Nanoseconds(ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Kind, Series, Unit};
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let names: HashSet<&str> = families().map(|family| family.name).collect();
        assert_eq!(names.len(), families().count());
        for Family { name, kind, unit, .. } in families() {
            assert!(name.starts_with("observer_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let unit = match unit {
                Unit::Bytes => "bytes",
                Unit::BytesPerSecond => "bytes_per_second",
                Unit::Seconds => "seconds",
                Unit::Packets => "packets",
                Unit::Segments => "retransmits",
                Unit::Resets => "resets",
                Unit::Connections => "connect",
                Unit::Periods => "periods",
                Unit::Tasks => "load",
                Unit::Count | Unit::Truth | Unit::Labelled => continue,
            };
            assert!(name.contains(unit), "{name} does not name its unit");
        }
    }

    #[test]
    fn help_is_one_line_that_needs_no_escape() {
        for Family { name, help, .. } in families() {
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']) && !help.contains("  "), "{name}: {help:?}");
        }
    }

    #[test]
    fn the_page_counts_its_series_in_its_last_family() {
        let at = families().position(|family| matches!(family.series, Series::Page));
        assert_eq!(at, Some(families().count() - 1), "what comes after would not be counted");
    }
}
