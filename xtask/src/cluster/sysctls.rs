//! Settings of the whole machine that a kubelet or a kube-proxy changes, and putting them back.

use anyhow::{Context, Result};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// Their names: `pkg/kubelet/cm/container_manager_linux.go` (`setupKernelTunables`), `cmd/kube-proxy/app/conntrack.go`.
const NAMES: [&str; 7] = [
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
    "net.netfilter.nf_conntrack_max",
];

/// As they are now. Those that this kernel does not have are left out.
pub(super) fn read() -> BTreeMap<String, String> {
    let value = |name: &&str| Some(((*name).to_owned(), fs::read_to_string(path(name)).ok()?.trim().to_owned()));
    NAMES.iter().filter_map(value).collect()
}

/// Puts those back that are no longer what they were.
///
/// # Errors
/// When one cannot be written.
pub(super) fn restore(before: &BTreeMap<String, String>) -> Result<()> {
    let now = read();
    for (name, value) in before.iter().filter(|(name, value)| now.get(*name) != Some(value)) {
        fs::write(path(name), value).with_context(|| format!("set {name} to {value} again"))?;
    }
    Ok(())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}
