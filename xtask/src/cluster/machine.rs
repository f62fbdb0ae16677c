//! What a machine must be for a cluster to come up on it, and what must not be there.

use super::{
    cgroups::{Hierarchies, MOUNT},
    layout::LINK,
    network,
};
use anyhow::{Result, ensure};

/// Verifies it, before anything is changed.
///
/// # Errors
/// What is in the way, and what to do.
pub(super) fn verify(hierarchies: &Hierarchies) -> Result<()> {
    ensure!(
        hierarchies.v2.starts_with(MOUNT),
        "cgroup2 is mounted at {}, and not at or below {MOUNT}, where a kubelet looks for it",
        hierarchies.v2.display()
    );
    if let Some(group) = hierarchies.pods() {
        anyhow::bail!(
            "{} is there: a kubelet runs on this machine or did, and one of ours would end the pods in it; where none runs any \
             more, remove the empty group with rmdir",
            group.display()
        );
    }
    ensure!(
        !hierarchies.programs().exists(),
        "{} is there, and no record of a cluster: `cargo xtask cluster down` removes it",
        hierarchies.programs().display()
    );
    ensure!(
        !network::is_there(),
        "the link {LINK} is there, and no record of a cluster: `ip link delete {LINK}` removes it"
    );
    Ok(())
}
