//! Shapes of a byte counter: which table a packet is booked in, and by which key.

use crate::add;
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::bpf_skb_cgroup_id,
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray, PerCpuHashMap},
    programs::SkBuffContext,
};

/// What every shape counts.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    bytes: u64,
    packets: u64,
}

/// A cgroup and where its far end is.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CgroupScope {
    cgroup: u64,
    scope: u64,
}

/// An IPv4 flow.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    source: u32,
    destination: u32,
    ports: u32,
    protocol: u32,
}

#[map]
static OF_ALL: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static BY_CGROUP: PerCpuHashMap<u64, Counts> = PerCpuHashMap::with_max_entries(8192, 0);
#[map]
static BY_SCOPE: HashMap<CgroupScope, Counts> = HashMap::with_max_entries(8192, 0);
#[map]
static BY_FLOW: LruHashMap<Flow, Counts> = LruHashMap::with_max_entries(65536, 0);

/// No work.
#[inline(always)]
pub(crate) fn nothing(_ctx: &SkBuffContext) {}

/// Bytes of all cgroups together, of all scopes and sockets: one addition from which a softirq in between takes nothing away.
#[inline(always)]
pub(crate) fn atomic_addition(ctx: &SkBuffContext) {
    let Some(sum) = OF_ALL.get_ptr_mut(0) else { return };
    // SAFETY: the context of the program, and the map's value.
    unsafe { add(sum, u64::from((*ctx.skb.skb).len)) }
}

/// Plain adds, as is usual with per-CPU values: a softirq in between may lose one.
#[inline(always)]
pub(crate) fn per_cpu_hash(ctx: &SkBuffContext) {
    let skb = ctx.skb.skb;
    // SAFETY: the context of the program; the entry is this CPU's.
    unsafe {
        let (cgroup, bytes) = (bpf_skb_cgroup_id(skb), u64::from((*skb).len));
        match BY_CGROUP.get_ptr_mut(cgroup) {
            Some(entry) => {
                (*entry).bytes += bytes;
                (*entry).packets += 1;
            }
            None => drop(BY_CGROUP.insert(cgroup, Counts { bytes, packets: 1 }, 0)),
        }
    }
}

/// The scope is given: what it costs to find it out is left out, in the shape's favour.
#[inline(always)]
pub(crate) fn scope_hash(ctx: &SkBuffContext) {
    let skb = ctx.skb.skb;
    // SAFETY: the context of the program; atomic adds, since other CPUs write the entry too.
    unsafe {
        let (key, bytes) = (CgroupScope { cgroup: bpf_skb_cgroup_id(skb), scope: 1 }, u64::from((*skb).len));
        match BY_SCOPE.get_ptr_mut(key) {
            Some(entry) => count(entry, bytes),
            None => drop(BY_SCOPE.insert(key, Counts { bytes, packets: 1 }, 0)),
        }
    }
}

/// A flow is a packet's addresses, ports and protocol; whose it is would still have to be found out.
#[inline(always)]
pub(crate) fn flow_table(ctx: &SkBuffContext) {
    let skb = ctx.skb.skb;
    let Some(key) = flow(skb) else { return };
    // SAFETY: the context of the program; atomic adds, since other CPUs write the entry too.
    unsafe {
        let bytes = u64::from((*skb).len);
        match BY_FLOW.get_ptr_mut(key) {
            Some(entry) => count(entry, bytes),
            None => drop(BY_FLOW.insert(key, Counts { bytes, packets: 1 }, 0)),
        }
    }
}

/// # Safety
/// `entry` must be a map value.
#[inline(always)]
unsafe fn count(entry: *mut Counts, bytes: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        add(&raw mut (*entry).bytes, bytes);
        add(&raw mut (*entry).packets, 1);
    }
}

/// An IPv4 header without options and the ports behind it, read in place.
#[inline(always)]
fn flow(skb: *mut __sk_buff) -> Option<Flow> {
    // SAFETY: the context of the program; the verifier turns these into packet pointers and holds each access against
    // the bound that is checked here.
    unsafe {
        let (start, end) = ((*skb).data as usize, (*skb).data_end as usize);
        if start + 24 > end {
            return None;
        }
        let header = start as *const u8;
        Some(Flow {
            source: *header.add(12).cast(),
            destination: *header.add(16).cast(),
            ports: *header.add(20).cast(),
            protocol: u32::from(*header.add(9)),
        })
    }
}
