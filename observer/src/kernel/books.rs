//! Reading the slots, and taking them back when their cgroup is gone.
//!
//! The programs only ever add; this side remembers what it has seen and hands on the difference. A slot goes back in
//! two steps: first nobody can find it any more (table, owner and per-CPU marks are cleared), and only when every program
//! that still might have known it has long ended is its last value booked and the slot free for another.

use super::shared::SharedArray;
use crate::ledger::{Added, Sample};
use aya::maps::{HashMap as BpfHashMap, MapData, Stack};
use observer_ebpf::{
    Control, DROPS, Drop, NetBook, SCOPES, SchedBook, ScopeBook, TcpBook, Traffic, UNATTRIBUTED_SLOT, carried,
    causes::{CAUSES, CauseBook, Membership},
    histogram,
};
use std::{collections::HashSet, io, sync::atomic::Ordering};

/// How long a cleared slot rests before it is free. A program lasts microseconds; one that is preempted, a little more.
const REST_NS: u64 = 2_000_000_000;
/// Words of a [`ScopeBook`].
const SCOPE_WORDS: usize = size_of::<ScopeBook>() / size_of::<u64>();
/// The word of [`Control::flow_epoch`].
const FLOW_EPOCH: usize = 1;
/// The word of [`Control::look`].
const LOOK: usize = 2;

/// What is known of a cgroup when its slot is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there, or may be.
    Live,
    /// It was removed: its slot can go back.
    Gone,
}

/// Whose the slots are.
pub trait Owners {
    /// Asked of each owner, at every reading.
    fn presence(&mut self, cgroup: u64) -> Presence;
    /// What it is part of, once that is known; then it is not asked again.
    fn membership(&mut self, cgroup: u64) -> Option<Membership>;
}

/// The maps this room reads; see observer-ebpf's `slots.rs`.
pub(super) struct SlotMaps {
    pub(super) cgroup_slots: BpfHashMap<MapData, u64, u32>,
    pub(super) free_slots: Stack<MapData, u32>,
    pub(super) owners: SharedArray<u64>,
    pub(super) tcp: SharedArray<TcpBook>,
    pub(super) net: SharedArray<NetBook>,
    pub(super) sched: SharedArray<SchedBook>,
    pub(super) causes: SharedArray<CauseBook>,
    pub(super) control: SharedArray<Control>,
    pub(super) drops: SharedArray<u64>,
}

/// The slots as user space knows them.
pub struct SlotBooks {
    maps: SlotMaps,
    cpus: usize,
    /// Whether the kernel can take a word and leave another by one instruction: then what was sent is added up as words of bytes and packets.
    fetches: bool,
    /// What has been handed on, by slot; as long as the highest slot seen in use.
    booked: Vec<Totals>,
    resting: Vec<Resting>,
    in_use: usize,
    /// What had found no slot when slots last came free.
    refused: u64,
}

/// A slot on its way back.
#[derive(Clone, Copy)]
struct Resting {
    slot: u32,
    cgroup: u64,
    since_ns: u64,
}

#[derive(Clone, Default)]
struct Totals {
    traffic: [Traffic; SCOPES],
    tcp: TcpBook,
    waits: [u32; histogram::BUCKETS],
    wait_ns: u64,
    run_ns: u64,
    uninterruptible_ns: u64,
    caused_ns: [u64; CAUSES],
}

impl SlotBooks {
    /// Takes the maps over and fills the stack of free slots, low numbers on top.
    pub(super) fn new(
        mut maps: SlotMaps,
        (cpus, fetches): (u32, bool),
        slots: u32,
    ) -> Result<Self, aya::maps::MapError> {
        for slot in (UNATTRIBUTED_SLOT + 1..slots).rev() {
            maps.free_slots.push(slot, 0)?;
        }
        let (booked, resting) = (Vec::new(), Vec::new());
        Ok(Self { maps, cpus: cpus as usize, fetches, booked, resting, in_use: 0, refused: 0 })
    }

    /// Reads every slot in use and adds what is new to `sample`, which holds it also after an error: nothing is handed on
    /// twice.
    pub fn read(&mut self, now_ns: u64, owners: &mut impl Owners, sample: &mut Sample) -> io::Result<()> {
        self.read_slot(UNATTRIBUTED_SLOT, 0, sample)?;
        self.in_use = 0;
        for slot in 1..self.maps.owners.len() as u32 {
            let cgroup = self.maps.owners.words(slot as usize)?[0].load(Ordering::Acquire);
            if cgroup == 0 {
                continue;
            }
            self.in_use += 1;
            self.read_slot(slot, cgroup, sample)?;
            if owners.presence(cgroup) == Presence::Gone {
                self.clear(slot, cgroup, now_ns)?;
            } else if self.maps.causes.words(slot as usize * self.cpus)?[0].load(Ordering::Relaxed) != cgroup
                && let Some(membership) = owners.membership(cgroup)
            {
                self.set_membership(slot, cgroup, membership)?;
            }
        }
        self.free_rested(now_ns, sample)
    }

    /// Slots with an owner, and slots there are.
    pub fn usage(&self) -> (u64, u64) {
        ((self.in_use + self.resting.len()) as u64, self.maps.owners.len() as u64 - 1)
    }

    /// Every cgroup that has a slot.
    pub fn owners(&mut self) -> io::Result<HashSet<u64>> {
        let owners = &mut self.maps.owners;
        (1..owners.len()).map(|slot| Ok(owners.words(slot)?[0].load(Ordering::Acquire))).collect()
    }

    /// What the programs could not count where it belongs, by [`Drop`].
    pub fn drops(&mut self) -> io::Result<[u64; DROPS]> {
        let mut drops = [0; DROPS];
        for (reason, count) in drops.iter_mut().enumerate() {
            *count = self.maps.drops.words(reason)?[0].load(Ordering::Relaxed);
        }
        Ok(drops)
    }

    /// Makes every socket decide its scope again.
    pub fn scopes_changed(&mut self) -> io::Result<()> {
        self.change_generations(|[scope, slot]| [scope.wrapping_add(1), slot])
    }

    /// How often the programs have turned from one table of flows to the other.
    pub(super) fn flow_epoch(&mut self) -> io::Result<u64> {
        Ok(self.maps.control.words(0)?[FLOW_EPOCH].load(Ordering::Relaxed))
    }

    /// Makes them turn once more.
    pub(super) fn turn_flows(&mut self) -> io::Result<()> {
        self.maps.control.words(0)?[FLOW_EPOCH].fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Makes the programs tell of each open socket once more.
    pub(super) fn look_again(&mut self) -> io::Result<()> {
        self.maps.control.words(0)?[LOOK].fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn slots_came_free(&mut self) -> io::Result<()> {
        self.change_generations(|[scope, slot]| [scope, slot.wrapping_add(1)])
    }

    /// The first word of `Control`: two halves, in the order of its fields.
    fn change_generations(&mut self, change: impl FnOnce([u32; 2]) -> [u32; 2]) -> io::Result<()> {
        let word = &self.maps.control.words(0)?[0];
        word.store(whole(change(halves(word.load(Ordering::Relaxed)))), Ordering::Release);
        Ok(())
    }

    fn read_slot(&mut self, slot: u32, cgroup: u64, sample: &mut Sample) -> io::Result<()> {
        let mut totals = self.totals(slot)?;
        if self.booked.len() <= slot as usize {
            self.booked.resize(slot as usize + 1, Totals::default());
        }
        let booked = &mut self.booked[slot as usize];
        totals.traffic.iter_mut().zip(&booked.traffic).for_each(|(now, then)| never_less(now, then));
        let added = totals.since(booked, cgroup);
        *booked = totals;
        if added != (Added { cgroup, ..Added::default() }) {
            sample.added.push(added);
        }
        Ok(())
    }

    fn totals(&mut self, slot: u32) -> io::Result<Totals> {
        let mut totals = Totals::default();
        for cpu in 0..self.cpus {
            let entry = slot as usize * self.cpus + cpu;
            let net = self.maps.net.words(entry)?;
            for (traffic, words) in totals.traffic.iter_mut().zip(net.chunks_exact(SCOPE_WORDS)) {
                // The second word first: what moves there meanwhile is seen later, and never twice.
                let second = words[1].load(Ordering::Acquire);
                let sent = [words[0].load(Ordering::Relaxed), second];
                let (bytes, packets) = if self.fetches { carried::joined(sent) } else { sent.into() };
                traffic.transmit_bytes += bytes;
                traffic.transmit_packets += packets;
                traffic.receive_bytes += words[2].load(Ordering::Relaxed);
                traffic.receive_packets += words[3].load(Ordering::Relaxed);
            }
            let sched = self.maps.sched.words(entry)?;
            totals.wait_ns += sched[1].load(Ordering::Relaxed);
            totals.run_ns += sched[2].load(Ordering::Relaxed);
            totals.uninterruptible_ns += sched[3].load(Ordering::Relaxed);
            for (sum, word) in totals.caused_ns.iter_mut().zip(&self.maps.causes.words(entry)?[3..]) {
                *sum += word.load(Ordering::Relaxed);
            }
            for (pair, word) in totals.waits.chunks_exact_mut(2).zip(&sched[4..]) {
                for (count, half) in pair.iter_mut().zip(halves(word.load(Ordering::Relaxed))) {
                    *count = count.wrapping_add(half);
                }
            }
        }
        let [retransmits, transmit_resets, receive_resets, failed_connects] = self.maps.tcp.words(slot as usize)?
        else {
            return Err(io::Error::other("the map TCP has other books"));
        };
        totals.tcp = TcpBook {
            retransmits: retransmits.load(Ordering::Relaxed),
            transmit_resets: transmit_resets.load(Ordering::Relaxed),
            receive_resets: receive_resets.load(Ordering::Relaxed),
            failed_connects: failed_connects.load(Ordering::Relaxed),
        };
        Ok(totals)
    }

    /// Tells the programs what a slot's owner is part of. The owner last: until then its waits are told of pair by pair. The first CPU's
    /// entry last: it says that all are written.
    fn set_membership(&mut self, slot: u32, owner: u64, Membership { pod, container }: Membership) -> io::Result<()> {
        for cpu in (0..self.cpus).rev() {
            let words = self.maps.causes.words(slot as usize * self.cpus + cpu)?;
            words[1].store(pod, Ordering::Relaxed);
            words[2].store(container, Ordering::Relaxed);
            words[0].store(owner, Ordering::Release);
        }
        Ok(())
    }

    /// The first step: from now on nobody finds this slot.
    fn clear(&mut self, slot: u32, cgroup: u64, now_ns: u64) -> io::Result<()> {
        match self.maps.cgroup_slots.remove(&cgroup) {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => {}
            Err(aya::maps::MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        self.maps.owners.words(slot as usize)?[0].store(0, Ordering::Release);
        self.unmark(slot)?;
        self.resting.push(Resting { slot, cgroup, since_ns: now_ns });
        Ok(())
    }

    /// Takes the per-CPU marks away; true when there was one.
    fn unmark(&mut self, slot: u32) -> io::Result<bool> {
        let mut found = false;
        for cpu in 0..self.cpus {
            let owner = &self.maps.sched.words(slot as usize * self.cpus + cpu)?[0];
            found |= owner.swap(0, Ordering::AcqRel) != 0;
            self.maps.causes.words(slot as usize * self.cpus + cpu)?[0].store(0, Ordering::Release);
        }
        Ok(found)
    }

    /// The second step. A mark that came back was set by a program that had looked before the first step: rest again.
    fn free_rested(&mut self, now_ns: u64, sample: &mut Sample) -> io::Result<()> {
        let mut freed = false;
        let mut at = 0;
        while let Some(Resting { slot, cgroup, since_ns }) = self.resting.get(at).copied() {
            let rested = now_ns.saturating_sub(since_ns) >= REST_NS;
            let marked = rested && self.unmark(slot)?;
            self.read_slot(slot, cgroup, sample)?;
            if marked {
                self.resting[at].since_ns = now_ns;
            }
            if rested && !marked {
                self.maps.free_slots.push(slot, 0).map_err(io::Error::other)?;
                self.resting.swap_remove(at);
                freed = true;
            } else {
                at += 1;
            }
        }
        let drops = self.drops()?;
        let refused: u64 =
            [Drop::PacketNoSlot, Drop::WaitNoSlot, Drop::SleepNoSlot].map(|reason| drops[reason as usize]).iter().sum();
        // Each change of the generation costs every slotless socket one look: only when somebody was refused since.
        if freed && refused != self.refused {
            self.slots_came_free()?;
            self.refused = refused;
        }
        Ok(())
    }
}

/// What was sent is less for a moment when a part of it is on its way from one word to the next: nothing is new then. What was received never
/// is; if it were, a counter that stands still would be better than one that starts again at the end of its numbers.
fn never_less(now: &mut Traffic, then: &Traffic) {
    let Traffic { transmit_bytes, transmit_packets, receive_bytes, receive_packets } = now;
    *transmit_bytes = (*transmit_bytes).max(then.transmit_bytes);
    *transmit_packets = (*transmit_packets).max(then.transmit_packets);
    *receive_bytes = (*receive_bytes).max(then.receive_bytes);
    *receive_packets = (*receive_packets).max(then.receive_packets);
}

impl Totals {
    fn since(&self, before: &Self, cgroup: u64) -> Added {
        let Self { traffic, tcp, waits, wait_ns, run_ns, uninterruptible_ns, caused_ns } = self;
        Added {
            cgroup,
            dns: None,
            traffic: std::array::from_fn(|scope| {
                let (now, then) = (&traffic[scope], &before.traffic[scope]);
                Traffic {
                    transmit_bytes: now.transmit_bytes.wrapping_sub(then.transmit_bytes),
                    transmit_packets: now.transmit_packets.wrapping_sub(then.transmit_packets),
                    receive_bytes: now.receive_bytes.wrapping_sub(then.receive_bytes),
                    receive_packets: now.receive_packets.wrapping_sub(then.receive_packets),
                }
            }),
            tcp: TcpBook {
                retransmits: tcp.retransmits.wrapping_sub(before.tcp.retransmits),
                transmit_resets: tcp.transmit_resets.wrapping_sub(before.tcp.transmit_resets),
                receive_resets: tcp.receive_resets.wrapping_sub(before.tcp.receive_resets),
                failed_connects: tcp.failed_connects.wrapping_sub(before.tcp.failed_connects),
            },
            waits: std::array::from_fn(|bucket| waits[bucket].wrapping_sub(before.waits[bucket])),
            wait_ns: wait_ns.wrapping_sub(before.wait_ns),
            run_ns: run_ns.wrapping_sub(before.run_ns),
            uninterruptible_ns: uninterruptible_ns.wrapping_sub(before.uninterruptible_ns),
            caused_ns: std::array::from_fn(|by| caused_ns[by].wrapping_sub(before.caused_ns[by])),
        }
    }
}

/// The two 32-bit values that lie in a word of shared memory, in the order of their addresses.
fn halves(word: u64) -> [u32; 2] {
    let (low, high) = (word as u32, (word >> 32) as u32);
    if cfg!(target_endian = "little") { [low, high] } else { [high, low] }
}

fn whole([first, second]: [u32; 2]) -> u64 {
    let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    u64::from(low) | (u64::from(high) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_to_the_second_word_is_new_when_it_is_there_and_once() {
        let traffic =
            |transmit_bytes, transmit_packets| Traffic { transmit_bytes, transmit_packets, ..Traffic::default() };
        let (mut booked, mut sum) = (traffic(0, 0), traffic(0, 0));
        for (bytes, packets) in [(1000, 10), (200, 2), (1000, 10), (1300, 13)] {
            let mut now = traffic(bytes, packets);
            never_less(&mut now, &booked);
            sum.transmit_bytes += now.transmit_bytes - booked.transmit_bytes;
            sum.transmit_packets += now.transmit_packets - booked.transmit_packets;
            booked = now;
        }
        assert_eq!(sum, traffic(1300, 13));
    }
}
