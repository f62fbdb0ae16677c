//! From a cgroup to its slot: the tables, and the way a cgroup that is seen for the first time gets a slot.
//!
//! User space fills `FREE_SLOTS` and takes slots back; `OWNERS` is the one truth of whose a slot is.

use crate::{drops, offsets::CPUS};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, Stack},
};
use observer_ebpf::{CachedSlot, Control, DEFAULT_SLOTS, Drop, SLOT_CACHE_ENTRIES, SchedBook, UNATTRIBUTED_SLOT};

/// Sizes that depend on the machine or the command line are set at load.
#[map]
static CGROUP_SLOTS: HashMap<u64, u32> = HashMap::with_max_entries(DEFAULT_SLOTS, 0);
#[map]
static FREE_SLOTS: Stack<u32> = Stack::with_max_entries(DEFAULT_SLOTS, 0);
#[map]
static OWNERS: Array<u64> = Array::with_max_entries(DEFAULT_SLOTS, BPF_F_MMAPABLE);
#[map]
static SCHED: Array<SchedBook> = Array::with_max_entries(DEFAULT_SLOTS, BPF_F_MMAPABLE);
#[map]
static SLOT_CACHE: Array<CachedSlot> = Array::with_max_entries(SLOT_CACHE_ENTRIES, 0);
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

const EEXIST: i32 = 17;

/// Why a cgroup has no slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// None is free.
    NoneFree,
    /// The slot table refused.
    TableRefused,
}

/// A cgroup's slot, if it has one.
#[inline(always)]
pub(crate) fn known(cgroup: u64) -> u32 {
    // SAFETY: the value is copied at once.
    unsafe { CGROUP_SLOTS.get(cgroup) }.copied().unwrap_or(UNATTRIBUTED_SLOT)
}

/// What user space said last.
#[inline(always)]
pub(crate) fn control() -> Control {
    CONTROL.get(0).copied().unwrap_or_default()
}

/// Whose the slot is; nobody's: 0.
#[inline(always)]
pub(crate) fn owner(slot: u32) -> u64 {
    OWNERS.get(slot).copied().unwrap_or(0)
}

#[inline(always)]
fn cached_slot(cgroup: u64, cpu: u32) -> Option<*mut CachedSlot> {
    SLOT_CACHE.get_ptr_mut(cpu * SLOT_CACHE_ENTRIES + (cgroup as u32 & (SLOT_CACHE_ENTRIES - 1)))
}

/// What is to be booked on a scheduling book: the reasons if that fails.
#[derive(Clone, Copy)]
pub(crate) enum Entry {
    Run,
    Wait,
    Sleep,
}

impl Entry {
    const fn without_slot(self) -> Drop {
        match self {
            Self::Run => Drop::RunNoSlot,
            Self::Wait => Drop::WaitNoSlot,
            Self::Sleep => Drop::SleepNoSlot,
        }
    }

    const fn refused(self) -> Drop {
        match self {
            Self::Run => Drop::RunSlotTable,
            Self::Wait => Drop::WaitSlotTable,
            Self::Sleep => Drop::SleepSlotTable,
        }
    }
}

/// Where this CPU books the scheduling of a cgroup, and the number of that entry. The usual way costs no call: both lookups are inlined.
#[inline(always)]
pub(crate) fn sched_book(cgroup: u64, cpu: u32, what: Entry) -> Option<(u32, *mut SchedBook)> {
    if cpu >= CPUS.load() as u32 {
        drops::count(Drop::SwitchNewCpu);
        return None;
    }
    let cached = cached_slot(cgroup, cpu)?;
    // SAFETY: a valid entry that only this CPU writes, with interrupts off.
    let cached = unsafe { *cached };
    if cached.cgroup == cgroup {
        let book = SCHED.get_ptr_mut(cached.entry)?;
        // SAFETY: as above; user space may zero the owner, which is one word.
        if unsafe { (*book).owner } == cgroup {
            return Some((cached.entry, book));
        }
    }
    let entry = remember(cgroup, cpu, what);
    Some((entry, SCHED.get_ptr_mut(entry)?))
}

/// The way of the first switch of a cgroup on a CPU, and of every switch while there is no slot for it. Returns the
/// entry of the map `SCHED`.
#[inline(never)]
fn remember(cgroup: u64, cpu: u32, what: Entry) -> u32 {
    let unattributed = UNATTRIBUTED_SLOT * CPUS.load() as u32 + cpu;
    let Some(cached) = cached_slot(cgroup, cpu) else { return unattributed };
    let generation = control().slot_generation;
    // SAFETY: a valid entry that only this CPU writes, with interrupts off.
    let known = unsafe { *cached };
    if known.cgroup == cgroup && known.entry == unattributed && known.generation == generation {
        drops::count(what.without_slot());
        return unattributed;
    }
    let entry = match of_cgroup(cgroup) {
        Ok(slot) => slot * CPUS.load() as u32 + cpu,
        Err(NoSlot::NoneFree) => {
            drops::count(what.without_slot());
            unattributed
        }
        Err(NoSlot::TableRefused) => {
            // A passing state: not remembered.
            drops::count(what.refused());
            return unattributed;
        }
    };
    // SAFETY: as above.
    unsafe { *cached = CachedSlot { cgroup, entry, generation } };
    if entry != unattributed
        && let Some(book) = SCHED.get_ptr_mut(entry)
    {
        // SAFETY: this CPU's own entry.
        unsafe { (*book).owner = cgroup };
    }
    entry
}

/// The slot of a cgroup, given to it now if it has none.
#[inline(always)]
pub(crate) fn of_cgroup(cgroup: u64) -> Result<u32, NoSlot> {
    match find_or_give(cgroup) {
        NONE_FREE => Err(NoSlot::NoneFree),
        TABLE_REFUSED => Err(NoSlot::TableRefused),
        slot => Ok(slot as u32),
    }
}

/// Answers of [`find_or_give`] that are no slot: a function of its own has one register to return.
const NONE_FREE: u64 = u64::MAX;
const TABLE_REFUSED: u64 = u64::MAX - 1;

#[inline(never)]
fn find_or_give(cgroup: u64) -> u64 {
    if cgroup == 0 {
        // Nobody's: an owner of 0 is a free slot.
        return TABLE_REFUSED;
    }
    // SAFETY: the value is copied at once; an entry is not reused before user space saw its cgroup go.
    if let Some(slot) = unsafe { CGROUP_SLOTS.get(cgroup) } {
        return u64::from(*slot);
    }
    let slot = match FREE_SLOTS.pop() {
        Ok(Some(slot)) => slot,
        Ok(None) => return NONE_FREE,
        Err(_) => return TABLE_REFUSED,
    };
    match CGROUP_SLOTS.insert(cgroup, slot, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            // The owner last: a slot that user space sees in use is in the table, and only from there is it taken back.
            set_owner(slot, cgroup);
            u64::from(slot)
        }
        Err(error) => {
            let _ = FREE_SLOTS.push(slot, 0);
            if error != -EEXIST {
                return TABLE_REFUSED;
            }
            // Another CPU was first.
            // SAFETY: as above.
            unsafe { CGROUP_SLOTS.get(cgroup) }.map_or(TABLE_REFUSED, |slot| u64::from(*slot))
        }
    }
}

#[inline(always)]
fn set_owner(slot: u32, cgroup: u64) {
    if let Some(owner) = OWNERS.get_ptr_mut(slot) {
        // SAFETY: an aligned word; the slot is ours alone until it is in the table.
        unsafe { core::ptr::write_volatile(owner, cgroup) };
    }
}
