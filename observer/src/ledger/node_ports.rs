//! Which pod listens on a port of a node: those in the node's own network, and those that a port of it is handed on to.

use super::{PodHolder, holder::covers};
use std::{collections::HashSet, sync::Arc};

/// Pods that are remembered.
const MOST: usize = 2048;

/// A pod by the ports of its node that it says it listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnNode {
    /// The pod.
    pub pod: Arc<PodHolder>,
    /// Ports with the protocols' numbers.
    pub ports: Arc<[(u16, u8)]>,
    /// Since when, as far as it is known.
    pub since_unix_seconds: Option<u64>,
    /// When it was gone, at the latest.
    pub until_unix_seconds: Option<u64>,
    /// When this was last known to be so.
    pub as_of_unix_seconds: u64,
    /// Whether its end will be told.
    pub is_followed: bool,
    /// Whether it is in the node's network: else some of its ports are the node's.
    pub has_nodes_network: bool,
}

impl OnNode {
    pub(super) fn covers(&self, unix_seconds: u64) -> bool {
        covers(self.since_unix_seconds, self.until_unix_seconds, unix_seconds)
    }
}

/// All that are known.
#[derive(Debug, Default)]
pub(super) struct NodePorts {
    all: Vec<OnNode>,
    left_out: u64,
}

impl NodePorts {
    /// A pod has ports of its node, or had them.
    pub(super) fn tell(&mut self, told: OnNode) {
        if let Some(known) = self.all.iter_mut().find(|known| known.pod.uid == told.pod.uid) {
            let until = known.until_unix_seconds.filter(|_| told.until_unix_seconds.is_some());
            *known = OnNode { until_unix_seconds: until.or(told.until_unix_seconds), ..told };
            return;
        }
        if self.all.len() >= MOST {
            let gone = self.all.iter().position(|known| known.until_unix_seconds.is_some());
            self.all.remove(gone.unwrap_or(0));
            self.left_out += 1;
        }
        self.all.push(told);
    }

    /// Which pods are in a node's network, of all that were asked for: those that are not among them are gone.
    pub(super) fn only(&mut self, node: &str, there: &HashSet<Arc<str>>, now: u64) {
        let of_node = self.all.iter_mut().filter(|known| known.pod.node.as_deref() == Some(node));
        let asked_for = of_node.filter(|known| known.has_nodes_network && !known.is_followed);
        for known in asked_for.filter(|known| !there.contains(&known.pod.uid)) {
            known.until_unix_seconds.get_or_insert(now);
        }
    }

    /// The pod that listens, or listened then, on a port of a node; of those that were gone by then, the last.
    pub(super) fn by_port(&self, node: &str, port: u16, protocol: u8, unix_seconds: u64) -> Option<&OnNode> {
        let listens = self.of_node(node).filter(|known| known.ports.contains(&(port, protocol)));
        let is_past = |known: &OnNode| known.since_unix_seconds.is_none_or(|since| since <= unix_seconds);
        listens
            .filter(|known| is_past(known))
            .max_by_key(|known| (known.covers(unix_seconds), known.since_unix_seconds))
    }

    /// All that listen, or listened, on a port of a node, by whatever protocol; the first first.
    pub(super) fn all_by_port(&self, node: &str, port: u16) -> Vec<&OnNode> {
        let has_port = |known: &&OnNode| known.ports.iter().any(|(its, _)| *its == port);
        let mut all: Vec<_> = self.of_node(node).filter(has_port).collect();
        all.sort_by_key(|known| known.since_unix_seconds);
        all
    }

    fn of_node(&self, node: &str) -> impl Iterator<Item = &OnNode> {
        self.all.iter().filter(move |known| known.pod.node.as_deref() == Some(node))
    }

    /// Those that were forgotten since there were too many.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_a_node_tells_the_pod_that_listens_there_then() {
        let mut ports = NodePorts::default();
        let on_node = |name: &str, since, until| {
            let pod = PodHolder {
                uid: format!("uid-of-{name}").into(),
                namespace: "shop".into(),
                name: name.into(),
                workload: None,
                node: Some("worker-1".into()),
            };
            OnNode {
                pod: Arc::new(pod),
                ports: [(9100, 6)].into(),
                since_unix_seconds: since,
                until_unix_seconds: until,
                as_of_unix_seconds: 0,
                is_followed: name == "own",
                has_nodes_network: name != "web",
            }
        };
        ports.tell(on_node("old", Some(10), None));
        ports.only("worker-1", &HashSet::from(["uid-of-new".into()]), 20);
        let name = |ports: &NodePorts, node: &str, port, protocol, at| {
            ports.by_port(node, port, protocol, at).map(|known| known.pod.name.to_string())
        };
        assert_eq!(name(&ports, "worker-1", 9100, 6, 21).as_deref(), Some("old"), "the last one that had it");
        ports.tell(on_node("new", Some(22), None));
        // It is told of again that it is gone, later.
        ports.tell(on_node("old", Some(10), Some(30)));
        assert_eq!(name(&ports, "worker-1", 9100, 6, 15).as_deref(), Some("old"));
        assert_eq!(name(&ports, "worker-1", 9100, 6, 25).as_deref(), Some("new"));
        for (node, port, protocol, at) in
            [("worker-2", 9100, 6, 15), ("worker-1", 9101, 6, 15), ("worker-1", 9100, 17, 15), ("worker-1", 9100, 6, 5)]
        {
            assert_eq!(name(&ports, node, port, protocol, at), None, "{node} {port} {protocol} {at}");
        }
        let all: Vec<_> = ports.all_by_port("worker-1", 9100).iter().map(|known| &*known.pod.name).collect();
        assert_eq!(all, ["old", "new"]);
        assert!(ports.all_by_port("worker-1", 9101).is_empty() && ports.all_by_port("worker-2", 9100).is_empty());
        // Only those that such an answer lists, and whose end is not told of.
        ports.tell(on_node("web", Some(40), None));
        ports.tell(on_node("own", Some(41), None));
        ports.only("worker-1", &HashSet::new(), 50);
        let there = |ports: &NodePorts| -> Vec<_> {
            let there = ports.all.iter().filter(|known| known.until_unix_seconds.is_none());
            there.map(|known| known.pod.name.to_string()).collect()
        };
        assert_eq!(there(&ports), ["web", "own"]);
    }
}
