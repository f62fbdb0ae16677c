//! What /proc tells of the node and of this process: load averages, network devices, states of tasks.
//!
//! The root is a parameter (`--proc-path`): in a container the host's /proc is mounted elsewhere.
