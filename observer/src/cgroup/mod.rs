//! The cgroup tree: where it is, what is in it, what came and went, and what a path says about its owner.

mod container;
mod cpu_stat;
mod files;
mod memory;
pub mod mount;
mod pod;
mod pressure;
mod tree;
pub mod v1;

pub use container::{ContainerRef, Runtime};
pub use cpu_stat::CpuStats;
pub use files::{Files, StatFile};
pub use memory::{MemoryFiles, Usage};
pub use pod::PodRef;
pub use pressure::PressureFiles;
pub use tree::{Cgroup, Tree, Walked};
