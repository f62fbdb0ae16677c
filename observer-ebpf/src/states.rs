//! What TCP's states tell of connections. One that this end accepts has no packet of its own before the first data, and is there all the
//! same; one that is over may be held, or never have been held by anybody; a socket may connect again.

use crate::{
    offsets::{
        MIX_SECRET, SOCK_CGROUP, SOCK_FAMILY, SOCK_PORT, SOCK_PROTOCOL, SOCK_REMOTE_PORT, SOCK_REMOTE_V4,
        SOCK_REMOTE_V6, SOCK_V4, SOCK_V6, cgroup_id, field,
    },
    packet, scopes, slots,
    sockets::{self, storage},
    told,
};
use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, programs::BtfTracePointContext};
use observer_ebpf::{
    UNATTRIBUTED_SLOT,
    flows::{
        AddressWords, INBOUND, PEER_KNOWN, SocketBook, TCP, TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN, TCP_SYN_RECEIVED,
        TCP_SYN_SENT, mix_ipv6, peer_key,
    },
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `inet_sock_set_state(sk, old, new)`
#[inline(always)]
pub(crate) fn state_changes(ctx: &BtfTracePointContext) {
    let (old, new): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    let sk: *const u8 = ctx.arg(0);
    // SAFETY: the tracepoint's socket.
    unsafe {
        if field::<u16>(sk, &SOCK_PROTOCOL) != TCP.into() {
            return;
        }
        match (old, new) {
            (TCP_SYN_RECEIVED, TCP_ESTABLISHED) => accepted(sk),
            (TCP_LISTEN, _) => {}
            (_, TCP_CLOSE) => over(sk),
            (_, TCP_SYN_SENT) => again(sk),
            _ => {}
        }
    }
}

/// # Safety
/// `sk` must be a TCP socket that the verifier knows.
#[inline(always)]
unsafe fn over(sk: *const u8) {
    let socket = storage(sk.cast_mut().cast(), core::ptr::null_mut(), 0);
    // SAFETY: as above, and the socket's storage.
    unsafe {
        // Else it was told of when it was let go.
        if !socket.is_null() && !told::is_released(socket) && (*socket).protocol == TCP {
            // A reset may follow, of one that nobody accepted by a socket that nobody lets go.
            told::mark_over(socket);
            sockets::end(socket, sk as u64);
        }
    }
}

/// # Safety
/// As for [`over`].
#[inline(always)]
unsafe fn again(sk: *const u8) {
    let socket = storage(sk.cast_mut().cast(), core::ptr::null_mut(), 0);
    // SAFETY: as above.
    unsafe {
        if !socket.is_null() {
            sockets::turn_over(socket);
            (*socket).marks = 0;
            // The next packet tells of the far end, and who asks first.
            (*socket).peer = 0;
        }
    }
}

/// # Safety
/// As for [`over`].
#[inline(never)]
unsafe fn accepted(sk: *const u8) {
    // SAFETY: as above.
    unsafe {
        let family: u16 = field(sk, &SOCK_FAMILY);
        let (own, remote, mixed): (AddressWords, AddressWords, u32) = if family == AF_INET {
            let remote: u32 = field(sk, &SOCK_REMOTE_V4);
            (packet::mapped_words(field(sk, &SOCK_V4)), packet::mapped_words(remote), remote)
        } else if family == AF_INET6 {
            let remote = words(sk.add(SOCK_REMOTE_V6.load() as usize));
            (words(sk.add(SOCK_V6.load() as usize)), remote, mix_ipv6(&MIX_SECRET.load(), remote[0], remote[1]))
        } else {
            return;
        };
        let scope = scopes::scope_between(own, remote);
        let control = slots::control();
        let mut new = SocketBook {
            cgroup: cgroup_id(field(sk, &SOCK_CGROUP)),
            peer: peer_key(mixed, control.scope_generation as u16) | PEER_KNOWN | scope,
            slot: UNATTRIBUTED_SLOT,
            slot_generation: control.slot_generation.wrapping_sub(1),
            remote,
            remote_port: u16::from_be(field(sk, &SOCK_REMOTE_PORT)),
            local_port: field(sk, &SOCK_PORT),
            connected_port: field(sk, &SOCK_REMOTE_PORT),
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
