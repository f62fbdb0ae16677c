//! Who stands behind the address of a service: whose connections the node sends elsewhere than they are told to, and where. Nothing is
//! carried here: what a flow carries is counted under the address that it speaks to, once.

use super::{EntityId, Flow, FlowView, Holder, Identity, Ledger, PodHolder, Tenancy, tenancies::words_of};
use observer_ebpf::flows::{AddressWords, OUTBOUND};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// How many connections may be whose, where that cannot be told: several, or one whose address was another's not long ago.
    pub unclear: HashMap<BTreeSet<Speech>, u64>,
}

/// Whose addresses are the node's own.
#[derive(Clone, Copy, Debug)]
pub struct OwnAddresses<'a> {
    /// Those that are.
    pub known: &'a [IpAddr],
    /// Whether nobody tells of pods: then all are that are nobody's.
    pub and_all_others: bool,
}

/// An open socket, as a connection in the node's table tells it: the protocol, its own port, and its far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Socket {
    pub(super) protocol: u8,
    pub(super) local_port: u16,
    pub(super) remote: AddressWords,
    pub(super) port: u16,
}

/// How long the table keeps connections that have ended, as a rule, and a little.
pub const REMEMBERED_SECONDS: u64 = 180;

/// Who speaks from an address.
enum Speaker<'a> {
    /// A pod that has it, or the last that had it; and whether it was another's so short ago that what is left of that is in the table.
    Pod(&'a PodHolder, bool),
    /// Somebody in this node's network.
    Host,
    /// Somebody elsewhere.
    Nobody,
}

/// Who may be the owner of a connection.
struct Owners<'a> {
    speeches: Vec<&'a Speech>,
    /// Whether it is so only if an open socket says so.
    is_doubtful: bool,
}

impl Ledger {
    /// Gives each translated connection to who speaks there. By its source's address, and where several entities have that, by the port of
    /// the socket.
    pub fn behind(
        &self,
        view: &FlowView,
        translated: &[Translated],
        own: OwnAddresses<'_>,
        now_unix_seconds: u64,
    ) -> BehindAll {
        let mut found = BehindAll::default();
        if translated.is_empty() {
            return found;
        }
        let wanted: HashSet<_> = translated.iter().map(far_end_of).collect();
        let mut speakers: HashMap<FarEndWords, HashSet<Speech>> = HashMap::new();
        for speech in self.flows().filter_map(|(flow, _)| Speech::of(flow)) {
            let far_end = (speech.remote, speech.port, speech.protocol);
            if wanted.contains(&far_end) {
                speakers.entry(far_end).or_default().insert(speech);
            }
        }
        let identities: HashMap<EntityId, &Identity> =
            self.entities().iter().map(|entity| (entity.id, &entity.identity)).collect();
        let with_address: HashSet<_> = self.tenancies.pods().map(|pod| (&*pod.namespace, &*pod.name)).collect();
        let mut owners: HashMap<(FarEndWords, IpAddr), Owners<'_>> = HashMap::new();
        for one in translated {
            let far_end = far_end_of(one);
            let Some(speakers) = speakers.get(&far_end) else { continue };
            let Owners { speeches, is_doubtful } = owners.entry((far_end, one.source.ip())).or_insert_with(|| {
                let speaker = self.speaker(one.source.ip(), own, now_unix_seconds);
                let may_be = |speech: &&Speech| {
                    identities.get(&speech.entity).is_some_and(|who| may_speak(who, &speaker, &with_address))
                };
                Owners {
                    speeches: speakers.iter().filter(may_be).collect(),
                    is_doubtful: matches!(speaker, Speaker::Pod(_, true)),
                }
            });
            let (remote, port, protocol) = far_end;
            let with_socket = view.owners_of(Socket { protocol, local_port: one.source.port(), remote, port });
            let mut by_socket = speeches.iter().filter(|speech| with_socket.contains(&speech.entity));
            let owner = match (by_socket.next(), by_socket.next()) {
                (Some(speech), None) => Some(**speech),
                (None, _) if speeches.len() == 1 && !*is_doubtful => Some(*speeches[0]),
                _ => None,
            };
            if let Some(speech) = owner {
                *found.of.entry(speech).or_default().entry(one.behind).or_default() += 1;
            } else if !speeches.is_empty() {
                let candidates = speeches.iter().map(|speech| **speech).collect();
                *found.unclear.entry(candidates).or_default() += 1;
            }
        }
        found
    }

    fn speaker(&self, address: IpAddr, own: OwnAddresses<'_>, now_unix_seconds: u64) -> Speaker<'_> {
        if own.known.contains(&address) {
            return Speaker::Host;
        }
        let holders = self.holders(address);
        match holders.last().map(|last| &last.holder) {
            Some(Holder::Pod(pod)) => {
                let since = now_unix_seconds.saturating_sub(REMEMBERED_SECONDS);
                let before = holders.iter().rev().nth(1).and_then(|before| before.until_unix_seconds);
                Speaker::Pod(pod, before.is_some_and(|until| until >= since))
            }
            None if own.and_all_others => Speaker::Host,
            Some(Holder::Service { .. } | Holder::Node { .. }) | None => Speaker::Nobody,
        }
    }

    /// Who had an address then: the last that can have had it, since of the one before nobody may have said when it ended.
    pub fn holder_at(&self, address: IpAddr, unix_seconds: u64) -> Option<&Tenancy> {
        self.holders(address).iter().rfind(|tenancy| tenancy.covers(unix_seconds))
    }
}

/// A far end's address, port and protocol.
type FarEndWords = (AddressWords, u16, u8);

fn far_end_of(one: &Translated) -> FarEndWords {
    (words_of(one.spoken_to.ip()), one.spoken_to.port(), one.protocol)
}

/// Whether somebody may be who speaks from an address; `with_address` are the pods that have, or had, one of their own.
fn may_speak(who: &Identity, from: &Speaker<'_>, with_address: &HashSet<(&str, &str)>) -> bool {
    match (who, from) {
        (Identity::Container { pod, .. }, Speaker::Pod(holder, _)) => {
            pod.namespace == holder.namespace && pod.pod == holder.name
        }
        (Identity::UnnamedPod { uid, .. }, Speaker::Pod(holder, _)) => *uid == holder.uid,
        (Identity::Container { pod, .. }, Speaker::Host) => !with_address.contains(&(&*pod.namespace, &*pod.pod)),
        (Identity::Cgroup { .. } | Identity::UnnamedPod { .. } | Identity::Unattributed, Speaker::Host) => true,
        // Those that share series have flows of their own.
        (_, Speaker::Pod(..) | Speaker::Host | Speaker::Nobody) => false,
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
    use std::sync::Arc;

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

    fn pod(name: &str, address: &str, until_unix_seconds: Option<u64>) -> PodTold {
        PodTold {
            pod: Arc::new(PodHolder {
                uid: name.into(),
                namespace: "shop".into(),
                name: name.into(),
                workload: None,
                node: Some("n".into()),
            }),
            addresses: vec![address.parse().unwrap()],
            has_nodes_network: false,
            node_ports: [].into(),
            since_unix_seconds: Some(50),
            until_unix_seconds,
            is_followed: true,
        }
    }

    /// Every cgroup speaks to the service; the pods have addresses.
    fn ledger(cgroups: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        let carried = FlowSum { traffic: Traffic { transmit_bytes: 1, ..Traffic::default() }, ..FlowSum::default() };
        let flows = cgroups.iter().map(|cgroup| (key(*cgroup), carried)).collect();
        let added = cgroups.iter().map(|cgroup| Added { cgroup: *cgroup, ..Added::default() }).collect();
        ledger.book(&Sample { added, flows, ..Sample::default() }, &Node, 0);
        ledger.pod_told(&pod("a", "10.244.0.5", None), 100);
        ledger.pod_told(&pod("b", "10.244.0.6", None), 100);
        let node = |address: &str, name: &str| (address.parse().unwrap(), name.into());
        ledger.nodes_told(&[node("192.0.2.1", "n"), node("192.0.2.2", "other")], &[], 100);
        ledger
    }

    fn translated(source: &str, behind: &str) -> Translated {
        let end = |text: &str| text.parse().unwrap();
        Translated { protocol: TCP, source: end(source), spoken_to: end(SERVICE), behind: end(behind) }
    }

    /// The numbers of connections by the cgroup of the flow and the far end behind.
    fn behind(ledger: &Ledger, view: &FlowView, all: &[Translated]) -> (Vec<(u64, String, u64)>, u64) {
        let own = OwnAddresses { known: &["192.0.2.1".parse().unwrap()], and_all_others: false };
        let BehindAll { of, unclear } = ledger.behind(view, all, own, 200);
        let cgroup_of =
            |speech: &Speech| (1..=5).find(|id| ledger.entities()[ledger.known(*id)].id == speech.entity).unwrap();
        let mut rows: Vec<_> = of
            .iter()
            .flat_map(|(speech, behind)| {
                behind.iter().map(|(end, connections)| (cgroup_of(speech), end.to_string(), *connections))
            })
            .collect();
        rows.sort();
        (rows, unclear.values().sum())
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

    #[test]
    fn what_is_nobodys_here_is_not_given_to_the_one_that_is_left() {
        let mut ledger = ledger(&[1, 4]);
        let elsewhere = [translated("192.0.2.2:1", "10.244.0.9:8080"), translated("198.51.100.7:1", "10.244.0.9:8080")];
        assert_eq!(behind(&ledger, &FlowView::at(0), &elsewhere), (Vec::new(), 0));
        // A pod that is gone and has no flow any more, and one that is gone and has.
        ledger.pod_told(&pod("b", "10.244.0.6", Some(150)), 150);
        ledger.pod_told(&pod("a", "10.244.0.5", Some(150)), 150);
        let of_pods = [translated("10.244.0.6:1", "10.244.0.9:8080"), translated("10.244.0.5:1", "10.244.0.9:8080")];
        assert_eq!(behind(&ledger, &FlowView::at(0), &of_pods), (vec![(1, "10.244.0.9:8080".into(), 1)], 0));
        // And no pod that was here speaks from the node's address.
        let of_host = [translated("192.0.2.1:1", "10.244.0.9:8080")];
        assert_eq!(behind(&ledger, &FlowView::at(0), &of_host), (vec![(4, "10.244.0.9:8080".into(), 1)], 0));
        // Where nobody tells of pods, everybody is of the node.
        let own = OwnAddresses { known: &[], and_all_others: true };
        assert_eq!(ledger.behind(&FlowView::at(0), &elsewhere[1..], own, 200).of.len(), 1);
    }

    #[test]
    fn an_address_that_was_anothers_just_now_does_not_bring_its_connections() {
        let mut ledger = ledger(&[3]);
        ledger.pod_told(&pod("a", "10.244.0.5", Some(150)), 150);
        ledger.pod_told(&PodTold { since_unix_seconds: Some(160), ..pod("b", "10.244.0.5", None) }, 160);
        let one = [translated("10.244.0.5:1", "10.244.0.9:8080")];
        assert_eq!(behind(&ledger, &FlowView::at(0), &one), (Vec::new(), 1));
        let own = OwnAddresses { known: &[], and_all_others: false };
        let later = ledger.behind(&FlowView::at(0), &one, own, 150 + REMEMBERED_SECONDS + 1);
        assert_eq!((later.of.len(), later.unclear.len()), (1, 0));
    }
}
