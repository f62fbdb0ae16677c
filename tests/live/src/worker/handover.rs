//! A descriptor goes from one process to another over a unix socket.

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use std::{
    io::{IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

/// Gives a descriptor away to whoever listens at `path`.
pub(super) fn give(path: &Path, descriptor: impl Into<OwnedFd>) -> Result<()> {
    let descriptor = descriptor.into();
    let stream = UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))?;
    let descriptors = [descriptor.as_raw_fd()];
    sendmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &[IoSlice::new(b"!")],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

/// Takes the next descriptor that is given.
pub(super) fn take(door: &UnixListener) -> Result<OwnedFd> {
    let (stream, _) = door.accept()?;
    let mut byte = [0];
    let mut room = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(descriptor) = descriptors.first()
        {
            return Ok(crate::syscalls::own_received(*descriptor));
        }
    }
    bail!("no descriptor came")
}
