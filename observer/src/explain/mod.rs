//! Which workloads make a node's load and egress grow, and how that is known: made of what the API tells. No clock, no I/O.
//!
//! [`choose`] finds those that are to be explained, by how much they grow and by how much they do now; whoever asks the API then asks it for their
//! flows.

mod onset;
mod suspect;
#[cfg(test)]
mod tests;

pub use suspect::{Destination, Evidence, Explanation, Grown, Sufferer, Suspect, choose};
