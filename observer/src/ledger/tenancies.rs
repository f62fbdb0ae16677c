//! Who has, and had, which address: as the node's own pods tell, and others when they were asked for. Addresses go from one to the
//! next, sometimes within seconds, and what was carried before stays with who had it then.

mod address;

use super::{Holder, PodHolder, holder::covers};
use address::Address;
pub use address::Tenancy;
use observer_ebpf::flows::AddressWords;
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// Addresses that are remembered.
const MOST_ADDRESSES: usize = 8192;
/// Flows of an address that are another tenancy's than they were taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    address: AddressWords,
    from: u32,
    to: Target,
}

/// Whose flows are that were taken for somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    number: u32,
    /// Only those that began in that time: of what was nobody's, one who is found to have the address has what is not from before.
    begun: Option<(Option<u64>, Option<u64>)>,
}

impl Target {
    const fn all(number: u32) -> Self {
        Self { number, begun: None }
    }

    /// The tenancy of a flow that had begun by then.
    pub(super) fn of(&self, begun_unix_seconds: u64) -> u32 {
        let is_its = self.begun.is_none_or(|(since, until)| covers(since, until, begun_unix_seconds));
        if is_its { self.number } else { NOBODY }
    }
}

/// How much later than it was carried something may be booked: closed sockets are told of when their table has rested.
const TOLD_LATE_SECONDS: u64 = 2;

/// The number of what nobody was asked for.
const NOBODY: u32 = 0;

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Tenancies {
    addresses: HashMap<AddressWords, Address>,
    last_number: u32,
    /// The latest time that anything was told of.
    latest_unix_seconds: u64,
    moves: Vec<Move>,
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

/// A number that no other tenancy has.
fn next(last: &mut u32) -> u32 {
    *last = last.wrapping_add(1).max(1);
    *last
}

impl Tenancies {
    /// What has to move since this was last asked for: each at once to where it belongs by now.
    pub(super) fn take_moves(&mut self) -> HashMap<(AddressWords, u32), Target> {
        let mut all: HashMap<(AddressWords, u32), Target> = HashMap::new();
        for Move { address, from, to } in self.moves.drain(..) {
            for ((other, _), target) in &mut all {
                if *other == address && target.number == from {
                    // Whoever is not its is nobody's still.
                    *target = if from == NOBODY { to } else { Target { number: to.number, ..*target } };
                }
            }
            all.entry((address, from)).or_insert(to);
        }
        all.retain(|(_, from), to| *from != to.number);
        all
    }

    /// The latest time that anything was told of.
    pub(super) const fn latest_unix_seconds(&self) -> u64 {
        self.latest_unix_seconds
    }

    /// Makes room for an address, if it is new; false if there is none.
    fn admit(&mut self, address: AddressWords, now: u64) -> bool {
        self.latest_unix_seconds = self.latest_unix_seconds.max(now);
        if self.addresses.contains_key(&address) || self.addresses.len() < MOST_ADDRESSES {
            return true;
        }
        self.left_out += 1;
        let used = |known: &Address| {
            let told = known.tenancies.last().map_or(0, |last| last.as_of_unix_seconds);
            known.asked_unix_seconds.unwrap_or(0).max(told)
        };
        let oldest = self.addresses.iter().filter(|(_, known)| !known.is_followed);
        let oldest = oldest.min_by_key(|(_, known)| used(known)).map(|(address, _)| *address);
        let Some((oldest, known)) = oldest.and_then(|oldest| Some((oldest, self.addresses.remove(&oldest)?))) else {
            return false;
        };
        // Whoever is asked about it again begins anew.
        let numbers = known.tenancies.iter().map(|tenancy| tenancy.number);
        let numbers = numbers.chain(known.slices.iter().map(|slice| slice.number));
        self.moves.extend(numbers.map(|from| Move { address: oldest, from, to: Target::all(NOBODY) }));
        true
    }

    /// Somebody has an address. `is_followed`: when that ends will be told.
    pub(super) fn held(
        &mut self,
        address: AddressWords,
        holder: &Holder,
        since: Option<u64>,
        is_followed: bool,
        now: u64,
    ) {
        if !self.admit(address, now) {
            return;
        }
        let number = next(&mut self.last_number);
        let known = self.addresses.entry(address).or_default();
        // Whoever is told of at once is not overruled by an answer, which may come from a cache.
        if known.is_followed && !is_followed {
            return;
        }
        let moves = &mut self.moves;
        let mut told = |from, to| moves.push(Move { address, from, to });
        if let Some(last) = known.tenancies.last_mut().filter(|last| last.holder.is(holder)) {
            let is_stale = last.is_end_told && !is_followed && since <= last.until_unix_seconds;
            if is_stale {
                return;
            }
            last.holder.learn(holder);
            last.since_unix_seconds = since.or(last.since_unix_seconds);
            (last.until_unix_seconds, last.is_end_told, last.as_of_unix_seconds) = (None, false, now);
            let number = last.number;
            known.is_followed = is_followed;
            known.settle(None, Some(number), &mut |from, to| told(from, Target::all(to)));
            return;
        }
        let before = known.tenancies.last_mut().map(|last| {
            last.end(since, now);
            (last.until_unix_seconds.unwrap_or(now), last.number)
        });
        if before.is_none() {
            told(NOBODY, Target { number, begun: Some((since, None)) });
        }
        // In the second in which one goes and the next one comes, it is the next one's.
        let before =
            before.map(|(until, number)| (until.min(since.map_or(until, |since| since.saturating_sub(1))), number));
        known.settle(before, Some(number), &mut |from, to| told(from, Target::all(to)));
        known.is_followed = is_followed;
        known.tenancies.push(Tenancy {
            number,
            holder: holder.clone(),
            since_unix_seconds: since,
            until_unix_seconds: None,
            as_of_unix_seconds: now,
            is_end_told: false,
        });
        known.shorten();
    }

    /// A pod had an address, and it was over then. `is_told`: as it ended, or when somebody was asked later.
    pub(super) fn had(
        &mut self,
        address: AddressWords,
        holder: &Holder,
        since: Option<u64>,
        until: u64,
        is_told: bool,
    ) {
        if !self.admit(address, until) {
            return;
        }
        let number = next(&mut self.last_number);
        let known = self.addresses.entry(address).or_default();
        let moves = &mut self.moves;
        let mut told = |from, to| moves.push(Move { address, from, to });
        let count = known.tenancies.len();
        if let Some(at) = known.tenancies.iter().rposition(|tenancy| tenancy.holder.is(holder)) {
            let tenancy = &mut known.tenancies[at];
            tenancy.holder.learn(holder);
            tenancy.is_end_told |= is_told && tenancy.is_current();
            let until = *tenancy.until_unix_seconds.get_or_insert(until);
            // Of a short one it was told that it began as it had ended.
            tenancy.since_unix_seconds = tenancy.since_unix_seconds.map(|since| since.min(until));
            if at + 1 == count {
                known.is_followed = false;
                let number = known.tenancies[at].number;
                known.settle(Some((until, number)), None, &mut |from, to| told(from, Target::all(to)));
            }
            return;
        }
        if count == 0 {
            told(NOBODY, Target { number, begun: Some((since, Some(until.saturating_add(TOLD_LATE_SECONDS)))) });
        }
        let is_later = |tenancy: &Tenancy| tenancy.since_unix_seconds > since;
        let mut at = known.tenancies.iter().position(is_later).unwrap_or(count);
        // Whoever is told of at once has it now, whenever it began.
        if known.is_followed {
            at = at.min(count.saturating_sub(1));
        }
        let past = Tenancy {
            number,
            holder: holder.clone(),
            since_unix_seconds: since,
            until_unix_seconds: Some(until),
            as_of_unix_seconds: until,
            is_end_told: is_told,
        };
        known.tenancies.insert(at, past);
        for earlier in known.tenancies[..at].iter_mut().filter(|earlier| earlier.is_current()) {
            earlier.end(since, until);
        }
        if at == count {
            known.settle(Some((until, number)), None, &mut |from, to| told(from, Target::all(to)));
        }
        known.shorten();
    }

    /// Whoever is told of has an address no more: a pod, or a node if no pod is named.
    fn left(&mut self, address: AddressWords, uid: Option<&str>, until: u64) {
        self.latest_unix_seconds = self.latest_unix_seconds.max(until);
        let Some(known) = self.addresses.get_mut(&address) else { return };
        let is_its = |tenancy: &Tenancy| match (&tenancy.holder, uid) {
            (Holder::Pod(pod), Some(uid)) => *pod.uid == *uid,
            (Holder::Node { .. }, None) => true,
            _ => false,
        };
        if let Some(last) = known.tenancies.last_mut().filter(|last| last.is_current() && is_its(last)) {
            (last.until_unix_seconds, last.is_end_told) = (Some(until), true);
            known.is_followed = false;
        }
    }

    /// A pod that is followed has these addresses alone.
    pub(super) fn only_has(&mut self, uid: &str, addresses: &[AddressWords], now: u64) {
        let is_its = |known: &Address| {
            known.is_followed
                && matches!(known.current().map(|current| &current.holder), Some(Holder::Pod(pod)) if *pod.uid == *uid)
        };
        let its = self.addresses.iter().filter(|(address, known)| is_its(known) && !addresses.contains(address));
        let lost: Vec<_> = its.map(|(address, _)| *address).collect();
        for address in lost {
            self.left(address, Some(uid), now);
        }
    }

    /// An address was asked for, and nobody has it. What was carried until now was whose it was before.
    pub(super) fn free(&mut self, address: AddressWords, now: u64) {
        if !self.admit(address, now) {
            return;
        }
        let known = self.addresses.entry(address).or_default();
        if known.is_followed {
            return;
        }
        let moves = &mut self.moves;
        if let Some(last) = known.tenancies.last_mut().filter(|last| last.is_current()) {
            last.end(None, now);
            let number = last.number;
            known.settle(None, Some(number), &mut |from, to| moves.push(Move { address, from, to: Target::all(to) }));
        }
    }

    /// The number under which something is booked that was carried after `from`. What was asked for a while ago may be another's
    /// by now: that is kept apart, by seconds, until it is asked for again.
    pub(super) fn booked_under(&mut self, address: AddressWords, from: u64) -> u32 {
        let Some(known) = self.addresses.get_mut(&address).filter(|known| !known.tenancies.is_empty()) else {
            return 0;
        };
        if let Some(number) = known.known_at(from) {
            return number;
        }
        let (number, moved) = known.slice(from, || next(&mut self.last_number));
        self.moves.extend(moved.map(|(from, to)| Move { address, from, to: Target::all(to) }));
        number
    }

    /// The number that something is shown under: what is kept apart is together with whose it will be if nothing has changed.
    pub(super) fn shown(&self, address: AddressWords, number: u32) -> u32 {
        self.addresses.get(&address).map_or(number, |known| known.shown(number))
    }

    /// A tenancy by its number.
    pub(super) fn get(&self, address: AddressWords, number: u32) -> Option<&Tenancy> {
        self.addresses.get(&address)?.get(number)
    }

    /// Whether nobody has told yet whose something is that was carried lately.
    pub(super) fn is_open(&self, address: AddressWords, number: u32) -> bool {
        number == NOBODY || self.addresses.get(&address).is_some_and(|known| known.is_open(number))
    }

    /// All of whom something is known, the first first.
    pub(super) fn of(&self, address: AddressWords) -> &[Tenancy] {
        self.addresses.get(&address).map_or(&[], |known| &known.tenancies)
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
        if self.admit(address, now) {
            self.addresses.entry(address).or_default().asked_unix_seconds = Some(now);
        }
    }

    /// The addresses of nodes, as they are now; those of `begun` are so since just now.
    pub(super) fn nodes(&mut self, nodes: &[(IpAddr, Arc<str>)], begun: &[IpAddr], now: u64) {
        let there: HashSet<_> = nodes.iter().map(|(address, _)| words_of(*address)).collect();
        let is_gone = |address: &AddressWords, known: &Address| {
            let is_node = matches!(known.current().map(|current| &current.holder), Some(Holder::Node { .. }));
            is_node && known.is_followed && !there.contains(address)
        };
        let gone = self.addresses.iter().filter(|(address, known)| is_gone(address, known));
        let gone: Vec<_> = gone.map(|(address, _)| *address).collect();
        for address in gone {
            self.left(address, None, now);
        }
        for (address, name) in nodes {
            let holder = Holder::Node { name: Arc::clone(name) };
            self.held(words_of(*address), &holder, begun.contains(address).then_some(now), true, now);
        }
    }

    /// Every pod that has, or had, an address of its own.
    pub(super) fn pods(&self) -> impl Iterator<Item = &PodHolder> {
        let all = self.addresses.values().flat_map(|known| &known.tenancies);
        all.filter_map(|tenancy| match &tenancy.holder {
            Holder::Pod(pod) => Some(&**pod),
            Holder::Service { .. } | Holder::Node { .. } => None,
        })
    }

    /// Addresses that were forgotten since there were too many.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests;
