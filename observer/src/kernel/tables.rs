//! The programs' tables, each handed to the room that reads it.

use super::{
    books::{SlotBooks, SlotMaps},
    dns::{Answers, DnsBooks, OpenQuestions},
    events::Events,
    flows::ClosedFlows,
    in_turn::InTurn,
    load::LoadError,
    shared::SharedArray,
    sleeps::OpenSleeps,
    wait_pairs::WaitPairs,
};
use aya::{
    Ebpf,
    maps::{HashMap as BpfHashMap, Map, MapData, MapError, RingBuf, Stack, lpm_trie::LpmTrie},
};
use observer_ebpf::{Address, DROPS, dns::COUNTS, flows::FLOW_COUNTS};
use std::{io, os::fd::AsFd as _};

/// What is read of DNS.
pub(super) struct DnsTables {
    pub(super) books: DnsBooks,
    pub(super) questions: OpenQuestions,
    pub(super) answers: Answers,
}

/// What is read of the maps.
pub(super) struct Tables {
    pub(super) books: SlotBooks,
    pub(super) sleeps: OpenSleeps,
    pub(super) wait_pairs: WaitPairs,
    pub(super) turns: MapData,
    pub(super) closed_flows: ClosedFlows,
    pub(super) dns: DnsTables,
    pub(super) sockets: MapData,
    pub(super) scopes: LpmTrie<MapData, Address, u32>,
    pub(super) events: Events,
}

/// Takes the maps over.
///
/// # Errors
/// Which of them is not what this binary expects.
pub(super) fn open_maps(ebpf: &mut Ebpf, (cpus, fetches): (u32, bool), slots: u32) -> Result<Tables, LoadError> {
    let entries = (slots * cpus) as usize;
    let maps = SlotMaps {
        cgroup_slots: take(ebpf, "CGROUP_SLOTS", BpfHashMap::try_from)?,
        free_slots: take(ebpf, "FREE_SLOTS", Stack::try_from)?,
        owners: share(ebpf, "OWNERS", slots as usize)?,
        tcp: share(ebpf, "TCP", slots as usize)?,
        net: share(ebpf, "NET", entries)?,
        sched: share(ebpf, "SCHED", entries)?,
        causes: share(ebpf, "CAUSES", entries)?,
        control: share(ebpf, "CONTROL", 1)?,
        drops: share(ebpf, "DROPS", DROPS)?,
    };
    let books = SlotBooks::new(maps, (cpus, fetches), slots).map_err(|error| LoadError::Map("FREE_SLOTS", error))?;
    let begun = share(ebpf, "SLEEPS_BEGUN", 1)?;
    let sleeps = take(ebpf, "SLEEPS", |map| OpenSleeps::new(hash(map)?, begun))?;
    let booked = share(ebpf, "WAIT_PAIRS_BOOKED", 1)?;
    let wait_pairs = take(ebpf, "WAIT_PAIRS", |map| WaitPairs::new(&hash(map)?, booked).map_err(MapError::IoError))?;
    let turns = take(ebpf, "TURNS", |map| match map {
        Map::Array(data) => Ok(data),
        _ => Err(MapError::InvalidMapType { map_type: 0 }),
    })?;
    let counts = share(ebpf, "FLOWS_BOOKED", FLOW_COUNTS as usize)?;
    let closed_flows = in_turn(ebpf, ["FLOWS_EVEN", "FLOWS_ODD"], counts)?;
    let [counts, more_counts] = share_with(ebpf, "DNS_BOOKED", COUNTS as usize)?;
    let dns = DnsTables {
        books: in_turn(ebpf, ["DNS_EVEN", "DNS_ODD"], counts)?,
        questions: take(ebpf, "DNS_QUESTIONS", |map| OpenQuestions::new(hash(map)?, more_counts))?,
        answers: Answers::new(take(ebpf, "DNS_ANSWERS", RingBuf::try_from)?),
    };
    let sockets = take(ebpf, "SOCKETS", |map| match map {
        Map::SkStorage(data) => Ok(data),
        _ => Err(MapError::InvalidMapType { map_type: 0 }),
    })?;
    let scopes = take(ebpf, "SCOPE_PREFIXES", LpmTrie::try_from)?;
    let events = Events::new(take(ebpf, "EVENTS", RingBuf::try_from)?);
    Ok(Tables { books, sleeps, wait_pairs, turns, closed_flows, dns, sockets, scopes, events })
}

fn take<T>(ebpf: &mut Ebpf, name: &'static str, open: impl FnOnce(Map) -> Result<T, MapError>) -> Result<T, LoadError> {
    open(find(ebpf, name)?).map_err(|error| LoadError::Map(name, error))
}

fn hash(map: Map) -> Result<MapData, MapError> {
    match map {
        Map::HashMap(data) => Ok(data),
        _ => Err(MapError::InvalidMapType { map_type: 0 }),
    }
}

/// Two tables that are added to in turn.
fn in_turn<K: aya::Pod + Default, V: aya::Pod + Default>(
    ebpf: &mut Ebpf,
    [even, odd]: [&'static str; 2],
    counts: SharedArray<u64>,
) -> Result<InTurn<K, V>, LoadError> {
    let (first, second) = (take(ebpf, even, hash)?, take(ebpf, odd, hash)?);
    InTurn::new(&first, &second, counts).map_err(|error| LoadError::Map(even, MapError::IoError(error)))
}

fn share<T>(ebpf: &mut Ebpf, name: &'static str, entries: usize) -> Result<SharedArray<T>, LoadError> {
    let [shared] = share_with(ebpf, name, entries)?;
    Ok(shared)
}

/// As many handles of one array as there are who read it.
fn share_with<T, const READERS: usize>(
    ebpf: &mut Ebpf,
    name: &'static str,
    entries: usize,
) -> Result<[SharedArray<T>; READERS], LoadError> {
    let Map::Array(data) = find(ebpf, name)? else {
        return Err(LoadError::Map(name, MapError::InvalidMapType { map_type: 0 }));
    };
    let handle = |_| SharedArray::new(data.fd().as_fd(), entries);
    let handles: io::Result<Vec<_>> = (0..READERS).map(handle).collect();
    let handles = handles.map_err(|error| LoadError::Share(name, error))?;
    handles.try_into().map_err(|_| LoadError::Share(name, io::Error::other("not as many handles as asked for")))
}

fn find(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Map(name, MapError::InvalidName { name: name.into() }))
}
