//! The books: samples and identities in, a snapshot out. Pure: no clock, no I/O, no kernel.

mod account;
mod books;
mod budget;
mod entity;
mod identity;
mod naming;
mod peak;
mod pods;
mod recent;
mod sample;
mod snapshot;
mod windows;
mod workloads;

pub use books::Ledger;
pub use entity::{Books, CpuUsage, Entity, EntityId, Throttling};
pub use identity::{Cgroup, Identity, InPod, Names, PodNames, WorkloadNames};
pub use peak::Peak;
pub use recent::{Recent, Window};
pub use sample::{Added, Sample};
pub use snapshot::{
    AgentFacts, Device, KubeFacts, LoadAverages, MapFacts, NodeFacts, PodFacts, ProcessFacts, ProgramFacts, Snapshot,
};
use windows::Active;
pub use windows::Lasting;
pub use workloads::{Workload, WorkloadId, WorkloadKey};
