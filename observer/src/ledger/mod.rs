//! The books: samples and identities in, a snapshot out. Pure: no clock, no I/O, no kernel.

mod peak;
mod snapshot;

pub use peak::Peak;
pub use snapshot::{
    AgentFacts, Books, CpuUsage, Device, Entity, EntityId, Identity, LoadAverages, MapFacts, NodeFacts, ProcessFacts,
    ProgramFacts, Snapshot, Throttling,
};
