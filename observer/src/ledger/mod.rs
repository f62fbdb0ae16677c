//! The books: samples and identities in, a snapshot out. Pure: no clock, no I/O, no kernel.

mod books;
mod peak;
mod sample;
mod snapshot;

pub use books::{Ledger, Name};
pub use peak::Peak;
pub use sample::{Added, Sample};
pub use snapshot::{
    AgentFacts, Books, CpuUsage, Device, Entity, EntityId, Identity, LoadAverages, MapFacts, NodeFacts, ProcessFacts,
    ProgramFacts, Snapshot, Throttling,
};
