//! Helm: found, or built once into target/tools by a Go that is there.

use crate::{
    go::{Go, SOON_BUILT},
    progress, setup,
    toolchain::Version,
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The program.
pub(crate) const NAME: &str = "helm";
/// The release that is built; any other Helm 3 or later that is there serves as well.
pub(crate) const VERSION: &str = "3.19.4";
/// The Go that it asks for: the last of its releases that Debian 13's builds.
const GO: Version = Version::new(1, 24, 0);
/// Where it comes from.
pub(crate) const HOME: &str = "https://helm.sh/docs/intro/install/";

/// The Helm of target/tools, else that of the search path.
pub(crate) fn find(workspace: &Workspace) -> Option<PathBuf> {
    Some(workspace.tool(NAME)).filter(|path| path.is_file()).or_else(|| setup::find(NAME))
}

/// The Go that could build it.
pub(crate) fn go(workspace: &Workspace) -> Option<Go> {
    Go::find(workspace, GO)
}

/// Builds the pinned release into target/tools.
///
/// # Errors
/// When there is no Go, or the build fails.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let go = go(workspace).context("there is no Go")?;
    let directory = workspace.target().join("tools-build").join(NAME);
    let log = workspace.log("setup-logs", NAME)?;
    let command = build_command(workspace, &go, &directory);
    let finished = progress::run(&format!("building {NAME}"), command, &log)?.success()?;
    fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    println!("  built {NAME} in {}", progress::seconds(finished.elapsed));
    Ok(())
}

/// `go install` of one release, whose modules Go checks against its checksum database. All of Go's caches are in `directory`:
/// a gigabyte that nobody else here wants.
fn build_command(workspace: &Workspace, go: &Go, directory: &Path) -> Command {
    let mut command = go.command(workspace, &directory.join("modules"), &directory.join("cache"));
    command
        .args(["install", "-trimpath", SOON_BUILT, "-ldflags"])
        // Without it `helm version` does not tell the patch release.
        .arg(format!("-s -w -X helm.sh/helm/v3/internal/version.version=v{VERSION}"))
        .arg(format!("helm.sh/helm/v3/cmd/helm@v{VERSION}"))
        .env("GOBIN", workspace.tools().join("bin"))
        .env("GOPATH", directory);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_release_is_built_and_everything_of_it_is_under_target() {
        let workspace = Workspace::this();
        let directory = workspace.target().join("tools-build/helm");
        let Some(go) = go(&workspace) else { return };
        let command = build_command(&workspace, &go, &directory);
        assert!(progress::command_line(&command).ends_with(&format!("helm.sh/helm/v3/cmd/helm@v{VERSION}")));
        let places = command
            .get_envs()
            .filter(|(name, _)| ["GOBIN", "GOPATH", "GOMODCACHE", "GOCACHE"].map(Some).contains(&name.to_str()));
        let places: Vec<_> = places.map(|(_, place)| place.unwrap()).collect();
        assert_eq!(places.len(), 4);
        assert!(places.iter().all(|place| Path::new(place).starts_with(workspace.target())), "{places:?}");
    }
}
