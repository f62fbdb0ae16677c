//! The cgroup tree: where it is, what is in it, what came and went, and what a path says about its owner.

pub mod mount;
