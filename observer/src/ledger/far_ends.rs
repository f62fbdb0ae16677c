//! Whose the far ends of flows are, and were: what is told of addresses, and what a flow can be called by that.

use super::{
    Flow, Holder, Ledger, OnNode, PodHolder, Tenancy,
    tenancies::{Move, words_of},
};
use observer_ebpf::flows::OUTBOUND;
use std::{collections::HashSet, net::IpAddr, sync::Arc};

/// A pod, as far as addresses go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTold {
    /// The pod.
    pub pod: Arc<PodHolder>,
    /// What it has for itself; nothing, if it is in its node's network.
    pub addresses: Vec<IpAddr>,
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
        let PodTold { pod, addresses, node_ports, since_unix_seconds: since, until_unix_seconds, is_followed } = told;
        if !node_ports.is_empty() {
            self.tenancies.on_node(OnNode {
                pod: Arc::clone(pod),
                ports: Arc::clone(node_ports),
                since_unix_seconds: *since,
                until_unix_seconds: *until_unix_seconds,
            });
        }
        let holder = Holder::Pod(Arc::clone(pod));
        let told = |address: &IpAddr| match until_unix_seconds {
            Some(until) => self.tenancies.had(words_of(*address), &holder, *since, *until),
            None => self.tenancies.held(words_of(*address), &holder, *since, *is_followed, now_unix_seconds),
        };
        let moves: Vec<Move> = addresses.iter().filter_map(told).collect();
        self.move_flows(moves);
    }

    /// A pod of this node has no addresses but those: it may have had others before.
    pub fn pod_has_no_other(&mut self, PodTold { pod, addresses, .. }: &PodTold, now_unix_seconds: u64) {
        let addresses: Vec<_> = addresses.iter().copied().map(words_of).collect();
        self.tenancies.only_has(&pod.uid, &addresses, now_unix_seconds);
    }

    /// Whose an address is, by somebody who was asked for it; nobody's, if nobody is named.
    pub fn address_told(&mut self, address: IpAddr, holder: Option<(Holder, Option<u64>)>, now_unix_seconds: u64) {
        let address = words_of(address);
        let moved = match holder {
            Some((holder, since)) => self.tenancies.held(address, &holder, since, false, now_unix_seconds),
            None => self.tenancies.free(address, now_unix_seconds),
        };
        self.move_flows(moved);
    }

    /// The addresses of all nodes, as they are now.
    pub fn nodes_told(&mut self, nodes: &[(IpAddr, Arc<str>)], now_unix_seconds: u64) {
        let moves: Vec<Move> = self.tenancies.nodes(nodes, now_unix_seconds);
        self.move_flows(moves);
    }

    /// All pods that are in a node's network now, by their UIDs.
    pub fn pods_on_node(&mut self, node: &str, there: &HashSet<Arc<str>>, now_unix_seconds: u64) {
        self.tenancies.only_on_node(node, there, now_unix_seconds);
    }

    /// Somebody was asked for an address, and has answered.
    pub fn asked_for(&mut self, address: IpAddr, now_unix_seconds: u64) {
        self.tenancies.note_asked(words_of(address), now_unix_seconds);
    }

    /// When somebody last answered who has an address.
    pub fn last_asked(&self, address: IpAddr) -> Option<u64> {
        self.tenancies.asked(words_of(address))
    }

    /// Whether who has an address is told of without asking.
    pub fn is_followed(&self, address: IpAddr) -> bool {
        self.tenancies.is_followed(words_of(address))
    }

    /// All who are known to have, or have had, an address, the first first.
    pub fn holders(&self, address: IpAddr) -> impl Iterator<Item = &Tenancy> {
        self.tenancies.of(words_of(address))
    }

    /// The pod in a node's network that a port tells.
    pub fn on_node(&self, node: &str, port: u16, protocol: u8, unix_seconds: u64) -> Option<&OnNode> {
        self.tenancies.by_port(node, port, protocol, unix_seconds)
    }

    /// Addresses and pods that were forgotten, since there were too many.
    pub fn far_ends_left_out(&self) -> u64 {
        self.tenancies.left_out()
    }

    /// Whose the far end of a flow is; nobody knows, if nobody.
    pub fn far_end(&self, flow: &Flow, now_unix_seconds: u64) -> Option<Whose<'_>> {
        let tenancy = self.tenancies.get(flow.remote, flow.tenancy)?;
        let on_node = match &tenancy.holder {
            // Of what the far end asked, its port is any.
            Some(Holder::Node { name }) if flow.direction == OUTBOUND => {
                self.tenancies.by_port(name, flow.port, flow.protocol, now_unix_seconds)
            }
            _ => None,
        };
        let is_followed = self.tenancies.is_followed(flow.remote);
        tenancy.holder.is_some().then_some(Whose { tenancy, on_node, is_followed })
    }

    /// A flow under the tenancy that it is shown under: what is yet to be told apart is not.
    pub fn as_shown(&self, flow: &Flow) -> Flow {
        Flow { tenancy: self.tenancies.shown(flow.remote, flow.tenancy), ..*flow }
    }
}
