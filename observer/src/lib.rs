//! The rooms of observer. Data flows one way: `kernel` and `cgroup` read, `ledger` books, `metrics` and `server` show.
//!
//! `unsafe` is allowed in [`kernel`] alone.

pub mod agent;
mod causes;
pub mod cgroup;
pub mod cli;
pub mod config;
pub mod explain;
pub mod history;
pub mod kernel;
pub mod kube;
pub mod ledger;
pub mod metrics;
pub mod procfs;
pub mod server;
pub mod top;
