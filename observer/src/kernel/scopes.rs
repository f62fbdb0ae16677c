//! The table of address ranges that decides a scope.

use aya::maps::{
    MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use ipnet::IpNet;
use observer_ebpf::{Address, MAX_SCOPE_PREFIXES, Scope};
use std::{collections::BTreeMap, net::IpAddr};

/// Ranges that are the same everywhere.
const FIXED: [(&str, Scope); 13] = [
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
];

/// Address ranges with their scope; the longest prefix decides. What is more than the kernel's table holds is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeTable {
    prefixes: BTreeMap<(Address, u32), Scope>,
    left_out: usize,
}

impl ScopeTable {
    /// The fixed ranges, the node's own addresses, and the configured ranges of the intranet.
    pub fn new(node: &[IpAddr], intranet: &[IpNet]) -> Self {
        let mut table = Self::default();
        for (range, scope) in FIXED {
            table.add(range.parse().expect("a range written in this file"), scope);
        }
        for range in intranet {
            table.add(*range, Scope::Intranet);
        }
        for address in node.iter().filter(|address| !address.is_loopback()) {
            table.add(IpNet::from(*address), Scope::Node);
        }
        table
    }

    fn add(&mut self, range: IpNet, scope: Scope) {
        let (address, bits) = match range {
            IpNet::V4(range) => (range.network().to_ipv6_mapped(), 96 + u32::from(range.prefix_len())),
            IpNet::V6(range) => (range.network(), u32::from(range.prefix_len())),
        };
        let key = (address.octets(), bits);
        if self.prefixes.len() < MAX_SCOPE_PREFIXES as usize || self.prefixes.contains_key(&key) {
            self.prefixes.insert(key, scope);
        } else {
            self.left_out += 1;
        }
    }

    /// How many ranges did not fit.
    pub(super) fn left_out(&self) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_ranges_parse_and_addresses_of_the_node_are_added() {
        let table = ScopeTable::new(&["10.1.2.3".parse().unwrap(), "127.0.0.1".parse().unwrap()], &[]);
        let own = "::ffff:10.1.2.3".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(table.prefixes.get(&(own, 128)), Some(&Scope::Node));
        assert_eq!(table.prefixes.len(), FIXED.len() + 1);
    }

    #[test]
    fn what_the_kernels_table_does_not_hold_is_left_out_and_counted() {
        let node: Vec<IpAddr> = (0..MAX_SCOPE_PREFIXES).map(|at| IpAddr::V4((0x0b00_0000 + at).into())).collect();
        let table = ScopeTable::new(&node, &[]);
        assert_eq!((table.prefixes.len(), table.left_out()), (MAX_SCOPE_PREFIXES as usize, FIXED.len()));
    }

    #[test]
    fn a_configured_range_is_intranet() {
        let table = ScopeTable::new(&[], &["198.18.0.0/15".parse().unwrap()]);
        let range = "::ffff:198.18.0.0".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(table.prefixes.get(&(range, 111)), Some(&Scope::Intranet));
    }
}
