//! Whose the far ends of flows are, and were: what is told of addresses, and what a flow can be called by that.

use super::{Flow, Holder, Ledger, OnNode, PodHolder, Tenancy, tenancies::words_of};
use observer_ebpf::flows::OUTBOUND;
use std::{collections::HashSet, net::IpAddr, sync::Arc};

/// A pod, as far as addresses go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTold {
    /// The pod.
    pub pod: Arc<PodHolder>,
    /// What it has for itself; nothing, if it is in its node's network.
    pub addresses: Vec<IpAddr>,
    /// Whether it is in its node's network.
    pub has_nodes_network: bool,
    /// The ports of the node that it says it listens on, with the protocols' numbers.
    pub node_ports: Arc<[(u16, u8)]>,
    /// Since when it has them, as far as that is known.
    pub since_unix_seconds: Option<u64>,
    /// When it was over, if it is.
    pub until_unix_seconds: Option<u64>,
    /// Whether its end will be told, too.
    pub is_followed: bool,
}

/// Whose an address is or was.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The one that has it, and when.
    pub tenancy: &'a Tenancy,
    /// If that is a node: the pod there that the port tells.
    pub on_node: Option<&'a OnNode>,
    /// Whether it is known without asking that this is so now.
    pub is_followed: bool,
}

impl Ledger {
    /// A pod has addresses and ports, or had them.
    pub fn pod_told(&mut self, told: &PodTold, now_unix_seconds: u64) {
        let PodTold { pod, addresses, node_ports, since_unix_seconds: since, until_unix_seconds, is_followed, .. } =
            told;
        if !node_ports.is_empty() {
            self.node_ports.tell(OnNode {
                pod: Arc::clone(pod),
                ports: Arc::clone(node_ports),
                since_unix_seconds: since.or(Some(now_unix_seconds)),
                until_unix_seconds: *until_unix_seconds,
                as_of_unix_seconds: now_unix_seconds,
                is_followed: *is_followed,
                has_nodes_network: told.has_nodes_network,
            });
        }
        let holder = Holder::Pod(Arc::clone(pod));
        for address in addresses.iter().copied().map(words_of) {
            match until_unix_seconds {
                Some(until) => self.tenancies.had(address, &holder, *since, *until, *is_followed),
                None => self.tenancies.held(address, &holder, *since, *is_followed, now_unix_seconds),
            }
        }
    }

    /// A pod of this node has no addresses but those: it may have had others before.
    pub fn pod_has_no_other(&mut self, PodTold { pod, addresses, .. }: &PodTold, now_unix_seconds: u64) {
        let addresses: Vec<_> = addresses.iter().copied().map(words_of).collect();
        self.tenancies.only_has(&pod.uid, &addresses, now_unix_seconds);
    }

    /// Whose an address is, by somebody who was asked for it; nobody's, if nobody is named.
    pub fn address_told(&mut self, address: IpAddr, holder: Option<(Holder, Option<u64>)>, now_unix_seconds: u64) {
        let address = words_of(address);
        match holder {
            Some((holder, since)) => self.tenancies.held(address, &holder, since, false, now_unix_seconds),
            None => self.tenancies.free(address, now_unix_seconds),
        }
    }

    /// The addresses of all nodes, as they are now; those of `begun` are so since just now.
    pub fn nodes_told(&mut self, nodes: &[(IpAddr, Arc<str>)], begun: &[IpAddr], now_unix_seconds: u64) {
        self.tenancies.nodes(nodes, begun, now_unix_seconds);
    }

    /// All pods that are in a node's network now, by their UIDs.
    pub fn pods_on_node(&mut self, node: &str, there: &HashSet<Arc<str>>, now_unix_seconds: u64) {
        self.node_ports.only(node, there, now_unix_seconds);
    }

    /// Somebody was asked for an address.
    pub fn asked_for(&mut self, address: IpAddr, now_unix_seconds: u64) {
        self.tenancies.note_asked(words_of(address), now_unix_seconds);
    }

    /// When somebody was last asked who has an address.
    pub fn last_asked(&self, address: IpAddr) -> Option<u64> {
        self.tenancies.asked(words_of(address))
    }

    /// Whether who has an address is told of without asking.
    pub fn is_followed(&self, address: IpAddr) -> bool {
        self.tenancies.is_followed(words_of(address))
    }

    /// All who are known to have, or have had, an address, the first first.
    pub fn holders(&self, address: IpAddr) -> &[Tenancy] {
        self.tenancies.of(words_of(address))
    }

    /// The pod that listens on a port of a node, or listened there then.
    pub fn on_node(&self, node: &str, port: u16, protocol: u8, unix_seconds: u64) -> Option<&OnNode> {
        self.node_ports.by_port(node, port, protocol, unix_seconds).filter(|known| known.covers(unix_seconds))
    }

    /// All pods that are known to listen, or to have listened, on a port of a node, the first first.
    pub fn all_on_node(&self, node: &str, port: u16) -> Vec<&OnNode> {
        self.node_ports.all_by_port(node, port)
    }

    /// Addresses and pods that were forgotten, since there were too many.
    pub fn far_ends_left_out(&self) -> u64 {
        self.tenancies.left_out() + self.node_ports.left_out()
    }

    /// Whose the far end of a flow is that last carried something then; nobody knows, if nobody.
    pub fn far_end(&self, flow: &Flow, unix_seconds: u64) -> Option<Whose<'_>> {
        let tenancy = self.tenancies.get(flow.remote, flow.tenancy)?;
        let on_node = match &tenancy.holder {
            // Of what the far end asked, its port is any.
            Holder::Node { name } if flow.direction == OUTBOUND => {
                self.node_ports.by_port(name, flow.port, flow.protocol, unix_seconds)
            }
            _ => None,
        };
        Some(Whose { tenancy, on_node, is_followed: self.tenancies.is_followed(flow.remote) })
    }

    /// Whether nobody has told yet whose the far end of a flow was.
    pub fn is_open(&self, flow: &Flow) -> bool {
        self.tenancies.is_open(flow.remote, flow.tenancy)
    }

    /// A flow under the tenancy that it is shown under: what is yet to be told apart is not.
    pub fn as_shown(&self, flow: &Flow) -> Flow {
        Flow { tenancy: self.tenancies.shown(flow.remote, flow.tenancy), ..*flow }
    }
}
