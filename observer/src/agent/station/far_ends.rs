//! What is known of who has which address: told by the node's own pods as they come and go, by the list of nodes, and by answers to
//! questions.

use super::Station;
use crate::{
    agent::{clock::unix_seconds, pods::Pods, translations::Told},
    kernel::monotonic_ns,
    kube::{ClusterRanges, Kinds, NoAnswer, Peer, PeerAnswer, Pod, Question, node_of},
    ledger::{Flow, FlowBooks, Holder, PodHolder, PodTold, WorkloadNames},
    server::{BehindRow, FlowsAnswer, SpokenTo, WhoisAnswer, WhoisQuery, WhoisSource},
};
use observer_ebpf::{Scope, flows::address_of};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

/// How old an answer may be when flows are looked at.
const FRESH_SECONDS: u64 = 5;
/// The least that a flow has carried whose far end is asked for before anybody looks.
const HEAVY_BYTES: u64 = 1 << 20;
/// How often open sockets are looked at for an address that goes from one to the next.
const LOOK_EVERY_NS: u64 = 1_000_000_000;
/// How often they are looked at when nobody asks, and how much longer than a look the pause before it is: a look of a thousand sockets takes one
/// or two milliseconds.
const LOOK_ANYWAY_NS: u64 = 1_500_000_000;
const LOOK_SHARE: u64 = 10_000;
/// How often a heavy flow's far end is asked for again of which nobody could tell.
const AGAIN_SECONDS: u64 = 60;
/// The same of an address that is in none of the cluster's ranges, whoever asks.
const OUTSIDE_SECONDS: u64 = 300;
/// Nodes of a cluster of which nobody tells how many they are.
const NODES_UNKNOWN: usize = 1000;
/// How far back a flow counts as one that carries something.
const LATELY_NS: u64 = 60_000_000_000;

impl Station {
    /// What pods of this node, by the UIDs of their cgroups, have for addresses.
    pub(super) fn tell_addresses(&mut self, cgroup_uids: &[Arc<str>]) {
        let Some(pods) = &self.parts.pods else { return };
        let now = unix_seconds();
        for uid in cgroup_uids {
            let Some(pod) = pods.store.pod(uid) else { continue };
            let is_over = !pods.store.is_there(uid);
            let workload = pods.store.names(uid).map(|names| Arc::clone(&names.workload));
            let until = is_over.then(|| pod.ended_unix_seconds.unwrap_or(now));
            let told = told(pod, workload, until, true);
            self.ledger.pod_told(&told, now);
            self.ledger.pod_has_no_other(&told, now);
        }
    }

    /// Looks at what open sockets carry, whoever asks: an address may be another's by the time that somebody does. Many sockets are looked
    /// at less often.
    pub(in crate::agent) fn look_now_and_then(&mut self) {
        let pause_ns = self.look_took_ns.saturating_mul(LOOK_SHARE).max(LOOK_ANYWAY_NS);
        if monotonic_ns().saturating_sub(self.looked_ns) >= pause_ns {
            self.before_hands_change();
        }
    }

    /// What open sockets have carried is still that of whoever had the addresses until now.
    pub(in crate::agent) fn before_hands_change(&mut self) {
        if monotonic_ns().saturating_sub(self.looked_ns) < LOOK_EVERY_NS {
            return;
        }
        // First the books: a cgroup that they do not know yet would have its flows on nobody.
        if let Err(error) = self.read().and_then(|()| self.look_at_sockets(|_, _| {})) {
            tracing::warn!(%error, "open sockets cannot be looked at: what they carried may be told as the next one's who has an address");
        }
    }

    /// The addresses of this node and, where they are known, of the others.
    pub(super) fn tell_nodes(&mut self, own: &[IpAddr]) {
        let is_its = |address: &&IpAddr| !(address.is_loopback() || address.is_unspecified() || is_link_local(address));
        let node: Arc<str> = self.parts.node_name.as_str().into();
        let mut nodes: Vec<_> = own.iter().filter(is_its).map(|address| (*address, Arc::clone(&node))).collect();
        // Of the first ones nobody knows since when; one that comes later was another's before, or nobody's.
        let is_known = |address: &IpAddr| self.nodes.iter().any(|(known, _)| known == address);
        let begun =
            nodes.iter().map(|(address, _)| *address).filter(|address| !self.nodes.is_empty() && !is_known(address));
        let begun: Vec<_> = begun.collect();
        for other in self.cluster_ranges().map(|ranges| Arc::clone(&ranges.nodes)).iter().flat_map(|nodes| nodes.iter())
        {
            nodes.extend(other.addresses.iter().map(|address| (*address, Arc::clone(&other.name))));
        }
        if nodes != self.nodes {
            self.ledger.nodes_told(&nodes, &begun, unix_seconds());
            self.nodes = nodes;
        }
    }

    fn cluster_ranges(&self) -> Option<&ClusterRanges> {
        self.parts.pods.as_ref().map(Pods::ranges)
    }

    /// How many nodes the cluster has; where nobody tells, it may be a large one.
    pub(in crate::agent) fn cluster_nodes(&self) -> usize {
        self.cluster_ranges().and_then(|ranges| ranges.node_count).unwrap_or(NODES_UNKNOWN)
    }

    /// The question for an address, if the API server may be able to tell what is not known without it.
    fn question(&self, address: IpAddr, scope: Scope) -> Option<Question> {
        let pods = self.parts.pods.as_ref()?;
        // These are never one pod's, or one service's.
        if address.is_multicast() || is_link_local(&address) {
            return None;
        }
        let kinds = match scope {
            Scope::Node | Scope::Cluster => Kinds::Pods,
            Scope::Service => Kinds::Services,
            // It may be the cluster's where nobody knows what that is, or where some of its pods have addresses of other ranges.
            Scope::Intranet => Kinds::Any,
            Scope::Loopback | Scope::Internet => return None,
        };
        Some(Question { address, kinds, node: self.node_to_ask(address, pods) })
    }

    /// Among whose pods one is looked for that has the address as its second: the node in whose range it is, or else that of the pod that
    /// was last known to have it.
    fn node_to_ask(&self, address: IpAddr, pods: &Pods) -> Option<Arc<str>> {
        let of_range = node_of(address, &pods.ranges().nodes).cloned();
        of_range.or_else(|| match &self.ledger.holders(address).last()?.holder {
            Holder::Pod(pod) => pod.node.clone(),
            Holder::Node { .. } | Holder::Service { .. } => None,
        })
    }

    /// Whether who has an address was told less than so many seconds ago.
    fn is_fresh(&self, address: IpAddr, seconds: u64) -> bool {
        let asked = self.ledger.last_asked(address);
        asked.is_some_and(|asked| unix_seconds().saturating_sub(asked) < seconds)
    }

    /// How old an answer may be: of what is most likely no pod's, older than others.
    fn pause(&self, scope: Scope, pause: u64) -> u64 {
        let is_outside =
            scope == Scope::Intranet && self.parts.pods.as_ref().is_some_and(|pods| !pods.ranges_are_missing());
        if is_outside { OUTSIDE_SECONDS } else { pause }
    }

    /// Whether an address is this node's own.
    fn is_own(&self, address: IpAddr) -> bool {
        self.nodes.iter().any(|(known, node)| *known == address && **node == *self.parts.node_name)
    }

    /// What to ask before these flows, and who stands behind the services among them, are shown.
    pub(in crate::agent) fn questions(&self, answer: &FlowsAnswer) -> Vec<Question> {
        let mut questions = self.questions_for(answer.flows.iter().filter_map(|row| row.remote_address.as_deref()));
        // Those that were never asked for first, each in the order of their flows.
        questions.sort_by_key(|question| self.ledger.last_asked(question.address).is_some());
        questions.extend(answer.flows.iter().flat_map(|row| self.questions_behind(&row.behind)));
        questions
    }

    /// What to ask before those that stand behind a service are shown.
    pub(in crate::agent) fn questions_behind(&self, rows: &[BehindRow]) -> Vec<Question> {
        self.questions_for(rows.iter().map(|row| row.address.as_str()))
    }

    /// By the scopes of the addresses: that of a flow may be another's, to whom the node has translated a service's address.
    fn questions_for<'a>(&self, addresses: impl Iterator<Item = &'a str>) -> Vec<Question> {
        let mut seen = HashSet::new();
        let questions = addresses.filter_map(|address| {
            let address = address.parse().ok()?;
            let scope = self.parts.kernel.scope_of(address);
            // The node's own are told of, and so are the addresses of nodes elsewhere, but not who listens there.
            let is_elsewhere = scope != Scope::Node;
            let is_asked_for =
                is_elsewhere && !self.is_fresh(address, self.pause(scope, FRESH_SECONDS)) && seen.insert(address);
            is_asked_for.then(|| self.question(address, scope))?
        });
        questions.collect()
    }

    /// The node's own addresses, and all that nobody tells of, where nobody tells of pods.
    pub(super) fn own_addresses(&self) -> Vec<IpAddr> {
        let own = self.nodes.iter().filter(|(_, node)| **node == *self.parts.node_name);
        own.map(|(address, _)| *address).collect()
    }

    /// The question for the heaviest flow whose far end nobody has asked for yet.
    pub(in crate::agent) fn heaviest_unnamed(&mut self) -> Option<Question> {
        self.ledger.settle_far_ends();
        let now_ns = monotonic_ns();
        let is_heavy = |flow: &Flow, books: &FlowBooks| {
            books.bytes() >= HEAVY_BYTES
                && !flow.is_rest()
                && now_ns.saturating_sub(books.active_ns) < LATELY_NS
                && self.ledger.is_open(flow)
        };
        let heavy = self.ledger.flows().filter(|(flow, books)| is_heavy(flow, books));
        let asked = heavy.filter_map(|(flow, books)| {
            let address = IpAddr::V6(Ipv6Addr::from(address_of(flow.remote))).to_canonical();
            let scope = self.parts.kernel.scope_of(address);
            // The node's own are told of.
            let question = if scope == Scope::Node { None } else { self.question(address, scope) }?;
            // Who had it when it was last asked for is asked for again when there is as much again.
            let pause = if flow.tenancy == 0 { AGAIN_SECONDS } else { FRESH_SECONDS };
            (!self.is_fresh(address, self.pause(scope, pause))).then_some((books.bytes(), question))
        });
        asked.max_by_key(|(bytes, _)| *bytes).map(|(_, question)| question)
    }

    /// What the API server says of an address, or why it says nothing.
    pub(in crate::agent) fn answered(&mut self, address: IpAddr, answer: Result<PeerAnswer, NoAnswer>) {
        let now = unix_seconds();
        self.ledger.asked_for(address, now);
        if let Some(pods) = &mut self.parts.pods {
            pods.far_ends_told(&answer);
        }
        let Ok(PeerAnswer { pods, service, .. }) = answer else { return };
        let ledger = &mut self.ledger;
        let (on_node, mut own): (Vec<_>, Vec<_>) = pods.into_iter().partition(|peer| peer.pod.host_network);
        // Those that have ended first, and then the newest last.
        own.sort_by_key(|peer| (!peer.pod.has_finished(), peer.pod.since_unix_seconds));
        let all = |peers: &[Peer]| -> Vec<PodTold> { peers.iter().map(|peer| peer_told(peer, now)).collect() };
        let known_node = ledger.holders(address).last().and_then(|last| match &last.holder {
            Holder::Node { name } if last.covers(now) => Some(Arc::clone(name)),
            _ => None,
        });
        if let Some(node) = on_node.first().and_then(|peer| peer.pod.node.clone()).or(known_node) {
            if !ledger.is_followed(address) {
                ledger.address_told(address, Some((Holder::Node { name: Arc::clone(&node) }, None)), now);
            }
            for told in all(&on_node) {
                ledger.pod_told(&told, now);
            }
            let there = on_node.iter().map(|peer| Arc::clone(&peer.pod.uid)).collect();
            ledger.pods_on_node(&node, &there, now);
        } else if let Some(service) = service {
            let holder = Holder::Service { namespace: service.namespace, name: service.name };
            ledger.address_told(address, Some((holder, service.since_unix_seconds)), now);
        } else {
            let told = all(&own);
            for told in &told {
                ledger.pod_told(told, now);
            }
            if told.iter().all(|told| told.until_unix_seconds.is_some()) {
                ledger.address_told(address, None, now);
            }
        }
    }

    /// What to ask before it can be said who has an address; why nobody can be asked, if that is so.
    pub(in crate::agent) fn whois_question(&self, query: WhoisQuery) -> Result<Option<Question>, String> {
        let WhoisQuery { address, port, .. } = query;
        let scope = self.parts.kernel.scope_of(address);
        // The addresses of nodes elsewhere are told of, but not who listens there.
        let is_known = self.ledger.is_followed(address) && (port.is_none() || self.is_own(address));
        if is_known || matches!(scope, Scope::Loopback | Scope::Internet) || self.is_fresh(address, 1) {
            return Ok(None);
        }
        let Some(pods) = &self.parts.pods else {
            return Err("no API server is known here: --kubeconfig names one".into());
        };
        let unknown = || Question { address, kinds: Kinds::Any, node: self.node_to_ask(address, pods) };
        Ok(Some(self.question(address, scope).unwrap_or_else(unknown)))
    }

    /// What of the node's connections tells who stands behind an address; nothing, if that is no service's or it was asked for another time.
    pub(in crate::agent) fn behind(
        &self,
        WhoisQuery { address, port, at_unix_seconds }: WhoisQuery,
    ) -> Option<SpokenTo> {
        let is_service = self.parts.kernel.scope_of(address) == Scope::Service
            || self
                .ledger
                .holder_at(address, unix_seconds())
                .is_some_and(|tenancy| matches!(tenancy.holder, Holder::Service { .. }));
        (is_service && at_unix_seconds.is_none()).then_some(SpokenTo { address, port, protocol: None })
    }

    /// Who has an address, and who stands behind it.
    pub(in crate::agent) fn whois(&self, query: WhoisQuery, translated: &Told, missing: Option<String>) -> WhoisAnswer {
        let source = WhoisSource {
            node: &self.parts.node_name,
            ledger: &self.ledger,
            scope: self.parts.kernel.scope_of(query.address),
            translated: &translated.all,
            now_unix_seconds: unix_seconds(),
        };
        let beyond = query.beyond(self.begun_unix_seconds, source.now_unix_seconds);
        let missing: Vec<_> = missing.into_iter().chain(translated.missing.clone()).chain(beyond).collect();
        WhoisAnswer { missing: (!missing.is_empty()).then(|| missing.join("; ")), ..WhoisAnswer::of(&source, query) }
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn peer_told(Peer { pod, workload }: &Peer, now: u64) -> PodTold {
    let until = pod.has_finished().then(|| pod.ended_unix_seconds.unwrap_or(now));
    told(pod, workload.clone(), until, false)
}

fn told(pod: &Pod, workload: Option<Arc<WorkloadNames>>, until: Option<u64>, is_followed: bool) -> PodTold {
    let Pod { uid, namespace, name, node, addresses, host_network, node_ports, since_unix_seconds, .. } = pod;
    PodTold {
        pod: Arc::new(PodHolder {
            uid: Arc::clone(uid),
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
            workload,
            node: node.clone(),
        }),
        addresses: if *host_network { Vec::new() } else { addresses.clone() },
        has_nodes_network: *host_network,
        node_ports: Arc::clone(node_ports),
        since_unix_seconds: *since_unix_seconds,
        until_unix_seconds: until,
        is_followed,
    }
}
