//! Waiting for a descriptor of the kernel's.

use std::{io, os::fd::OwnedFd};
use tokio::io::{Interest, unix::AsyncFd};

/// Tells when a descriptor of the kernel's has something new: events, a timer. Needs a tokio runtime.
#[derive(Debug)]
pub struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    /// Watches a descriptor.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: an owned descriptor is open, and stays open, for as long as it is watched.
        Ok(Self(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?))
    }

    /// Waits for what came since the last call returned. Take it then: what comes meanwhile wakes again.
    pub async fn wait(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
