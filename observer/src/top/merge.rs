//! Several nodes as one: a row for each workload.

use crate::server::{EntityRow, SnapshotAnswer, Who};
use std::collections::BTreeMap;

/// All that several agents answered: what workloads do on all of their nodes together.
pub fn merged(answers: &[SnapshotAnswer]) -> SnapshotAnswer {
    let mut rows = BTreeMap::<String, EntityRow>::new();
    let mut whole = SnapshotAnswer {
        node: if answers.len() == 1 { "1 node".into() } else { format!("{} nodes", answers.len()) },
        nodes: Some(answers.len()),
        ..SnapshotAnswer::default()
    };
    for answer in answers {
        whole.time_unix_seconds = whole.time_unix_seconds.max(answer.time_unix_seconds);
        whole.window_seconds = whole.window_seconds.max(answer.window_seconds);
        if let Some(load) = answer.load {
            *whole.load.get_or_insert_default() += load;
        }
        if let Some(rest) = answer.load1_unattributed {
            *whole.load1_unattributed.get_or_insert_default() += rest;
        }
        whole.all += answer.all;
        whole.more += answer.more;
        for row in &answer.entities {
            let entity = whole_of(&row.entity, &answer.node);
            let sum = rows.entry(entity.to_string());
            add(sum.or_insert_with(|| EntityRow { entity, ..EntityRow::default() }), row);
        }
    }
    whole.entities = rows.into_values().collect();
    whole
}

/// The workload, wherever its pods are; what is no pod's is its node's.
fn whole_of(who: &Who, node: &str) -> Who {
    let Who { namespace, workload, workload_type, .. } = who.clone();
    if namespace.is_some() && workload.is_some() && workload_type.is_some() {
        return Who { namespace, workload, workload_type, ..Who::default() };
    }
    Who { node: Some(node.into()), ..who.clone() }
}

fn add(sum: &mut EntityRow, more: &EntityRow) {
    sum.now += more.now;
    for (all, parts) in [(&mut sum.transmit_bytes, &more.transmit_bytes), (&mut sum.receive_bytes, &more.receive_bytes)]
    {
        for (scope, bytes) in parts {
            *all.entry(scope.clone()).or_default() += bytes;
        }
    }
    for (by, seconds) in &more.caused_wait_seconds {
        *sum.caused_wait_seconds.entry(by.clone()).or_default() += seconds;
    }
    sum.wait_seconds += more.wait_seconds;
    sum.uninterruptible_seconds += more.uninterruptible_seconds;
    sum.retransmits += more.retransmits;
    sum.failed_connections += more.failed_connections;
    // Of which nobody knows, nothing is said.
    for (all, part) in [(&mut sum.cpu_seconds, more.cpu_seconds), (&mut sum.throttled_seconds, more.throttled_seconds)]
    {
        if let Some(part) = part {
            *all.get_or_insert_default() += part;
        }
    }
    for (all, part) in [
        (&mut sum.memory_working_set_bytes, more.memory_working_set_bytes),
        (&mut sum.memory_limit_bytes, more.memory_limit_bytes),
        (&mut sum.oom_kills, more.oom_kills),
        (&mut sum.open_connections, more.open_connections),
    ] {
        if let Some(part) = part {
            *all.get_or_insert_default() += part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Averages, Doings};

    fn answer(node: &str, load1: f64, peak: f64, memory: Option<u64>) -> SnapshotAnswer {
        let text = |text: &str| Some(text.to_owned());
        let pod = Who {
            namespace: text("shop"),
            pod: Some(format!("web-{node}")),
            workload: text("web"),
            workload_type: text("deployment"),
            ..Who::default()
        };
        let now = Doings {
            transmit_peak_bytes_per_second: peak,
            load: Averages { load1, ..Averages::default() },
            ..Doings::default()
        };
        let row = |entity| EntityRow {
            entity,
            now,
            memory_working_set_bytes: memory,
            transmit_bytes: BTreeMap::from([("cluster".into(), 5)]),
            ..EntityRow::default()
        };
        let host = Who { cgroup: text("/system.slice"), ..Who::default() };
        SnapshotAnswer { node: node.into(), entities: vec![row(pod), row(host)], all: now, ..SnapshotAnswer::default() }
    }

    #[test]
    fn a_workload_of_two_nodes_is_one_row_and_their_services_are_two() {
        let whole = merged(&[answer("a", 1.5, 10.0, Some(7)), answer("b", 0.5, 30.0, None)]);
        let names: Vec<_> = whole.entities.iter().map(|row| row.entity.to_string()).collect();
        assert_eq!(names, ["a: /system.slice", "b: /system.slice", "shop/web (deployment)"]);
        let web = &whole.entities[2];
        let (host, text) = (&whole.entities[0].entity, |text: &str| Some(text.to_owned()));
        assert_eq!((&host.node, &host.cgroup), (&text("a"), &text("/system.slice")));
        assert_eq!((&web.entity.workload, &web.entity.pod, &web.entity.cgroup), (&text("web"), &None, &None));
        assert_eq!((web.now.load.load1, web.now.transmit_peak_bytes_per_second), (2.0, 30.0));
        assert_eq!((web.memory_working_set_bytes, web.transmit_bytes["cluster"]), (Some(7), 10));
        assert_eq!(web.cpu_seconds, None, "nobody knows");
        assert_eq!((whole.node.as_str(), whole.all.load.load1, whole.load), ("2 nodes", 2.0, None));
        assert_eq!((whole.nodes, whole.all.transmit_peak_bytes_per_second), (Some(2), 30.0));
    }
}
