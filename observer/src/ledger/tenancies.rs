//! Who has, and had, which address: as the node's own pods tell, and others when they were asked for. Addresses go from one to the
//! next, sometimes within seconds, and what was carried before stays with who had it then.

use super::WorkloadNames;
use observer_ebpf::flows::AddressWords;
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// Addresses that are remembered.
const MOST_ADDRESSES: usize = 8192;
/// Who had an address one after the other, of whom is known.
const MOST_OF_ONE: usize = 8;
/// Pods in the nodes' own networks that are remembered.
const MOST_ON_NODES: usize = 2048;

/// Who can have an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A pod that has it for itself.
    Pod(Arc<PodHolder>),
    /// A service.
    Service {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// A node, with all pods that are in its own network.
    Node {
        /// Its name.
        name: Arc<str>,
    },
}

/// A pod that has, or had, an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHolder {
    /// Its UID.
    pub uid: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its workload, where that is known.
    pub workload: Option<Arc<WorkloadNames>>,
    /// The node that it is on.
    pub node: Option<Arc<str>>,
}

impl Holder {
    /// Whether it is the same one, whatever else has become known of it.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pod(one), Self::Pod(other)) => one.uid == other.uid,
            _ => self == other,
        }
    }
}

/// A time in which one had an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenancy {
    /// No other has it; 0 is none's.
    number: u32,
    /// Who; nobody knows, if nobody.
    pub holder: Option<Holder>,
    /// Since when, as far as it is known.
    pub since_unix_seconds: Option<u64>,
    /// When it was over, at the latest.
    pub until_unix_seconds: Option<u64>,
    /// When this was last known to be so.
    pub as_of_unix_seconds: u64,
}

impl Tenancy {
    /// Whether it can have been this one's then.
    pub fn covers(&self, unix_seconds: u64) -> bool {
        self.since_unix_seconds.is_none_or(|since| since <= unix_seconds)
            && self.until_unix_seconds.is_none_or(|until| unix_seconds <= until)
    }
}

/// A pod in a node's network, by the ports that it says it listens on.
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
}

/// Flows of an address that are another tenancy's than they were taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) address: AddressWords,
    pub(super) from: u32,
    pub(super) to: u32,
}

#[derive(Debug, Default)]
struct Address {
    /// The last one is that of what is booked now.
    tenancies: Vec<Tenancy>,
    /// Whether who has it is told of at once. Else it may have become another's since it was asked for.
    is_followed: bool,
    /// When it was last asked for.
    asked_unix_seconds: Option<u64>,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Tenancies {
    addresses: HashMap<AddressWords, Address>,
    on_nodes: Vec<OnNode>,
    last_number: u32,
    left_out: u64,
}

/// As the kernel has it, IPv4 mapped into IPv6.
pub(super) fn words_of(address: IpAddr) -> AddressWords {
    let bytes = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let (high, low) = bytes.split_at(8);
    let word = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
    [word(high), word(low)]
}

impl Address {
    /// The place of a tenancy, with one of which nobody knows whose it is taken for that before if that is not over.
    fn place_of(&self, number: u32) -> Option<usize> {
        let at = self.tenancies.iter().position(|tenancy| tenancy.number == number)?;
        let is_over = |tenancy: &Tenancy| tenancy.until_unix_seconds.is_some() || tenancy.holder.is_none();
        match at.checked_sub(1) {
            Some(before) if self.tenancies[at].holder.is_none() && !is_over(&self.tenancies[before]) => Some(before),
            _ => Some(at),
        }
    }
}

impl Tenancies {
    fn tenancy(&mut self, holder: Option<Holder>, since: Option<u64>, now: u64) -> Tenancy {
        self.last_number = self.last_number.wrapping_add(1).max(1);
        Tenancy {
            number: self.last_number,
            holder,
            since_unix_seconds: since,
            until_unix_seconds: None,
            as_of_unix_seconds: now,
        }
    }

    /// Makes room for an address, if it is new; false if there is none.
    fn admit(&mut self, address: AddressWords) -> bool {
        if self.addresses.contains_key(&address) || self.addresses.len() < MOST_ADDRESSES {
            return true;
        }
        self.left_out += 1;
        let oldest = self.addresses.iter().filter(|(_, known)| !known.is_followed);
        let oldest = oldest.min_by_key(|(_, known)| known.asked_unix_seconds).map(|(address, _)| *address);
        oldest.is_some_and(|oldest| self.addresses.remove(&oldest).is_some())
    }

    /// Somebody has an address. `is_followed`: when that ends will be told.
    pub(super) fn held(
        &mut self,
        address: AddressWords,
        holder: &Holder,
        since: Option<u64>,
        is_followed: bool,
        now: u64,
    ) -> Option<Move> {
        if !self.admit(address) {
            return None;
        }
        let new = self.tenancy(Some(holder.clone()), since, now);
        let known = self.addresses.entry(address).or_default();
        if known.is_followed && !is_followed {
            return None;
        }
        known.is_followed = is_followed;
        let Some(last) = known.tenancies.last_mut() else {
            let to = new.number;
            known.tenancies.push(new);
            return Some(Move { address, from: 0, to });
        };
        let is_same = |tenancy: &Tenancy| tenancy.holder.as_ref().is_some_and(|known| known.is(holder));
        if last.holder.is_none() {
            let open = last.number;
            let before = known.tenancies.len().checked_sub(2).and_then(|at| known.tenancies.get_mut(at));
            if let Some(before) = before {
                if is_same(before) {
                    *before = Tenancy {
                        number: before.number,
                        since_unix_seconds: since.or(before.since_unix_seconds),
                        ..new
                    };
                    let to = before.number;
                    known.tenancies.pop();
                    return Some(Move { address, from: open, to });
                }
                end(before, since, now);
            }
            if let Some(last) = known.tenancies.last_mut() {
                *last = Tenancy { number: open, ..new };
            }
            return None;
        }
        if is_same(last) {
            *last = Tenancy { number: last.number, since_unix_seconds: since.or(last.since_unix_seconds), ..new };
            return None;
        }
        end(last, since, now);
        known.tenancies.push(new);
        shorten(&mut known.tenancies);
        None
    }

    /// A pod does not have an address any more, or, if none is named, a node.
    pub(super) fn left(&mut self, address: AddressWords, uid: Option<&str>, until: u64) {
        let open = self.tenancy(None, Some(until), until);
        let Some(known) = self.addresses.get_mut(&address) else { return };
        let is_its = |tenancy: &Tenancy| match (&tenancy.holder, uid) {
            (Some(Holder::Pod(pod)), Some(uid)) => *pod.uid == *uid,
            (Some(Holder::Node { .. }), None) => true,
            _ => false,
        };
        let Some(last) = known.tenancies.last_mut().filter(|last| is_its(last)) else { return };
        last.until_unix_seconds = Some(until);
        last.as_of_unix_seconds = last.as_of_unix_seconds.max(until);
        known.is_followed = false;
        known.tenancies.push(open);
        shorten(&mut known.tenancies);
    }

    /// A pod had an address, and it was over then.
    pub(super) fn had(
        &mut self,
        address: AddressWords,
        holder: &Holder,
        since: Option<u64>,
        until: u64,
    ) -> Option<Move> {
        if !self.admit(address) {
            return None;
        }
        let past = Tenancy { until_unix_seconds: Some(until), ..self.tenancy(Some(holder.clone()), since, until) };
        let open = self.tenancy(None, Some(until), until);
        let known = self.addresses.entry(address).or_default();
        let Some(last) = known.tenancies.len().checked_sub(1) else {
            let to = past.number;
            known.tenancies.extend([past, open]);
            return Some(Move { address, from: 0, to });
        };
        let is_same = |tenancy: &Tenancy| tenancy.holder.as_ref().is_some_and(|known| known.is(holder));
        if let Some(at) = known.tenancies.iter().position(is_same) {
            known.tenancies[at].until_unix_seconds.get_or_insert(until);
            if at == last {
                known.is_followed = false;
                known.tenancies.push(open);
            }
        } else {
            let is_later = |tenancy: &Tenancy| tenancy.since_unix_seconds > since;
            let at = known.tenancies.iter().position(is_later).unwrap_or(last).min(last);
            known.tenancies.insert(at, past);
        }
        shorten(&mut known.tenancies);
        None
    }

    /// A pod that is followed has these addresses alone.
    pub(super) fn only_has(&mut self, uid: &str, addresses: &[AddressWords], now: u64) {
        let is_its = |known: &Address| {
            let last = known.tenancies.last().and_then(|last| last.holder.as_ref());
            known.is_followed && matches!(last, Some(Holder::Pod(pod)) if *pod.uid == *uid)
        };
        let its = self.addresses.iter().filter(|(address, known)| is_its(known) && !addresses.contains(address));
        let lost: Vec<_> = its.map(|(address, _)| *address).collect();
        for address in lost {
            self.left(address, Some(uid), now);
        }
    }

    /// An address was asked for, and nobody has it.
    pub(super) fn free(&mut self, address: AddressWords, now: u64) -> Option<Move> {
        if !self.admit(address) {
            return None;
        }
        let open = self.tenancy(None, None, now);
        let known = self.addresses.entry(address).or_default();
        if known.is_followed {
            return None;
        }
        let before = known.tenancies.len().checked_sub(2);
        match known.tenancies.last_mut() {
            None => {
                let to = open.number;
                known.tenancies.push(open);
                return Some(Move { address, from: 0, to });
            }
            Some(last) if last.holder.is_none() => {
                last.as_of_unix_seconds = now;
                if let Some(before) = before.and_then(|at| known.tenancies.get_mut(at)) {
                    end(before, None, now);
                }
            }
            Some(last) => {
                end(last, None, now);
                known.tenancies.push(open);
                shorten(&mut known.tenancies);
            }
        }
        None
    }

    /// The tenancy of what is booked now. What was asked for a while ago may be another's by now: that is kept apart until it is asked
    /// for again.
    pub(super) fn booked_under(&mut self, address: AddressWords) -> u32 {
        let Some(known) = self.addresses.get(&address) else { return 0 };
        let Some(last) = known.tenancies.last() else { return 0 };
        if known.is_followed || last.holder.is_none() {
            return last.number;
        }
        let as_of = last.as_of_unix_seconds;
        let open = self.tenancy(None, None, as_of);
        let number = open.number;
        if let Some(known) = self.addresses.get_mut(&address) {
            known.tenancies.push(open);
            shorten(&mut known.tenancies);
        }
        number
    }

    /// The number that a tenancy is shown under.
    pub(super) fn shown(&self, address: AddressWords, number: u32) -> u32 {
        let known = self.addresses.get(&address);
        known.and_then(|known| Some(known.tenancies[known.place_of(number)?].number)).unwrap_or(number)
    }

    /// A tenancy by its number.
    pub(super) fn get(&self, address: AddressWords, number: u32) -> Option<&Tenancy> {
        let known = self.addresses.get(&address)?;
        known.tenancies.get(known.place_of(number)?)
    }

    /// All of whom something is known, the first first.
    pub(super) fn of(&self, address: AddressWords) -> impl Iterator<Item = &Tenancy> {
        let known = self.addresses.get(&address);
        known.into_iter().flat_map(|known| &known.tenancies).filter(|tenancy| tenancy.holder.is_some())
    }

    /// Whether who has an address is told of without asking.
    pub(super) fn is_followed(&self, address: AddressWords) -> bool {
        self.addresses.get(&address).is_some_and(|known| known.is_followed)
    }

    /// When an address was last asked for.
    pub(super) fn asked(&self, address: AddressWords) -> Option<u64> {
        self.addresses.get(&address)?.asked_unix_seconds
    }

    /// Somebody was asked for an address.
    pub(super) fn note_asked(&mut self, address: AddressWords, now: u64) {
        if let Some(known) = self.addresses.get_mut(&address) {
            known.asked_unix_seconds = Some(now);
        }
    }

    /// The addresses of nodes, as they are now.
    pub(super) fn nodes(&mut self, nodes: &[(IpAddr, Arc<str>)], now: u64) -> Vec<Move> {
        let there: HashSet<_> = nodes.iter().map(|(address, _)| words_of(*address)).collect();
        let is_gone = |address: &AddressWords, known: &Address| {
            let last = known.tenancies.last().and_then(|last| last.holder.as_ref());
            matches!(last, Some(Holder::Node { .. })) && known.is_followed && !there.contains(address)
        };
        let gone: Vec<_> = self
            .addresses
            .iter()
            .filter(|(address, known)| is_gone(address, known))
            .map(|(address, _)| *address)
            .collect();
        for address in gone {
            self.left(address, None, now);
        }
        let held = |(address, name): &(IpAddr, Arc<str>)| {
            self.held(words_of(*address), &Holder::Node { name: Arc::clone(name) }, None, true, now)
        };
        nodes.iter().filter_map(held).collect()
    }

    /// A pod is in its node's network, or was.
    pub(super) fn on_node(&mut self, told: OnNode) {
        if let Some(known) = self.on_nodes.iter_mut().find(|known| known.pod.uid == told.pod.uid) {
            *known = told;
            return;
        }
        if self.on_nodes.len() >= MOST_ON_NODES {
            let gone = self.on_nodes.iter().position(|known| known.until_unix_seconds.is_some());
            self.on_nodes.remove(gone.unwrap_or(0));
            self.left_out += 1;
        }
        self.on_nodes.push(told);
    }

    /// Which pods are in a node's network, of all that were asked for: those that are not among them are gone.
    pub(super) fn only_on_node(&mut self, node: &str, there: &HashSet<Arc<str>>, now: u64) {
        let of_node = self.on_nodes.iter_mut().filter(|known| known.pod.node.as_deref() == Some(node));
        for known in of_node.filter(|known| !there.contains(&known.pod.uid)) {
            known.until_unix_seconds.get_or_insert(now);
        }
    }

    /// The pod in a node's network that listens, or listened then, on a port.
    pub(super) fn by_port(&self, node: &str, port: u16, protocol: u8, unix_seconds: u64) -> Option<&OnNode> {
        let covers = |known: &&OnNode| {
            known.since_unix_seconds.is_none_or(|since| since <= unix_seconds)
                && known.until_unix_seconds.is_none_or(|until| unix_seconds <= until)
        };
        let of_node = self.on_nodes.iter().filter(|known| known.pod.node.as_deref() == Some(node));
        of_node.filter(|known| known.ports.contains(&(port, protocol))).find(covers)
    }

    /// Addresses and pods that were forgotten since there were too many.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// It is over: when the next one began, but not before it was last known to be so.
fn end(tenancy: &mut Tenancy, next_since: Option<u64>, now: u64) {
    if tenancy.holder.is_some() {
        let until = next_since.unwrap_or(now).clamp(tenancy.as_of_unix_seconds.min(now), now);
        tenancy.until_unix_seconds.get_or_insert(until);
    }
}

fn shorten(tenancies: &mut Vec<Tenancy>) {
    if tenancies.len() > MOST_OF_ONE {
        tenancies.remove(0);
    }
}

#[cfg(test)]
mod tests;
