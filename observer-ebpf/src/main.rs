//! The programs' entry points. Each hands over to the file that does the work.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "the BPF target has no AtomicU64::fetch_add; the intrinsic is the same instruction"
)]
#![allow(unsafe_code, clippy::allow_attributes, reason = "kernel memory and helpers; each use says why it is sound")]

mod blame;
mod books;
mod cgroups;
mod courses;
mod drops;
mod far_end;
mod lasting;
mod migration;
mod net;
mod offsets;
mod open_sockets;
mod packet;
mod questions;
mod sched;
mod scopes;
mod slots;
mod sockets;
mod states;
mod tcp;
mod throttle;
mod told;
mod turns;

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_skb, cgroup_sock},
    programs::{BtfTracePointContext, SkBuffContext, SockContext},
};

/// A packet that a socket sends: after routing, before segmentation.
#[cgroup_skb(egress)]
fn observer_egress(ctx: SkBuffContext) -> i32 {
    net::book(&ctx, packet::Direction::Transmit);
    PASS
}

/// A packet that a socket receives: after reassembly.
#[cgroup_skb(ingress)]
fn observer_ingress(ctx: SkBuffContext) -> i32 {
    net::book(&ctx, packet::Direction::Receive);
    PASS
}

/// The state of a TCP connection changes.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn observer_accept(ctx: BtfTracePointContext) -> i32 {
    states::state_changes(&ctx);
    0
}

/// A connection that was asked for may have failed.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn observer_connect(ctx: BtfTracePointContext) -> i32 {
    tcp::state_changes(&ctx);
    0
}

/// TCP sends again what was not acknowledged.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn observer_resend(ctx: BtfTracePointContext) -> i32 {
    tcp::segments_sent_again(&ctx);
    0
}

/// A listener answers again, since nothing came back.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn observer_synack(ctx: BtfTracePointContext) -> i32 {
    tcp::answer_sent_again(&ctx);
    0
}

/// TCP resets a connection.
#[btf_tracepoint(function = "tcp_send_reset")]
fn observer_reset(ctx: BtfTracePointContext) -> i32 {
    tcp::reset_sent(&ctx);
    0
}

/// The far end resets a connection.
#[btf_tracepoint(function = "tcp_receive_reset")]
fn observer_was_reset(ctx: BtfTracePointContext) -> i32 {
    tcp::reset_received(&ctx);
    0
}

/// A socket is closed by the last who had it open.
#[cgroup_sock(sock_release)]
fn observer_release(ctx: SockContext) -> i32 {
    sockets::released(&ctx);
    PASS
}

/// User space asks what open sockets have carried; called for each that has storage.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn observer_sockets(ctx: *const open_sockets::Element) -> i32 {
    open_sockets::tell(ctx);
    0
}

/// A CPU turns from one task to another.
#[btf_tracepoint(function = "sched_switch")]
fn observer_switch(ctx: BtfTracePointContext) -> i32 {
    sched::switch(&ctx);
    0
}

/// A task moves to another CPU.
#[btf_tracepoint(function = "sched_migrate_task")]
fn observer_migrate(ctx: BtfTracePointContext) -> i32 {
    migration::moves(&ctx);
    0
}

/// User space asks who runs and who waits; called for each CPU's entry of the map `TURNS`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn observer_lasting(ctx: *const lasting::Element) -> i32 {
    lasting::tell(ctx);
    0
}

/// A cgroup was made; no task can be in it yet.
#[btf_tracepoint(function = "cgroup_mkdir")]
fn observer_mkdir(ctx: BtfTracePointContext) -> i32 {
    cgroups::made(&ctx);
    0
}

/// A cgroup was removed; no living task is in it.
#[btf_tracepoint(function = "cgroup_rmdir")]
fn observer_rmdir(ctx: BtfTracePointContext) -> i32 {
    cgroups::removed(&ctx);
    0
}

/// The verdict of every packet: these programs count, they never drop.
const PASS: i32 = 1;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers ask for a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
