//! What the agent is told: defaults, then the file, then the environment, then flags.

use ipnet::IpNet;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The agent's configuration, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Where /metrics is served.
    pub metrics_listen: SocketAddr,
    /// The value of the `node` label.
    pub node_name: String,
    /// Slots for cgroups that run something.
    pub max_cgroups: u32,
    /// How often the books are read.
    pub sample_interval: Duration,
    /// Who the agent becomes after attach; `None` keeps the user.
    pub user: Option<String>,
    /// The host's /proc.
    pub proc_path: PathBuf,
    /// The root of the v2 hierarchy; found in mountinfo when absent.
    pub cgroup_path: Option<PathBuf>,
    /// Ranges that count as intranet besides the private ones.
    pub intranet_cidr: Vec<IpNet>,
    /// How often a summary is printed; zero: never.
    pub summary_interval: Duration,
}
