//! What the tests of a real kernel and those of a real cluster share: the page as an independent parser reads it, a scrape over a
//! plain socket, and the lock by which runs wait for each other.

pub mod browser;
pub mod http;
mod lock;
mod log;
pub mod page;
pub mod slowest;
mod wait;

pub use lock::lock;
pub use log::listening_on;
pub use wait::wait_until;
