//! What the tests drive and are driven by, in every level that has a program of its own: built once, as what is in an image is built.

use crate::{
    image::Target,
    workspace::{Profile, Workspace},
};
use anyhow::Result;
use std::path::PathBuf;

/// The agent.
pub(crate) const AGENT: &str = "observer";
/// What drives it on this machine and in guests.
pub(crate) const LIVE: &str = "observer-live";
/// What drives it on a cluster, and what runs in the pods there.
pub(crate) const CLUSTER: &str = "observer-cluster";

/// What reads what is deployed. By itself, with other features, it would be another build of half of the dependencies.
pub(crate) const DEPLOY: &str = "observer-deploy";

/// Builds them. Always together: their dependencies' features are united, and each alone would be another build.
///
/// # Errors
/// When one of them does not build.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    Target::of_this_machine().build(workspace, None, Profile::TestRelease, &[AGENT, LIVE, CLUSTER, DEPLOY])
}

/// One of them, once it is built.
pub(crate) fn program(workspace: &Workspace, name: &str) -> PathBuf {
    Target::of_this_machine().directory(workspace, Profile::TestRelease).join(name)
}
