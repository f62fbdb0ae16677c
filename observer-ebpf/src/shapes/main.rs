//! The shapes that other agents use, and the empty programs: what `cargo xtask bench` holds observer's programs against.
//!
//! Each shape is written as cheaply as it can be, so that a ratio says something about the shape and not about its
//! author: no bounds that are not needed, the cheapest add that is usual for it, the same histogram as ours.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the BPF target has no AtomicU64::fetch_add; the intrinsic is the same instruction"
)]
#![expect(missing_docs, unreachable_pub, reason = "aya's macros wrap each program in a public function of their own")]
#![expect(unsafe_code, reason = "kernel memory and helpers; each use says why it is sound")]

#[expect(dead_code, reason = "the shapes need fewer fields than observer's programs")]
#[path = "../offsets.rs"]
mod offsets;
mod packet;
mod switch;

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_skb},
    programs::{BtfTracePointContext, SkBuffContext},
};

/// Dispatch alone: what no program on this tracepoint can undercut.
#[btf_tracepoint(function = "sched_switch")]
pub fn switch_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// Dispatch alone, for each packet that is sent, at the kernel's tracepoint for all of them.
#[btf_tracepoint(function = "net_dev_queue")]
pub fn sent_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// The same for each packet received.
#[btf_tracepoint(function = "netif_receive_skb")]
pub fn received_empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// One hook: the kernel's own time stamps, booked in a hash by cgroup id.
#[btf_tracepoint(function = "sched_switch")]
pub fn switch_cgroup_hash(ctx: BtfTracePointContext) -> i32 {
    switch::from_sched_info(&ctx);
    0
}

macro_rules! three_hooks {
    ($stamps:ident: $wakeup:ident, $wakeup_new:ident, $switch:ident) => {
        /// A task becomes runnable.
        #[btf_tracepoint(function = "sched_wakeup")]
        pub fn $wakeup(ctx: BtfTracePointContext) -> i32 {
            switch::queued(&switch::$stamps, &ctx);
            0
        }

        /// A new task becomes runnable.
        #[btf_tracepoint(function = "sched_wakeup_new")]
        pub fn $wakeup_new(ctx: BtfTracePointContext) -> i32 {
            switch::queued(&switch::$stamps, &ctx);
            0
        }

        /// The task that was queued runs; the one that ran may be queued again.
        #[btf_tracepoint(function = "sched_switch")]
        pub fn $switch(ctx: BtfTracePointContext) -> i32 {
            switch::switched(&switch::$stamps, &ctx);
            0
        }
    };
}

three_hooks!(ARRAY_STAMPS: array_wakeup, array_wakeup_new, array_switch);
three_hooks!(HASH_STAMPS: hash_wakeup, hash_wakeup_new, hash_switch);

macro_rules! packet_shape {
    ($(#[$doc:meta])* $shape:ident: $egress:ident, $ingress:ident) => {
        $(#[$doc])*
        #[cgroup_skb(egress)]
        pub fn $egress(ctx: SkBuffContext) -> i32 {
            packet::$shape(&ctx);
            PASS
        }

        $(#[$doc])*
        #[cgroup_skb(ingress)]
        pub fn $ingress(ctx: SkBuffContext) -> i32 {
            packet::$shape(&ctx);
            PASS
        }
    };
}

packet_shape!(
    /// Dispatch alone.
    nothing: empty_egress, empty_ingress
);
packet_shape!(
    /// One atomic addition: what nothing that loses no packet can undercut.
    atomic_addition: atomic_addition_egress, atomic_addition_ingress
);
packet_shape!(
    /// The bare hash: a per-CPU hash by cgroup id.
    per_cpu_hash: percpu_hash_egress, percpu_hash_ingress
);
packet_shape!(
    /// A hash by cgroup id and scope that every CPU shares.
    scope_hash: scope_hash_egress, scope_hash_ingress
);
packet_shape!(
    /// A flow table: an LRU hash by addresses, ports and protocol.
    flow_table: flow_table_egress, flow_table_ingress
);

/// The verdict of every packet.
const PASS: i32 = 1;

/// Adds with one instruction, so that an interrupt in between loses nothing.
///
/// # Safety
/// `counter` must point into a map value.
#[inline(always)]
unsafe fn add(counter: *mut u64, amount: u64) {
    // SAFETY: the caller's promise; the verifier holds it against the map's value size.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(counter, amount);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers ask for a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
