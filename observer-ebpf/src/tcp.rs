//! What goes wrong with TCP connections, by the kernel's own tracepoints for it.

use crate::{
    drops::{self, add},
    offsets::{
        CGROUP_KN, KERNFS_NODE_ID, RESEND_HAS_ERROR, SKB_SEGMENTS, SOCK_CGROUP, SOCK_PROTOCOL, SOCK_STATE, peek,
    },
    slots::{self, NoSlot},
};
use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array, programs::BtfTracePointContext};
use observer_ebpf::{
    DEFAULT_SLOTS, Drop, TcpBook, UNATTRIBUTED_SLOT,
    flows::{TCP as PROTOCOL, TCP_CLOSE, TCP_SYN_SENT},
};

/// By slot. Not by CPU: what goes wrong often is a connection's, whose packets one CPU has.
#[map]
static TCP: Array<TcpBook> = Array::with_max_entries(DEFAULT_SLOTS, BPF_F_MMAPABLE);

/// States of what is no whole socket: it has no cgroup.
const TIME_WAIT: u8 = 6;
const NEW_SYN_RECEIVED: u8 = 12;

/// `tcp_retransmit_skb(sk, skb)`, from 6.17 on with an error: one buffer, which may be cut into several segments.
#[inline(always)]
pub(crate) fn segments_sent_again(ctx: &BtfTracePointContext) {
    if RESEND_HAS_ERROR.load() != 0 && ctx.arg::<i32>(2) != 0 {
        // It was tried and not done.
        return;
    }
    let (sk, skb): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let segments = peek::<u16>(skb, &SKB_SEGMENTS).max(1);
    book(sk, |book| add(book.retransmits, segments.into()));
}

/// `tcp_retransmit_synack(sk, request)`: the listener's.
#[inline(always)]
pub(crate) fn answer_sent_again(ctx: &BtfTracePointContext) {
    book(ctx.arg(0), |book| add(book.retransmits, 1));
}

/// `tcp_send_reset(sk, skb)`, from 6.10 on without a socket where none was asked for.
#[inline(always)]
pub(crate) fn reset_sent(ctx: &BtfTracePointContext) {
    book(ctx.arg(0), |book| add(book.transmit_resets, 1));
}

/// `tcp_receive_reset(sk)`
#[inline(always)]
pub(crate) fn reset_received(ctx: &BtfTracePointContext) {
    book(ctx.arg(0), |book| add(book.receive_resets, 1));
}

/// `inet_sock_set_state(sk, old, new)`
#[inline(always)]
pub(crate) fn state_changes(ctx: &BtfTracePointContext) {
    let (old, new): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    if old != TCP_SYN_SENT || new != TCP_CLOSE {
        return;
    }
    let sk: u64 = ctx.arg(0);
    if peek::<u16>(sk, &SOCK_PROTOCOL) == PROTOCOL.into() {
        book(sk, |book| add(book.failed_connects, 1));
    }
}

/// Books something on the cgroup of a socket, if there is one.
///
/// The socket is read as any kernel memory is: some kernels tell the verifier that there always is one where there is none, and a plain
/// load would then be a fault of the kernel's.
#[inline(always)]
fn book(sk: u64, count: impl Fn(Counters)) {
    if sk == 0 {
        return;
    }
    let state: u8 = peek(sk, &SOCK_STATE);
    if state == TIME_WAIT || state == NEW_SYN_RECEIVED {
        return;
    }
    let node: u64 = peek(peek(sk, &SOCK_CGROUP), &CGROUP_KN);
    let cgroup: u64 = peek(node, &KERNFS_NODE_ID);
    if cgroup == 0 {
        return;
    }
    let slot = slots::of_cgroup(cgroup).unwrap_or_else(|why| {
        drops::count(match why {
            NoSlot::NoneFree => Drop::TcpNoSlot,
            NoSlot::TableRefused => Drop::TcpSlotTable,
        });
        UNATTRIBUTED_SLOT
    });
    if let Some(book) = TCP.get_ptr_mut(slot) {
        // SAFETY: a map's value.
        count(unsafe {
            Counters {
                retransmits: &raw mut (*book).retransmits,
                transmit_resets: &raw mut (*book).transmit_resets,
                receive_resets: &raw mut (*book).receive_resets,
                failed_connects: &raw mut (*book).failed_connects,
            }
        });
    }
}

/// Where a slot's [`TcpBook`] has its counts.
struct Counters {
    retransmits: *mut u64,
    transmit_resets: *mut u64,
    receive_resets: *mut u64,
    failed_connects: *mut u64,
}
