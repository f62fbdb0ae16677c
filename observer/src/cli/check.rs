//! `observer check`: can this kernel, this machine and these privileges do it? One line per need, with the fix.
//!
//! Works without any privilege; what cannot be found out then is `unknown`, and says so. The exit code is 1 when the agent
//! could not run.

mod bpf;
mod finding;
mod machine;
#[cfg(test)]
mod tests;

use super::{FAILED, exit_code};
use crate::agent::open_files;
use crate::cgroup::mount::{self, MOUNTINFO, Mount, MountError};
use crate::kernel::privileges::{Held, in_user_namespace};
use crate::kernel::{btf, release};
use crate::procfs::Network;
use clap::{Args, ValueEnum};
use finding::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to look at, and how to tell.
#[derive(Args, Clone, Debug)]
pub(super) struct Arguments {
    /// How to print the findings
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    /// Where the host's /proc is mounted
    #[arg(long, value_name = "DIRECTORY", env = "OBSERVER_PROC_PATH", default_value = "/proc")]
    proc_path: PathBuf,
    /// Where the files of the node's network are [default: 1/net in that of --proc-path]
    #[arg(long, value_name = "DIRECTORY", env = "OBSERVER_NET_PATH")]
    net_path: Option<PathBuf>,
    /// Where the host's cgroup v2 hierarchy is mounted [default: found in mountinfo]
    #[arg(long, value_name = "DIRECTORY", env = "OBSERVER_CGROUP_PATH")]
    cgroup_path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table.
    Text,
    /// One JSON object.
    Json,
}

/// What the findings are made from: this machine, or one made up by a test.
struct Machine {
    /// `uname -r`.
    release: String,
    btf: PathBuf,
    bpffs: PathBuf,
    proc: PathBuf,
    network: Network,
    hierarchy: Result<Mount, MountError>,
    mountinfo: Vec<u8>,
    held: Held,
    in_user_namespace: bool,
    open_files: nix::Result<usize>,
}

impl Machine {
    fn this(arguments: &Arguments) -> Self {
        Self {
            release: release::running(),
            btf: PathBuf::from(btf::VMLINUX),
            bpffs: PathBuf::from("/sys/fs/bpf"),
            proc: arguments.proc_path.clone(),
            network: Network::new(arguments.proc_path.clone(), arguments.net_path.clone()),
            hierarchy: mount::locate(arguments.cgroup_path.as_deref()),
            mountinfo: std::fs::read(Path::new(MOUNTINFO)).unwrap_or_default(),
            held: Held::read(),
            in_user_namespace: in_user_namespace(),
            // Before the programs are tried.
            open_files: open_files::raise(),
        }
    }

    fn examined(&self) -> Report {
        let mut findings = vec![machine::kernel(&self.release)];
        findings.push(machine::open_files(self.open_files));
        findings.extend(self.capabilities());
        findings.extend(bpf::findings(&self.btf, &self.held));
        findings.extend(self.cgroups());
        findings.push(machine::bpffs(&self.bpffs));
        findings.push(machine::proc(&self.proc, &self.mountinfo));
        findings.push(machine::pressure(&self.proc));
        findings.push(machine::connections(&self.network));
        findings.push(self.other_agent());
        Report { findings }
    }
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let report = Machine::this(arguments).examined();
    let text = match arguments.output {
        Output::Text => report.to_text(),
        Output::Json => report.to_json(),
    };
    let printed = super::print(&text);
    if report.can_run() { printed } else { exit_code(FAILED) }
}
