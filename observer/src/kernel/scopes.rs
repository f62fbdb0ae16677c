//! The table of address ranges that decides a scope.

use aya::maps::{
    MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use ipnet::IpNet;
use observer_ebpf::{Address, MAX_SCOPE_PREFIXES, Scope};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

/// Ranges that are the same everywhere.
const FIXED: [(&str, Scope); 14] = [
    ("127.0.0.0/8", Scope::Loopback),
    ("::1/128", Scope::Loopback),
    ("10.0.0.0/8", Scope::Intranet),
    ("172.16.0.0/12", Scope::Intranet),
    ("192.168.0.0/16", Scope::Intranet),
    // Shared address space (RFC 6598), which clouds give to nodes and pods.
    ("100.64.0.0/10", Scope::Intranet),
    ("169.254.0.0/16", Scope::Intranet),
    ("224.0.0.0/4", Scope::Intranet),
    ("255.255.255.255/32", Scope::Intranet),
    ("fc00::/7", Scope::Intranet),
    ("fe80::/10", Scope::Intranet),
    ("ff00::/8", Scope::Intranet),
    // An unspecified far end is this host.
    ("0.0.0.0/8", Scope::Node),
    // A range of IPv6 says nothing of IPv4, which is mapped into it here.
    ("0.0.0.0/0", Scope::Internet),
];

/// What decides a scope besides the ranges that are the same everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeRanges {
    /// The node's own addresses.
    pub node: Vec<IpAddr>,
    /// The addresses of the node's pods.
    pub pods: Vec<IpAddr>,
    /// Ranges from which the node's pods have their addresses.
    pub node_pods: Vec<IpNet>,
    /// Services.
    pub service: Vec<IpNet>,
    /// Pods and nodes elsewhere.
    pub cluster: Vec<IpNet>,
    /// What else is intranet.
    pub intranet: Vec<IpNet>,
}

/// Address ranges with their scope; the longest prefix decides. What is more than the kernel's table holds is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeTable {
    prefixes: BTreeMap<(Address, u32), Scope>,
    left_out: usize,
}

impl ScopeTable {
    /// Where two say something of the same range, or there is no room for all, the nearer goes first.
    pub fn new(ranges: &ScopeRanges) -> Self {
        let ScopeRanges { node, pods, node_pods, service, cluster, intranet } = ranges;
        let mut table = Self::default();
        for address in node.iter().filter(|address| !address.is_loopback()) {
            table.add(IpNet::from(*address), Scope::Node);
        }
        // A pod that comes or goes within its node's range changes nothing, so that no socket has to decide again.
        let stands_alone = |pod: &&IpAddr| !node_pods.iter().any(|range| range.contains(*pod));
        let pods: Vec<_> = pods.iter().filter(stands_alone).map(|pod| IpNet::from(*pod)).collect();
        for (ranges, scope) in [
            (&pods, Scope::Node),
            (node_pods, Scope::Node),
            (service, Scope::Service),
            (cluster, Scope::Cluster),
            (intranet, Scope::Intranet),
        ] {
            // Loopback is never anything else.
            for range in ranges.iter().filter(|range| !range.network().to_canonical().is_loopback()) {
                table.add(*range, scope);
            }
        }
        for (range, scope) in FIXED {
            let key = key(range.parse().expect("a range written in this file"));
            table.prefixes.entry(key).or_insert(scope);
        }
        table
    }

    /// Unless something nearer was said of it.
    fn add(&mut self, range: IpNet, scope: Scope) {
        // The fixed ranges have their place.
        let has_room = self.prefixes.len() < MAX_SCOPE_PREFIXES as usize - FIXED.len();
        match self.prefixes.entry(key(range)) {
            Entry::Vacant(place) if has_room => _ = place.insert(scope),
            Entry::Vacant(_) => self.left_out += 1,
            Entry::Occupied(_) => {}
        }
    }

    /// The scope that the longest prefix gives an address.
    pub fn scope(&self, address: IpAddr) -> Option<Scope> {
        let longest = IpNet::from(address);
        let ranges = (0..=longest.prefix_len()).rev().filter_map(|bits| IpNet::new(address, bits).ok());
        ranges.map(|range| key(range.trunc())).find_map(|key| self.prefixes.get(&key)).copied()
    }

    /// How many ranges did not fit.
    pub(super) const fn left_out(&self) -> usize {
        self.left_out
    }

    /// Brings the kernel's table, which is as `self` says, to `wanted`. Says whether anything changed. After an error
    /// `self` is still what the kernel has, so that the next attempt goes on from there.
    pub(super) fn write(&mut self, wanted: &Self, map: &mut LpmTrie<MapData, Address, u32>) -> Result<bool, MapError> {
        let stale: Vec<_> =
            self.prefixes.keys().filter(|range| !wanted.prefixes.contains_key(*range)).copied().collect();
        let mut changed = false;
        for range in stale {
            let (address, bits) = range;
            map.remove(&Key::new(bits, address))?;
            self.prefixes.remove(&range);
            changed = true;
        }
        for ((address, bits), scope) in &wanted.prefixes {
            if self.prefixes.get(&(*address, *bits)) != Some(scope) {
                map.insert(&Key::new(*bits, *address), *scope as u32, 0)?;
                self.prefixes.insert((*address, *bits), *scope);
                changed = true;
            }
        }
        Ok(changed)
    }
}

/// As the kernel's table has it: an IPv4 address is mapped into IPv6.
fn key(range: IpNet) -> (Address, u32) {
    let (address, bits) = match range {
        IpNet::V4(range) => (range.network().to_ipv6_mapped(), 96 + u32::from(range.prefix_len())),
        IpNet::V6(range) => (range.network(), u32::from(range.prefix_len())),
    };
    (address.octets(), bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(table: &ScopeTable, address: &str) -> Option<Scope> {
        table.scope(address.parse().unwrap())
    }

    fn ranges<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_address_has_the_scope_of_the_longest_range_in_both_families() {
        let table = ScopeTable::new(&ScopeRanges {
            node: ranges(&["10.1.2.3", "127.0.0.1", "fd00::3"]),
            pods: ranges(&["10.244.7.9", "10.99.0.9", "fd99::9"]),
            node_pods: ranges(&["10.244.7.0/24", "fd44:7::/64"]),
            service: ranges(&["10.96.0.0/12", "fd96::/108"]),
            cluster: ranges(&["10.244.0.0/16", "fd44::/16", "10.1.2.0/24"]),
            intranet: ranges(&["198.18.0.0/15", "2001:db8::/32"]),
        });
        for (address, expected) in [
            ("127.0.0.1", Some(Scope::Loopback)),
            ("::1", Some(Scope::Loopback)),
            ("10.1.2.3", Some(Scope::Node)),
            ("10.1.2.4", Some(Scope::Cluster)),
            ("fd00::3", Some(Scope::Node)),
            ("10.244.7.9", Some(Scope::Node)),
            ("10.244.7.10", Some(Scope::Node)),
            ("10.244.8.10", Some(Scope::Cluster)),
            ("fd44:7::1", Some(Scope::Node)),
            ("fd44:8::1", Some(Scope::Cluster)),
            // A pod whose address is in no range of its node's, and in one of services: it is known to be a pod.
            ("10.99.0.9", Some(Scope::Node)),
            ("fd99::9", Some(Scope::Node)),
            ("10.96.0.1", Some(Scope::Service)),
            ("fd96::1", Some(Scope::Service)),
            ("10.200.0.1", Some(Scope::Intranet)),
            ("198.19.0.1", Some(Scope::Intranet)),
            ("2001:db8::1", Some(Scope::Intranet)),
            ("203.0.113.1", Some(Scope::Internet)),
            ("2001:4860::1", None),
        ] {
            assert_eq!(scope(&table, address), expected, "{address}");
        }
    }

    #[test]
    fn of_one_range_the_nearer_is_told_and_what_is_private_can_be_the_clusters() {
        let private: Vec<IpNet> = ranges(&["10.0.0.0/8"]);
        let told = |ranges: ScopeRanges| scope(&ScopeTable::new(&ranges), "10.9.9.9");
        let (cluster, service) = (private.clone(), private.clone());
        assert_eq!(told(ScopeRanges::default()), Some(Scope::Intranet));
        assert_eq!(told(ScopeRanges { cluster: cluster.clone(), ..ScopeRanges::default() }), Some(Scope::Cluster));
        assert_eq!(told(ScopeRanges { service, cluster, ..ScopeRanges::default() }), Some(Scope::Service));
    }

    #[test]
    fn a_range_of_one_family_says_nothing_of_the_other_and_none_takes_the_loopback() {
        let table = |intranet: &str, cluster: &str| {
            ScopeTable::new(&ScopeRanges {
                intranet: ranges(&[intranet]),
                cluster: ranges(&[cluster]),
                ..ScopeRanges::default()
            })
        };
        let of_ipv6 = table("::/0", "::ffff:127.0.0.0/104");
        assert_eq!(scope(&of_ipv6, "203.0.113.1"), Some(Scope::Internet));
        assert_eq!(scope(&of_ipv6, "2001:4860::1"), Some(Scope::Intranet));
        let of_ipv4 = table("0.0.0.0/0", "127.0.0.0/8");
        assert_eq!(scope(&of_ipv4, "203.0.113.1"), Some(Scope::Intranet));
        assert_eq!(scope(&of_ipv4, "2001:4860::1"), None);
        for table in [of_ipv6, of_ipv4] {
            assert_eq!(["127.0.0.1", "::1"].map(|address| scope(&table, address)), [Some(Scope::Loopback); 2]);
        }
    }

    #[test]
    fn a_pod_that_comes_within_its_nodes_range_changes_nothing_and_another_does() {
        let table = |pod: &str| {
            ScopeTable::new(&ScopeRanges {
                pods: ranges(&[pod]),
                node_pods: ranges(&["10.244.7.0/24"]),
                ..ScopeRanges::default()
            })
        };
        assert_eq!(table("10.244.7.1"), table("10.244.7.2"));
        assert_ne!(table("10.244.7.1"), table("10.244.8.1"));
    }

    #[test]
    fn a_range_within_another_of_its_kind_counts_where_a_third_is_between() {
        let table = ScopeTable::new(&ScopeRanges {
            cluster: ranges(&["10.244.0.0/16"]),
            intranet: ranges(&["10.0.0.0/8", "10.244.99.0/24"]),
            ..ScopeRanges::default()
        });
        assert_eq!(scope(&table, "10.244.99.1"), Some(Scope::Intranet));
        assert_eq!(scope(&table, "10.244.98.1"), Some(Scope::Cluster));
    }

    #[test]
    fn what_the_kernels_table_does_not_hold_is_left_out_and_counted() {
        let node: Vec<IpAddr> = (0..MAX_SCOPE_PREFIXES).map(|at| IpAddr::V4((0x0b00_0000 + at).into())).collect();
        let table = ScopeTable::new(&ScopeRanges { node, ..ScopeRanges::default() });
        assert_eq!((table.prefixes.len(), table.left_out()), (MAX_SCOPE_PREFIXES as usize, FIXED.len()));
        assert_eq!(scope(&table, "192.168.1.1"), Some(Scope::Intranet));
    }
}
