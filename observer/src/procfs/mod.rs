//! What /proc tells of the node and of this process: load averages, network devices, addresses, states of tasks.
//!
//! The root is a parameter (`--proc-path`): in a container the host's /proc is mounted elsewhere. Nothing here needs a
//! privilege, and what is called each second reads into buffers that are kept.

mod addresses;
mod conntrack;
mod devices;
mod file;
mod loadavg;
mod network;
mod pressure;
mod process;
mod tasks;
mod vantage;
mod vmstat;

pub use addresses::{Addresses, addresses};
pub use conntrack::Conntrack;
pub use devices::DeviceReader;
pub use loadavg::loadavg;
pub use network::{Network, Vantage};
pub use pressure::has_pressure;
pub use process::process;
pub use tasks::{UninterruptibleTask, task_cgroup, task_state, thread_exists, uninterruptible_tasks};
pub use vantage::{TaskVantage, is_the_hosts};
pub use vmstat::OomKillReader;
