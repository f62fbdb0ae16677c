//! Helm: found, or built once into target/tools by a Go that is there.

use crate::{progress, setup, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The program.
pub(crate) const NAME: &str = "helm";
/// The release that is built; any other Helm 3 or later that is there serves as well.
pub(crate) const VERSION: &str = "3.22.0";
/// Where it comes from.
pub(crate) const HOME: &str = "https://helm.sh/docs/intro/install/";
/// Where Go's own archive puts it, which few have in their search path.
const USUAL_GO: &str = "/usr/local/go/bin/go";

/// The Helm of target/tools, else that of the search path.
pub(crate) fn find(workspace: &Workspace) -> Option<PathBuf> {
    Some(workspace.tool(NAME)).filter(|path| path.is_file()).or_else(|| setup::find(NAME))
}

/// The Go that could build it.
pub(crate) fn go() -> Option<PathBuf> {
    setup::find("go").or_else(|| Some(PathBuf::from(USUAL_GO)).filter(|path| path.is_file()))
}

/// Builds the pinned release into target/tools.
///
/// # Errors
/// When there is no Go, or the build fails.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let go = go().context("there is no Go")?;
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
fn build_command(workspace: &Workspace, go: &Path, directory: &Path) -> Command {
    let mut command = Command::new(go);
    command
        .args(["install", "-trimpath", "-ldflags"])
        // Without it `helm version` does not tell the patch release.
        .arg(format!("-s -w -X helm.sh/helm/v3/internal/version.version=v{VERSION}"))
        .arg(format!("helm.sh/helm/v3/cmd/helm@v{VERSION}"))
        .env("GOBIN", workspace.tools().join("bin"))
        .env("GOPATH", directory)
        .env("GOMODCACHE", directory.join("modules"))
        .env("GOCACHE", directory.join("cache"))
        // Else the modules are read-only, and cannot be removed by who is not root.
        .env("GOFLAGS", "-modcacherw")
        .env("CGO_ENABLED", "0");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_release_is_built_and_everything_of_it_is_under_target() {
        let workspace = Workspace::this();
        let directory = workspace.target().join("tools-build/helm");
        let command = build_command(&workspace, Path::new("go"), &directory);
        assert!(progress::command_line(&command).ends_with("helm.sh/helm/v3/cmd/helm@v3.22.0"));
        for (name, value) in command.get_envs().filter(|(name, _)| *name != "GOFLAGS" && *name != "CGO_ENABLED") {
            assert!(Path::new(value.unwrap()).starts_with(workspace.target()), "{}", name.display());
        }
    }
}
