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

/// Address ranges with their scope; the longest prefix decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeTable {
    prefixes: BTreeMap<(Address, u32), Scope>,
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
        self.prefixes.insert((address.octets(), bits), scope);
    }

    /// Brings the kernel's table from `before` to this one. Says how many ranges did not fit.
    pub(super) fn write(&self, before: &Self, map: &mut LpmTrie<MapData, Address, u32>) -> Result<usize, MapError> {
        for ((address, bits), _) in before.prefixes.iter().filter(|(range, _)| !self.prefixes.contains_key(*range)) {
            map.remove(&Key::new(*bits, *address))?;
        }
        for ((address, bits), scope) in self.prefixes.iter().take(MAX_SCOPE_PREFIXES as usize) {
            if before.prefixes.get(&(*address, *bits)) != Some(scope) {
                map.insert(&Key::new(*bits, *address), *scope as u32, 0)?;
            }
        }
        Ok(self.prefixes.len().saturating_sub(MAX_SCOPE_PREFIXES as usize))
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
    fn a_configured_range_is_intranet() {
        let table = ScopeTable::new(&[], &["198.18.0.0/15".parse().unwrap()]);
        let range = "::ffff:198.18.0.0".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(table.prefixes.get(&(range, 111)), Some(&Scope::Intranet));
    }
}
