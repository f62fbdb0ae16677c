//! A wire that loses packets: a traffic-control program that drops some of what a device receives. There is no netem
//! on every kernel, and the tests must run on all of them from 6.6 on.

use crate::syscalls;
use anyhow::{Context as _, Result};
use std::os::fd::{AsFd as _, OwnedFd};

const MOVE: u64 = 0xb7;
const CALL: u64 = 0x85;
const MODULO: u64 = 0x97;
const JUMP_IF_NOT: u64 = 0x55;
const EXIT: u64 = 0x95;
const GET_PRANDOM_U32: u64 = 7;
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;

const fn instruction(operation: u64, jump: u64, operand: i32) -> u64 {
    operation | (jump << 16) | ((operand.cast_unsigned() as u64) << 32)
}

/// Drops one packet of `one_in` that `device` receives, at random, until the link is dropped.
pub(crate) fn drop_one_in(device: &str, one_in: u32) -> Result<OwnedFd> {
    let program = syscalls::load_classifier(&[
        instruction(CALL, 0, GET_PRANDOM_U32 as i32),
        instruction(MODULO, 0, one_in.cast_signed()),
        instruction(JUMP_IF_NOT, 2, 0),
        instruction(MOVE, 0, TCX_DROP),
        instruction(EXIT, 0, 0),
        instruction(MOVE, 0, TCX_NEXT),
        instruction(EXIT, 0, 0),
    ])
    .context("load the program that drops")?;
    let index = nix::net::if_::if_nametoindex(device).with_context(|| format!("find {device}"))?;
    syscalls::attach_to_ingress(program.as_fd(), index).with_context(|| format!("attach to {device} (tcx: kernel 6.6)"))
}
