//! The kernel side: loading, attaching and reading the programs, and the privileges that needs.
#![allow(unsafe_code, clippy::allow_attributes, reason = "bpf(2), memory shared with the kernel programs, credentials")]

mod atomics;
mod books;
pub mod btf;
mod dns;
mod events;
mod flows;
mod in_turn;
mod lasting;
mod load;
pub mod lock;
mod memory;
mod object;
mod offsets;
pub mod privileges;
pub mod probe;
mod programs;
mod readiness;
pub mod release;
mod scopes;
mod shared;
mod sleeps;
mod sys;
mod tables;
mod wait_pairs;

pub use books::{Owners, Presence, SlotBooks};
pub use events::{Events, Lifetime};
pub use flows::OpenSocket;
pub use load::{Kernel, LoadError, LoadOptions};
pub use memory::{release_code_of_start, release_free_memory, tame_allocator};
pub use object::OBJECT;
pub use offsets::program;
pub use programs::NOT_PERMITTED;
pub use readiness::Readiness;
pub use scopes::{ScopeRanges, ScopeTable};
pub use sleeps::{OpenSleeps, TaskState};
pub use sys::{monotonic_ns, present_cpus, thread_ns};
