//! Far ends in words, for a terminal.

use crate::server::{BehindRow, FarEnd};
use std::fmt::Write as _;

/// `pod shop/db-0`.
pub(crate) fn name(FarEnd { kind, namespace, name, .. }: &FarEnd) -> String {
    namespace.as_ref().map_or_else(|| format!("{kind} {name}"), |namespace| format!("{kind} {namespace}/{name}"))
}

/// `pod shop/db-0 (statefulset db) on worker-3`.
pub(crate) fn full_name(end: &FarEnd) -> String {
    let mut text = name(end);
    // A pod that nobody made stands for itself.
    if let (Some(workload), Some(kind)) = (&end.workload, &end.workload_type)
        && kind != "pod"
    {
        let _ = write!(text, " ({kind} {workload})");
    }
    if let Some(node) = &end.node {
        let _ = write!(text, " on {node}");
    }
    text
}

/// `10.244.3.7:5432`, or `[fd00::7]:5432`.
pub(crate) fn endpoint(address: Option<&str>, port: Option<u16>) -> String {
    match (address.unwrap_or("an address that was forgotten"), port) {
        (address, Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (address, Some(port)) => format!("{address}:{port}"),
        (address, None) => address.to_owned(),
    }
}

/// Who is behind a service, after what is said of that.
pub(crate) fn behind(rows: &[BehindRow], name: fn(&FarEnd) -> String) -> String {
    let mut text = String::new();
    for row in rows {
        let who = row.remote.as_ref().map_or_else(|| row.address.clone(), name);
        let _ = write!(text, ", behind it {who}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_is_and_where_is_told_as_far_as_it_is_known() {
        let text = |text: &str| Some(text.to_owned());
        let pod = FarEnd {
            kind: "pod".into(),
            namespace: text("shop"),
            name: "db-0".into(),
            workload: text("db"),
            workload_type: text("statefulset"),
            node: text("worker-3"),
            ..FarEnd::default()
        };
        assert_eq!(name(&pod), "pod shop/db-0");
        assert_eq!(full_name(&pod), "pod shop/db-0 (statefulset db) on worker-3");
        let alone = FarEnd { workload: text("db-0"), workload_type: text("pod"), node: None, ..pod.clone() };
        assert_eq!(full_name(&alone), "pod shop/db-0");
        let node = FarEnd { kind: "node".into(), name: "worker-3".into(), ..FarEnd::default() };
        assert_eq!(full_name(&node), "node worker-3");
        let row = |address: &str, remote| BehindRow { address: address.into(), port: 1, connections: 1, remote };
        let rows = [row("10.0.0.1", Some(pod)), row("10.0.0.2", None)];
        assert_eq!(behind(&rows, name), ", behind it pod shop/db-0, behind it 10.0.0.2");
    }

    #[test]
    fn an_endpoint_is_as_it_is_written_in_an_address_bar() {
        assert_eq!(endpoint(Some("10.0.0.1"), Some(80)), "10.0.0.1:80");
        assert_eq!(endpoint(Some("fd00::1"), Some(80)), "[fd00::1]:80");
        assert_eq!(endpoint(Some("fd00::1"), None), "fd00::1");
        assert_eq!(endpoint(None, Some(53)), "an address that was forgotten:53");
    }
}
