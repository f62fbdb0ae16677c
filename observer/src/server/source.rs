//! What the server asks the agent for.

use bytes::Bytes;
use std::future::Future;

/// Where pages come from and whether the agent is ready. The server never asks for two pages at the same time.
pub trait Source: Send + Sync + 'static {
    /// Reads the counters afresh and renders the page of /metrics, or says why it cannot be had (a 503's text).
    fn metrics(&self) -> impl Future<Output = Result<Bytes, String>> + Send;

    /// Whether the programs are attached and the first sample is booked; else what is missing (a 503's text).
    ///
    /// # Errors
    /// What is missing.
    fn ready(&self) -> Result<(), String>;
}
