//! The pods of this node as the API server tells of them: who a cgroup's UID is, which name a container's id has, and what
//! workload a pod belongs to. The only room that talks to an API server.
//!
//! ```text
//! watch (pods of this node) ──> store ──> names of pods and containers
//! owners (a GET for each ReplicaSet and Job) ─┘
//! ranges (of pods, nodes and services, now and then) ──> scopes
//! agents (for those who look from outside) ──> streams to their debug listeners
//! peers (a GET for one address elsewhere, when somebody asks) ──> names of far ends
//! ```
//! Counting waits for none of it. One watch with a field selector, never a list of the cluster's pods; a pod is pruned while it is
//! read, so that its full object never exists.

mod agents;
mod connect;
mod facts;
mod owners;
mod parting;
mod peers;
mod pod;
mod pulse;
mod quantity;
mod ranges;
mod resources;
mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use agents::{AgentPod, Agents};
pub use connect::{Access, AccessError, Connection};
pub use owners::{Answer, Owners};
pub use peers::{Kinds, NoAnswer, Peer, PeerAnswer, Peers, Question, ServicePeer, node_of};
pub use pod::{Owner, Pod};
pub use pulse::{Ailment, Patience, Pulse};
pub use ranges::{ClusterRanges, NodeRanges, RangeReader, RangesTold, WantedRanges};
pub use store::PodStore;
pub use watch::{PodEvent, PodWatch};
