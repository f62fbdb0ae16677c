//! Connections that this end accepts: a socket of theirs has no packet of its own before the first data, and is there all the same.

use crate::{
    net,
    offsets::{
        SOCK_CGROUP, SOCK_FAMILY, SOCK_PORT, SOCK_PROTOCOL, SOCK_REMOTE_PORT, SOCK_REMOTE_V4, SOCK_REMOTE_V6, SOCK_V4,
        SOCK_V6, cgroup_id, field,
    },
    slots,
    sockets::storage,
};
use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, programs::BtfTracePointContext};
use observer_ebpf::{
    UNATTRIBUTED_SLOT,
    flows::{
        AddressWords, INBOUND, PEER_KNOWN, SocketBook, TCP, TCP_ESTABLISHED, TCP_SYN_RECEIVED, mix_ipv6, peer_key,
    },
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `inet_sock_set_state(sk, old, new)`
#[inline(always)]
pub(crate) fn state_changes(ctx: &BtfTracePointContext) {
    let (old, new): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    if old != TCP_SYN_RECEIVED || new != TCP_ESTABLISHED {
        return;
    }
    let sk: *const u8 = ctx.arg(0);
    // SAFETY: the tracepoint's socket.
    unsafe {
        if field::<u16>(sk, &SOCK_PROTOCOL) != TCP.into() {
            return;
        }
        let family: u16 = field(sk, &SOCK_FAMILY);
        let (own, remote, mixed): (AddressWords, AddressWords, u32) = if family == AF_INET {
            let remote: u32 = field(sk, &SOCK_REMOTE_V4);
            (net::mapped_words(field(sk, &SOCK_V4)), net::mapped_words(remote), remote)
        } else if family == AF_INET6 {
            let remote = words(sk.add(SOCK_REMOTE_V6.load() as usize));
            (words(sk.add(SOCK_V6.load() as usize)), remote, mix_ipv6(remote[0], remote[1]))
        } else {
            return;
        };
        let scope = net::scope_between(own, remote);
        let control = slots::control();
        let mut new = SocketBook {
            cgroup: cgroup_id(field(sk, &SOCK_CGROUP)),
            peer: peer_key(mixed, control.scope_generation as u16) | PEER_KNOWN | scope,
            slot: UNATTRIBUTED_SLOT,
            slot_generation: control.slot_generation.wrapping_sub(1),
            remote,
            remote_port: u16::from_be(field(sk, &SOCK_REMOTE_PORT)),
            local_port: field(sk, &SOCK_PORT),
            protocol: TCP,
            direction: INBOUND,
            ..SocketBook::default()
        };
        storage(sk.cast_mut().cast(), &raw mut new, BPF_SK_STORAGE_GET_F_CREATE.into());
    }
}

/// # Safety
/// `at` must be an IPv6 address in a structure that the verifier knows.
#[inline(always)]
unsafe fn words(at: *const u8) -> AddressWords {
    // SAFETY: as above; addresses are aligned to four bytes there.
    unsafe {
        let word = |number: usize| u64::from(core::ptr::read_volatile(at.cast::<u32>().add(number)));
        [word(0) | (word(1) << 32), word(2) | (word(3) << 32)]
    }
}
