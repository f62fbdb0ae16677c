//! The Go tool-chain that builds what the tests need of the Kubernetes world: one that is there, or that of a later release of
//! the distribution, unpacked into target/tools.

use crate::{
    guest::apt::{Apt, Mirror},
    image, progress,
    setup::find,
    toolchain::{Version, probe::said},
    workspace::Workspace,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// The suite that has a Go for everyone, whatever the machine's own release: it needs nothing of that release but a C library
/// to be there, and not even that of its age.
const SUITE: &str = "trixie";
/// Its packages: compiler, and the source of the standard library.
pub(crate) const PACKAGES: [&str; 2] = ["golang-1.24-go", "golang-1.24-src"];
/// Where they put it.
const ROOT: &str = "usr/lib/go-1.24";
/// From here on Go fetches a later tool-chain by itself, through the module proxy, when a module asks for one:
/// <https://go.dev/doc/toolchain>.
const FETCHES_ITSELF: Version = Version::new(1, 21, 0);

/// The compiler's flags for what nobody debugs, and what is soon built: a quarter of the time goes into inlining and DWARF.
pub(crate) const SOON_BUILT: &str = "-gcflags=all=-l -dwarf=false";

/// What a module of the workspace is made of, in a few bytes: a program is built again when it changes.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn fingerprint(workspace: &Workspace, module: &str, sources: &[&str]) -> Result<String> {
    let mut bytes = Vec::new();
    for name in sources {
        let path = workspace.root().join(module).join(name);
        bytes.extend(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(image::digest(&bytes))
}

/// A Go that builds a module, at once or after it has fetched a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Go {
    program: PathBuf,
    version: Version,
    needed: Version,
}

impl Go {
    /// Looks for one that is new enough; else for one that can fetch one.
    pub(crate) fn find(workspace: &Workspace, needed: Version) -> Option<Self> {
        let places = [
            find("go"),
            Some("/usr/local/go/bin/go".into()),
            Some("/usr/lib/go/bin/go".into()),
            Some(directory(workspace).join(ROOT).join("bin/go")),
        ];
        let found: Vec<_> = places.into_iter().flatten().filter_map(|path| Some((version(&path)?, path))).collect();
        choose(&found, needed).map(|(version, program)| Self { program, version, needed })
    }

    /// Fetches one into target/tools.
    ///
    /// # Errors
    /// When the distribution's archive cannot be reached.
    pub(crate) fn fetch(workspace: &Workspace) -> Result<()> {
        let started = Instant::now();
        let mirror = Mirror::of_this_machine()?;
        println!("  fetching {} of Debian {SUITE} (about 50 MB)", PACKAGES.join(" and "));
        let staging = tempfile::tempdir_in(workspace.target()).context("make a directory under target/")?;
        let apt = Apt::open(&staging.path().join("apt"), &mirror, SUITE)?;
        let tree = staging.path().join("tree");
        for package in PACKAGES {
            let file = apt.download_package(package)?;
            let status = Command::new("dpkg-deb").arg("-x").arg(&file).arg(&tree).stdin(Stdio::null()).status();
            ensure!(status.context("run dpkg-deb")?.success(), "dpkg-deb could not unpack {}", file.display());
        }
        let to = directory(workspace);
        fs::create_dir_all(workspace.tools()).context("make target/tools")?;
        if to.exists() {
            fs::remove_dir_all(&to).with_context(|| format!("remove {}", to.display()))?;
        }
        fs::rename(&tree, &to).with_context(|| format!("move Go to {}", to.display()))?;
        println!("  unpacked Go in {}", progress::seconds(started.elapsed()));
        Ok(())
    }

    /// The command, with its caches where the caller says and none of a user's own settings that would change the result.
    pub(crate) fn command(&self, workspace: &Workspace, modules: &Path, built: &Path) -> Command {
        let mut command = workspace.foreign(&self.program);
        command
            .env("GOMODCACHE", modules)
            .env("GOCACHE", built)
            // The caches can be removed like everything else under target/.
            .env("GOFLAGS", "-modcacherw -buildvcs=false")
            .env("GOWORK", "off")
            .env("GOTOOLCHAIN", if self.version >= self.needed { "local" } else { "auto" })
            .env("CGO_ENABLED", "0");
        for variable in ["GOOS", "GOARCH", "GOROOT", "GOEXPERIMENT"] {
            command.env_remove(variable);
        }
        command
    }
}

/// Where a fetched one is.
fn directory(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("go")
}

/// What a `go` is, if it runs.
fn version(program: &Path) -> Option<Version> {
    let mut command = Command::new(program);
    // Of the program itself, and not of one that it would fetch for the directory it is called in.
    command.args(["env", "GOVERSION"]).current_dir("/").env("GOTOOLCHAIN", "local");
    Version::parse(said(&mut command)?.trim().strip_prefix("go")?)
}

/// The first that is new enough, else the first that can fetch one that is.
fn choose(found: &[(Version, PathBuf)], needed: Version) -> Option<(Version, PathBuf)> {
    let first = |oldest: Version| found.iter().find(|(version, _)| *version >= oldest).cloned();
    first(needed).or_else(|| first(FETCHES_ITSELF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_new_enough_comes_before_one_that_fetches_and_one_that_cannot_is_none() {
        let go = |minor, path: &str| (Version::new(1, minor, 0), PathBuf::from(path));
        let needed = Version::new(1, 24, 0);
        assert_eq!(choose(&[go(22, "/a"), go(26, "/b")], needed), Some(go(26, "/b")));
        assert_eq!(choose(&[go(19, "/a"), go(22, "/b")], needed), Some(go(22, "/b")));
        assert_eq!(choose(&[go(19, "/a")], needed), None);
    }
}
