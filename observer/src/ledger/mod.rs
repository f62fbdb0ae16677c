//! The books: samples and identities in, a snapshot out. Pure: no clock, no I/O, no kernel.

mod account;
mod behind;
mod blame;
mod books;
mod budget;
mod connections;
mod entity;
mod far_ends;
#[cfg(test)]
pub(crate) mod fixture;
mod flows;
mod holder;
mod holding;
mod identity;
mod looked_up;
mod naming;
mod node_ports;
mod peak;
mod pods;
mod recent;
mod resources;
mod sample;
mod snapshot;
mod tenancies;
mod windows;
mod workloads;

pub use behind::{Behind, BehindAll, OwnAddresses, REMEMBERED_SECONDS, Speech, Translated};
pub use blame::Cause;
pub use books::Ledger;
pub use connections::{Connections, Opener};
pub use entity::{Books, CpuUsage, Entity, EntityId, Throttling};
pub use far_ends::{PodTold, Whose};
pub use flows::{DEFAULT_MAX_FLOWS, Flow, FlowBooks, FlowView, OpenConnections};
pub use holder::{Holder, PodHolder};
pub use identity::{Cgroup, Identity, InPod, Names, PodNames, WorkloadNames};
pub use looked_up::{AskedName, LookedUpName};
pub use node_ports::OnNode;
pub use observer_ebpf::causes::{By, CAUSES};
pub use peak::Peak;
pub use recent::{Recent, Window};
pub use resources::{MemoryUse, Pressure, Stall};
pub use sample::{Added, Caused, Culprit, Interval, Lasting, Sample};
pub use snapshot::{
    AgentFacts, Bounds, ContainerResources, Device, HistoryFacts, KubeFacts, LoadAverages, MapFacts, NodeFacts,
    PodFacts, ProcessFacts, ProgramFacts, Snapshot,
};
pub use tenancies::Tenancy;
use windows::Active;
pub use workloads::{Workload, WorkloadId, WorkloadKey};
