//! The cgroup tree: where it is, what is in it, what came and went, and what a path says about its owner.

mod container;
mod cpu_stat;
pub mod mount;
mod pod;
mod tree;

pub use container::{ContainerRef, Runtime};
pub use cpu_stat::CpuStats;
pub use pod::PodRef;
pub use tree::{Cgroup, Tree, Walked};
