//! What goes wrong with TCP connections: the kernel's own tracepoints for it, which cost nothing while all is well.

use crate::{
    drops::{self, add},
    offsets::{SKB_SEGMENTS, SOCK_CGROUP, SOCK_PROTOCOL, SOCK_STATE, cgroup_id, field, peek},
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

/// `tcp_retransmit_skb(sk, skb)`: one buffer, which may be cut into several segments.
#[inline(always)]
pub(crate) fn segments_sent_again(ctx: &BtfTracePointContext) {
    let (sk, skb): (*const u8, u64) = (ctx.arg(0), ctx.arg(1));
    let segments = peek::<u16>(skb, &SKB_SEGMENTS).max(1);
    // SAFETY: the tracepoint's socket.
    unsafe { book(sk, |book| add(&raw mut (*book).retransmits, segments.into())) }
}

/// `tcp_retransmit_synack(sk, request)`: the listener's.
#[inline(always)]
pub(crate) fn answer_sent_again(ctx: &BtfTracePointContext) {
    // SAFETY: the tracepoint's socket.
    unsafe { book(ctx.arg(0), |book| add(&raw mut (*book).retransmits, 1)) }
}

/// `tcp_send_reset(sk, skb)`, without a socket where none was asked for.
#[inline(always)]
pub(crate) fn reset_sent(ctx: &BtfTracePointContext) {
    // SAFETY: the tracepoint's socket, or null.
    unsafe { book(ctx.arg(0), |book| add(&raw mut (*book).transmit_resets, 1)) }
}

/// `tcp_receive_reset(sk)`
#[inline(always)]
pub(crate) fn reset_received(ctx: &BtfTracePointContext) {
    // SAFETY: the tracepoint's socket.
    unsafe { book(ctx.arg(0), |book| add(&raw mut (*book).receive_resets, 1)) }
}

/// `inet_sock_set_state(sk, old, new)`
#[inline(always)]
pub(crate) fn state_changes(ctx: &BtfTracePointContext) {
    let (old, new): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    if old != TCP_SYN_SENT || new != TCP_CLOSE {
        return;
    }
    let sk: *const u8 = ctx.arg(0);
    // SAFETY: the tracepoint's socket.
    unsafe {
        if field::<u16>(sk, &SOCK_PROTOCOL) == PROTOCOL.into() {
            book(sk, |book| add(&raw mut (*book).failed_connects, 1));
        }
    }
}

/// Books something on the cgroup of a socket.
///
/// # Safety
/// `sk` must be a `struct sock` known to the verifier, or null.
#[inline(always)]
unsafe fn book(sk: *const u8, count: impl Fn(*mut TcpBook)) {
    if sk.is_null() {
        return;
    }
    // SAFETY: as above.
    let cgroup = unsafe {
        let state: u8 = field(sk, &SOCK_STATE);
        if state == TIME_WAIT || state == NEW_SYN_RECEIVED {
            return;
        }
        cgroup_id(field(sk, &SOCK_CGROUP))
    };
    let slot = slots::of_cgroup(cgroup).unwrap_or_else(|why| {
        drops::count(match why {
            NoSlot::NoneFree => Drop::TcpNoSlot,
            NoSlot::TableRefused => Drop::TcpSlotTable,
        });
        UNATTRIBUTED_SLOT
    });
    if let Some(book) = TCP.get_ptr_mut(slot) {
        count(book);
    }
}
