//! Who stands behind the address of a service: whose connections the node sends elsewhere than they are told to, and where. Nothing is
//! carried here: what a flow carries is counted under the address that it speaks to, once.

use super::{EntityId, Flow, FlowView, Holder, Identity, Ledger, PodHolder, Tenancy, tenancies::words_of};
use observer_ebpf::flows::{AddressWords, OUTBOUND};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A connection, or an exchange of datagrams, whose far end is another than the one that is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Translated {
    /// The protocol's number.
    pub protocol: u8,
    /// Who speaks.
    pub source: SocketAddr,
    /// To whom.
    pub spoken_to: SocketAddr,
    /// Who gets it.
    pub behind: SocketAddr,
}

/// How many connections go to each far end behind the one that is spoken to.
pub type Behind = HashMap<SocketAddr, u64>;

/// What an entity speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Speech {
    /// Who.
    pub entity: EntityId,
    /// The far end's address, IPv4 mapped into IPv6.
    pub remote: AddressWords,
    /// Its port.
    pub port: u16,
    /// The protocol's number.
    pub protocol: u8,
}

impl Speech {
    /// What an outbound flow is part of, whenever that was.
    pub fn of(flow: &Flow) -> Option<Self> {
        let Flow { entity, remote, port, protocol, direction, .. } = *flow;
        (direction == OUTBOUND && !flow.is_rest()).then_some(Self { entity, remote, port, protocol })
    }
}

/// Whose connections go where.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BehindAll {
    /// By who speaks to whom.
    pub of: HashMap<Speech, Behind>,
    /// Connections of which several entities may be the owner.
    pub unclear: u64,
}

/// An open socket, as a connection in the node's table tells it: the protocol, its own port, and its far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Socket {
    pub(super) protocol: u8,
    pub(super) local_port: u16,
    pub(super) remote: AddressWords,
    pub(super) port: u16,
}

/// Who speaks from an address.
enum Speaker<'a> {
    Pod(&'a PodHolder),
    /// This node, or somebody nobody has told of: anybody but the pods that have addresses of their own.
    Host,
}

impl Ledger {
    /// Gives each translated connection to who speaks there. By its source's address, and where several entities have that, by the port of
    /// the socket; whose it is when neither tells is unclear.
    pub fn behind(&self, view: &FlowView, translated: &[Translated], now_unix_seconds: u64) -> BehindAll {
        let wanted: HashSet<_> = translated.iter().map(|one| spoken_to_words(one).0).collect();
        let mut speakers: HashMap<AddressWords, HashSet<Speech>> = HashMap::new();
        let speeches = self.flows().filter_map(|(flow, _)| Speech::of(flow));
        for speech in speeches.filter(|speech| wanted.contains(&speech.remote)) {
            speakers.entry(speech.remote).or_default().insert(speech);
        }
        let identities: HashMap<EntityId, &Identity> =
            self.entities().iter().map(|entity| (entity.id, &entity.identity)).collect();
        let with_address: HashSet<_> =
            self.tenancies.followed_pods().map(|pod| (Arc::clone(&pod.namespace), Arc::clone(&pod.name))).collect();
        let mut found = BehindAll::default();
        for one in translated {
            let (remote, port) = spoken_to_words(one);
            let Some(speakers) = speakers.get(&remote) else { continue };
            let source = self.speaker(one.source.ip(), now_unix_seconds);
            let may_be = |speech: &&Speech| {
                let identity = identities.get(&speech.entity);
                speech.port == port
                    && speech.protocol == one.protocol
                    && identity.is_some_and(|identity| may_speak(identity, &source, &with_address))
            };
            let by_address: Vec<_> = speakers.iter().filter(may_be).collect();
            let socket = Socket { protocol: one.protocol, local_port: one.source.port(), remote, port };
            let by_port: Vec<_> =
                by_address.iter().filter(|speech| view.has_socket(socket, speech.entity)).copied().collect();
            match (by_port.as_slice(), by_address.as_slice()) {
                ([speech], _) | ([], [speech]) => {
                    *found.of.entry(**speech).or_default().entry(one.behind).or_default() += 1;
                }
                ([], []) => {}
                _ => found.unclear += 1,
            }
        }
        found
    }

    fn speaker(&self, address: IpAddr, now_unix_seconds: u64) -> Speaker<'_> {
        match self.holder_at(address, now_unix_seconds).map(|tenancy| &tenancy.holder) {
            Some(Holder::Pod(pod)) => Speaker::Pod(pod),
            Some(Holder::Service { .. } | Holder::Node { .. }) | None => Speaker::Host,
        }
    }

    /// Who had an address then: the last that can have had it, since of the one before nobody may have said when it ended.
    pub fn holder_at(&self, address: IpAddr, unix_seconds: u64) -> Option<&Tenancy> {
        self.holders(address).iter().rfind(|tenancy| tenancy.covers(unix_seconds))
    }
}

fn spoken_to_words(one: &Translated) -> (AddressWords, u16) {
    (words_of(one.spoken_to.ip()), one.spoken_to.port())
}

/// Whether somebody may be who speaks from an address.
fn may_speak(who: &Identity, from: &Speaker<'_>, with_address: &HashSet<(Arc<str>, Arc<str>)>) -> bool {
    match (who, from) {
        (Identity::Container { pod, .. }, Speaker::Pod(holder)) => {
            pod.namespace == holder.namespace && pod.pod == holder.name
        }
        (Identity::UnnamedPod { uid, .. }, Speaker::Pod(holder)) => *uid == holder.uid,
        (_, Speaker::Pod(_)) => false,
        (Identity::Container { pod, .. }, Speaker::Host) => {
            !with_address.contains(&(Arc::clone(&pod.namespace), Arc::clone(&pod.pod)))
        }
        (_, Speaker::Host) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Added, Cgroup, InPod, Names, PodNames, PodTold, Sample, WorkloadNames};
    use observer_ebpf::{
        Scope, Traffic,
        causes::Membership,
        flows::{FlowKey, FlowSum, SocketBook, SocketState, TCP},
    };

    /// Cgroup 1 and 2 are containers of the pod `a`, 3 is one of the pod `b`, 4 and 5 belong to no pod.
    struct Node;

    impl Names for Node {
        fn cgroup(&self, id: u64) -> Option<Cgroup> {
            let pod = match id {
                1 | 2 => Some("a"),
                3 => Some("b"),
                _ => None,
            };
            let in_pod = pod.map(|uid| InPod { uid: uid.into(), container: Some(format!("c{id}").into()) });
            Some(Cgroup { path: format!("/service{id}").into(), pod: in_pod, gone_at_ns: None })
        }

        fn pod(&self, uid: &str) -> Option<Arc<PodNames>> {
            let workload = WorkloadNames { kind: "pod".into(), name: uid.into() };
            Some(Arc::new(PodNames { namespace: "shop".into(), pod: uid.into(), workload: Arc::new(workload) }))
        }

        fn membership(&self, _: u64) -> Option<Membership> {
            None
        }

        fn container(&self, _: &str, _: &str) -> Option<Arc<str>> {
            None
        }
    }

    const SERVICE: &str = "10.96.0.1:80";

    fn key(cgroup: u64) -> FlowKey {
        let remote = words_of("10.96.0.1".parse().unwrap());
        let scope = Scope::Service as u8;
        FlowKey { cgroup, remote, port: 80, protocol: TCP, direction: OUTBOUND, scope, ..FlowKey::default() }
    }

    /// Every cgroup speaks to the service; the pods have addresses.
    fn ledger(cgroups: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        let carried = FlowSum { traffic: Traffic { transmit_bytes: 1, ..Traffic::default() }, ..FlowSum::default() };
        let flows = cgroups.iter().map(|cgroup| (key(*cgroup), carried)).collect();
        let added = cgroups.iter().map(|cgroup| Added { cgroup: *cgroup, ..Added::default() }).collect();
        ledger.book(&Sample { added, flows, ..Sample::default() }, &Node, 0);
        for (name, address) in [("a", "10.244.0.5"), ("b", "10.244.0.6")] {
            let pod = PodHolder {
                uid: name.into(),
                namespace: "shop".into(),
                name: name.into(),
                workload: None,
                node: Some("n".into()),
            };
            let told = PodTold {
                pod: Arc::new(pod),
                addresses: vec![address.parse().unwrap()],
                has_nodes_network: false,
                node_ports: [].into(),
                since_unix_seconds: None,
                until_unix_seconds: None,
                is_followed: true,
            };
            ledger.pod_told(&told, 100);
        }
        ledger.nodes_told(&[("192.0.2.1".parse().unwrap(), "n".into())], 100);
        ledger
    }

    fn translated(source: &str, behind: &str) -> Translated {
        let end = |text: &str| text.parse().unwrap();
        Translated { protocol: TCP, source: end(source), spoken_to: end(SERVICE), behind: end(behind) }
    }

    /// The numbers of connections by the cgroup of the flow and the far end behind.
    fn behind(ledger: &Ledger, view: &FlowView, all: &[Translated]) -> (Vec<(u64, String, u64)>, u64) {
        let BehindAll { of, unclear } = ledger.behind(view, all, 200);
        let cgroup_of =
            |speech: &Speech| (1..=5).find(|id| ledger.entities()[ledger.known(*id)].id == speech.entity).unwrap();
        let mut rows: Vec<_> = of
            .iter()
            .flat_map(|(speech, behind)| {
                behind.iter().map(|(end, connections)| (cgroup_of(speech), end.to_string(), *connections))
            })
            .collect();
        rows.sort();
        (rows, unclear)
    }

    #[test]
    fn a_connection_is_that_of_the_pod_whose_address_it_comes_from() {
        let ledger = ledger(&[1, 3, 4]);
        let all = [
            translated("10.244.0.5:1", "10.244.0.9:8080"),
            translated("10.244.0.5:2", "10.244.0.9:8080"),
            translated("10.244.0.5:3", "10.244.0.8:8080"),
            translated("10.244.0.6:1", "10.244.0.8:8080"),
            translated("192.0.2.1:1", "10.244.0.8:8080"),
            // A pod of which nothing is known here.
            Translated { spoken_to: "10.96.0.2:80".parse().unwrap(), ..translated("10.244.0.5:9", "10.244.0.9:80") },
            Translated { protocol: 17, ..translated("10.244.0.5:9", "10.244.0.9:80") },
        ];
        let row = |cgroup, end: &str, connections| (cgroup, end.to_owned(), connections);
        let expected = [
            row(1, "10.244.0.8:8080", 1),
            row(1, "10.244.0.9:8080", 2),
            row(3, "10.244.0.8:8080", 1),
            row(4, "10.244.0.8:8080", 1),
        ];
        assert_eq!(behind(&ledger, &FlowView::at(0), &all), (expected.to_vec(), 0));
    }

    #[test]
    fn of_several_with_one_address_the_socket_tells_whose_it_is_or_it_is_unclear() {
        let ledger = ledger(&[1, 2, 4, 5]);
        let all = [
            translated("10.244.0.5:1", "10.244.0.9:8080"),
            translated("10.244.0.5:2", "10.244.0.9:8080"),
            translated("192.0.2.1:3", "10.244.0.9:8080"),
            translated("192.0.2.1:4", "10.244.0.9:8080"),
        ];
        assert_eq!(behind(&ledger, &FlowView::at(0), &all), (Vec::new(), 4));
        let mut view = FlowView::at(0);
        for (cgroup, local_port) in [(1, 1), (2, 2), (5, 3), (5, 1)] {
            let FlowKey { remote, port, protocol, direction, .. } = key(cgroup);
            let peer = Scope::Service as u64;
            let book = SocketBook {
                cgroup,
                peer,
                remote,
                remote_port: port,
                local_port,
                protocol,
                direction,
                ..SocketBook::default()
            };
            view.note(&ledger, &book, &SocketState::default());
        }
        let row = |cgroup| (cgroup, "10.244.0.9:8080".to_owned(), 1);
        assert_eq!(behind(&ledger, &view, &all), (vec![row(1), row(2), row(5)], 1));
    }
}
