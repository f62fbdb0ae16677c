//! Where an address is: the scope that the longest of the ranges gives it in which it lies.

use crate::{
    drops,
    packet::{Direction, addresses},
};
use aya_ebpf::{
    bindings::__sk_buff,
    macros::map,
    maps::{LpmTrie, lpm_trie::Key},
};
use observer_ebpf::{
    Address, Drop, MAX_SCOPE_PREFIXES, Scope,
    flows::{AddressWords, address_of},
};

/// Which addresses are in which [`Scope`]; the rest is [`Scope::Internet`].
#[map]
static SCOPE_PREFIXES: LpmTrie<Address, u32> = LpmTrie::with_max_entries(MAX_SCOPE_PREFIXES, 0);

/// The scope of the packet's far end. A packet to the sender's own address stays on the node, whatever the address.
#[inline(always)]
pub(crate) fn scope_of(skb: *mut __sk_buff, direction: Direction) -> u64 {
    let Some((source, destination)) = addresses(skb) else {
        // SAFETY: the context of the program. A packet that is segmented is counted there.
        if unsafe { (*skb).gso_size } == 0 {
            drops::count(Drop::PacketUnreadable);
        }
        return Scope::Internet as u64;
    };
    if direction == Direction::Transmit {
        scope_between(source, destination)
    } else {
        scope_between(destination, source)
    }
}

/// The scope of a far end, as seen from an address of this end.
#[inline(always)]
pub(crate) fn scope_between(own: AddressWords, far: AddressWords) -> u64 {
    let known = SCOPE_PREFIXES.get(Key::new(128, address_of(far)));
    let scope = known.map_or(Scope::Internet as u64, |scope| u64::from(*scope));
    if own == far { scope.min(Scope::Node as u64) } else { scope.min(Scope::Internet as u64) }
}
