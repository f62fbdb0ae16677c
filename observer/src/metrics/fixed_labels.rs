//! Labels that follow an entity's, as they are written: those whose values are known beforehand.

use crate::ledger::CAUSES;
use observer_ebpf::{SCOPES, dns::RCODES, histogram};

/// What follows an entity's labels in a series of each scope.
pub(super) const SCOPE_LABELS: [&str; SCOPES] = [
    ",scope=\"loopback\"",
    ",scope=\"node\"",
    ",scope=\"cluster\"",
    ",scope=\"service\"",
    ",scope=\"intranet\"",
    ",scope=\"internet\"",
];
/// What follows an entity's labels in a series of connections of each scope, by who asked first.
pub(super) const CONNECTION_LABELS: [[&str; 2]; SCOPES] = [
    [",scope=\"loopback\",direction=\"inbound\"", ",scope=\"loopback\",direction=\"outbound\""],
    [",scope=\"node\",direction=\"inbound\"", ",scope=\"node\",direction=\"outbound\""],
    [",scope=\"cluster\",direction=\"inbound\"", ",scope=\"cluster\",direction=\"outbound\""],
    [",scope=\"service\",direction=\"inbound\"", ",scope=\"service\",direction=\"outbound\""],
    [",scope=\"intranet\",direction=\"inbound\"", ",scope=\"intranet\",direction=\"outbound\""],
    [",scope=\"internet\",direction=\"inbound\"", ",scope=\"internet\",direction=\"outbound\""],
];
/// What follows an entity's labels in a series of each cause.
pub(super) const CAUSE_LABELS: [&str; CAUSES] =
    [",by=\"same_container\"", ",by=\"same_pod\"", ",by=\"other_pod\"", ",by=\"host\"", ",by=\"throttled\""];
/// What follows an entity's labels in a series of each response code.
pub(super) const RCODE_LABELS: [&str; RCODES] = [
    ",rcode=\"NOERROR\"",
    ",rcode=\"FORMERR\"",
    ",rcode=\"SERVFAIL\"",
    ",rcode=\"NXDOMAIN\"",
    ",rcode=\"NOTIMP\"",
    ",rcode=\"REFUSED\"",
    ",rcode=\"other\"",
];
/// What follows an entity's labels in each exported bucket, written as Prometheus normalises it.
pub(super) const BOUND_LABELS: [&str; histogram::EXPORTED] = [
    ",le=\"1.024e-06\"",
    ",le=\"4.096e-06\"",
    ",le=\"1.6384e-05\"",
    ",le=\"6.5536e-05\"",
    ",le=\"0.000262144\"",
    ",le=\"0.001048576\"",
    ",le=\"0.004194304\"",
    ",le=\"0.016777216\"",
    ",le=\"0.067108864\"",
    ",le=\"0.268435456\"",
    ",le=\"1.073741824\"",
    ",le=\"4.294967296\"",
];
/// What follows an entity's labels in a series of pressure.
pub(super) const STALL_LABELS: [&str; 6] = [
    ",resource=\"cpu\",kind=\"some\"",
    ",resource=\"cpu\",kind=\"full\"",
    ",resource=\"memory\",kind=\"some\"",
    ",resource=\"memory\",kind=\"full\"",
    ",resource=\"io\",kind=\"some\"",
    ",resource=\"io\",kind=\"full\"",
];
/// Of the kernel's buckets, every second bound is exported.
pub(super) const BUCKETS_PER_BOUND: usize = 2;
const _: () = assert!(BUCKETS_PER_BOUND * histogram::EXPORTED == histogram::BUCKETS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::By;
    use observer_ebpf::{Scope, dns::RCODE_NAMES};

    #[test]
    fn the_scope_labels_are_the_scopes() {
        for scope in Scope::ALL {
            assert_eq!(SCOPE_LABELS[scope as usize], format!(",scope=\"{}\"", scope.label()));
        }
    }

    #[test]
    fn the_response_codes_are_the_kernels() {
        for (label, name) in RCODE_LABELS.iter().zip(RCODE_NAMES) {
            assert_eq!(*label, format!(",rcode=\"{name}\""));
        }
    }

    #[test]
    fn the_cause_labels_are_the_causes() {
        for by in By::ALL {
            assert_eq!(CAUSE_LABELS[by as usize], format!(",by=\"{}\"", by.label()));
        }
    }

    #[test]
    fn the_bounds_are_every_second_bound_of_the_kernel() {
        for (exported, label) in BOUND_LABELS.into_iter().enumerate() {
            let seconds: f64 = label[5..].trim_end_matches('"').parse().unwrap();
            let ns = histogram::bound_ns(BUCKETS_PER_BOUND * exported).unwrap();
            assert_eq!((seconds * 1e9).round() as u64, ns, "{label}");
            let plain = format!("{seconds}");
            // Go's shortest form: an exponent of two digits below 1e-4.
            let normal = if seconds < 1e-4 { format!("{seconds:e}").replace("e-", "e-0") } else { plain };
            assert_eq!(label, format!(",le=\"{normal}\""));
        }
    }
}
