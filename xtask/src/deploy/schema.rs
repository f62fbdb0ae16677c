//! What holds the dashboards against Grafana's schema: a Go program of tests/deploy, built once into target/tools, and again only when it
//! changes.

use crate::{
    go::{self, Go, SOON_BUILT},
    progress,
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
pub(crate) const NAME: &str = "grafana-schema";
/// Its Go module, in the workspace.
const MODULE: &str = "tests/deploy/grafana";
/// The module's files.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];
/// The Go that it asks for.
const GO: Version = Version::new(1, 21, 0);

/// The program, if it is there and of the module as it is.
pub(crate) fn find(workspace: &Workspace) -> Option<PathBuf> {
    let built_of = fs::read_to_string(stamp(workspace)).ok()?;
    let is_current = fingerprint(workspace).is_ok_and(|now| now == built_of);
    Some(workspace.tool(NAME)).filter(|path| is_current && path.is_file())
}

/// The Go that could build it.
pub(crate) fn go(workspace: &Workspace) -> Option<Go> {
    Go::find(workspace, GO)
}

/// Builds it into target/tools.
///
/// # Errors
/// When there is no Go, or the build fails.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let go = go(workspace).context("there is no Go")?;
    let directory = workspace.target().join("tools-build").join(NAME);
    let log = workspace.log("setup-logs", NAME)?;
    fs::create_dir_all(workspace.tools()).context("make target/tools")?;
    let command = build_command(workspace, &go, &directory);
    let finished = progress::run(&format!("building {NAME}"), command, &log)?.success()?;
    fs::write(stamp(workspace), fingerprint(workspace)?).context("note what was built")?;
    fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    println!("  built {NAME} in {}", progress::seconds(finished.elapsed));
    Ok(())
}

/// `go build` of the module with what its go.sum pins. All of Go's caches are in `directory`, of no use once it is built.
fn build_command(workspace: &Workspace, go: &Go, directory: &Path) -> Command {
    let mut command = go.command(workspace, &directory.join("modules"), &directory.join("cache"));
    command
        .current_dir(workspace.root().join(MODULE))
        .args(["build", "-mod=readonly", "-trimpath", SOON_BUILT, "-ldflags", "-s -w", "-o"])
        .args([workspace.tool(NAME).as_os_str(), ".".as_ref()])
        .env("GOPATH", directory);
    command
}

fn stamp(workspace: &Workspace) -> PathBuf {
    workspace.tools().join(NAME).with_extension("stamp")
}

fn fingerprint(workspace: &Workspace) -> Result<String> {
    go::fingerprint(workspace, MODULE, &SOURCES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_module_is_in_its_fingerprint_and_the_go_is_the_one_it_asks_for() {
        let directory = Workspace::this().root().join(MODULE);
        let files = fs::read_dir(&directory).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, SOURCES);
        let module = fs::read_to_string(directory.join("go.mod")).unwrap();
        let asked = module.lines().find_map(|line| line.strip_prefix("go ")).unwrap();
        assert_eq!(Version::parse(asked), Some(GO));
    }

    #[test]
    fn what_is_pinned_is_built_and_everything_of_it_is_under_target() {
        let workspace = Workspace::this();
        let Some(go) = go(&workspace) else { return };
        let command = build_command(&workspace, &go, &workspace.target().join("tools-build").join(NAME));
        assert!(progress::command_line(&command).contains("-mod=readonly"));
        let places = command
            .get_envs()
            .filter(|(name, _)| ["GOPATH", "GOMODCACHE", "GOCACHE"].map(Some).contains(&name.to_str()));
        let places: Vec<_> = places.map(|(_, place)| place.unwrap()).collect();
        assert_eq!(places.len(), 3);
        assert!(places.iter().all(|place| Path::new(place).starts_with(workspace.target())), "{places:?}");
    }
}
