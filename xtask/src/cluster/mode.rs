//! How the cluster's node sees the machine's cgroups.

use super::cgroups::Hierarchies;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// A view of the machine's cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Containers are in every v1 hierarchy and, by the same path, in the v2 one beside them: limits are enforced by v1.
    Hybrid,
    /// The node sees the v2 hierarchy alone, at /sys/fs/cgroup, as today's nodes do. Controllers that the machine has bound
    /// to v1 are missing: what they would limit is not limited.
    V2,
}

impl Mode {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Hybrid, Self::V2];

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::V2 => "v2",
        }
    }

    /// Why it cannot be had on this machine, if it cannot.
    pub(crate) fn impossible(self) -> Option<String> {
        let outcome = Hierarchies::of_this_machine().and_then(|hierarchies| Self::choose(Some(self), &hierarchies));
        outcome.err().map(|error| format!("{error:#}"))
    }

    /// The one that was asked for, or else the one that this machine has.
    ///
    /// # Errors
    /// When the machine has no v1 hierarchies, and such were asked for.
    pub(super) fn choose(wanted: Option<Self>, hierarchies: &Hierarchies) -> Result<Self> {
        let possible = !hierarchies.v1.is_empty();
        ensure!(
            possible || wanted != Some(Self::Hybrid),
            "this machine has no cgroups of version 1, so its nodes cannot either: `--mode v2`"
        );
        Ok(wanted.unwrap_or(if possible { Self::Hybrid } else { Self::V2 }))
    }
}
