//! The web page of the debug listener: bundled by npm's tools into target/web, from where the agent's build takes it.
//!
//! Nothing is written beside the sources: they are copied to target/web-build, and built there. A machine without npm builds the agent
//! without its page, which the page then says.

use crate::{image, progress, setup::find, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Its sources.
const SOURCES: &str = "observer/web";
/// The API's description, of which the types are made.
const DESCRIPTION: &str = "observer/src/server/openapi.json";
/// What is made of them.
const FILES: [&str; 4] = ["index.html", "page.js", "page.css", "licences.txt"];
/// What the finished page was made from.
const STAMP: &str = "made-from";

/// Builds the page, unless it was built from the same.
///
/// # Errors
/// When npm is there and its tools fail.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let (Some(npm), Some(node)) = (find("npm"), find("node")) else {
        println!("build: no npm here, so the agent has no web page, and says so where it would be (Debian: npm)");
        return Ok(());
    };
    let to = workspace.target().join("web");
    let sources = sources(&workspace.root().join(SOURCES))?;
    let stamp = digest(&sources);
    if fs::read_to_string(to.join(STAMP)).is_ok_and(|made| made == stamp) && FILES.iter().all(|f| to.join(f).is_file())
    {
        return Ok(());
    }
    let directory = copy(workspace, &sources)?;
    install(workspace, &npm, &directory)?;
    let mut command = workspace.foreign(&node);
    command.current_dir(&directory).args(["build.mjs", "built"]);
    let finished = progress::run("bundling the page", command, &workspace.log("build-logs", "page")?)?.success()?;
    fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
    for file in FILES {
        let from = directory.join("built").join(file);
        fs::copy(&from, to.join(file)).with_context(|| format!("copy {}", from.display()))?;
    }
    fs::write(to.join(STAMP), stamp).with_context(|| format!("write in {}", to.display()))?;
    let said = finished.output.lines().last().unwrap_or_default().to_owned();
    println!("build: target/web: {said}");
    Ok(())
}

/// Checks the page's types against the API's description. `None` where npm is not there.
///
/// # Errors
/// When it cannot be run.
pub(crate) fn check(workspace: &Workspace, log: &Path) -> Result<Option<progress::Finished>> {
    let Some(npm) = find("npm") else { return Ok(None) };
    let directory = copy(workspace, &sources(&workspace.root().join(SOURCES))?)?;
    install(workspace, &npm, &directory)?;
    let mut command = quiet(workspace, &npm);
    command.current_dir(&directory).args(["run", "--silent", "check"]);
    progress::run("the page's types", command, log).map(Some)
}

/// What the tests of the page need, from npm: a directory under target/. `None` where npm is not there.
///
/// # Errors
/// When npm fails.
pub(crate) fn tests(workspace: &Workspace) -> Result<Option<PathBuf>> {
    const TESTS: &str = "tests/page";
    let Some(npm) = find("npm") else { return Ok(None) };
    let directory = workspace.target().join("page-tests");
    copy_to(&directory, &sources(&workspace.root().join(TESTS))?)?;
    install(workspace, &npm, &directory)?;
    Ok(Some(directory))
}

/// Installs what the lock file names, unless that was done.
fn install(workspace: &Workspace, npm: &Path, directory: &Path) -> Result<()> {
    let lock = directory.join("package-lock.json");
    let wanted = fs::read(&lock).with_context(|| format!("read {}", lock.display()))?;
    let done = directory.join("node_modules/.installed-from");
    if fs::read(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let mut command = quiet(workspace, npm);
    command.current_dir(directory).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    progress::run("fetching what the page is made with", command, &workspace.log("build-logs", &name)?)?.success()?;
    fs::write(&done, wanted).with_context(|| format!("write {}", done.display()))
}

/// npm, which keeps what it fetched under target/ and asks for nothing.
fn quiet(workspace: &Workspace, npm: &Path) -> Command {
    let mut command = workspace.foreign(npm);
    command.env("npm_config_cache", workspace.target().join("npm")).env("npm_config_update_notifier", "false");
    command
}

/// Files by their names, and what is in them.
type Sources = Vec<(PathBuf, Vec<u8>)>;

fn sources(directory: &Path) -> Result<Sources> {
    let mut found = Sources::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let path = directory.join(&below);
        for entry in fs::read_dir(&path).with_context(|| format!("read {}", path.display()))? {
            let entry = entry.with_context(|| format!("read {}", path.display()))?;
            let name = below.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() != "node_modules" {
                    open.push(name);
                }
            } else {
                let bytes = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
                found.push((name, bytes));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn digest(sources: &Sources) -> String {
    let mut all = Vec::new();
    for (name, bytes) in sources {
        all.extend(format!("{} {}\n", name.display(), bytes.len()).into_bytes());
        all.extend(bytes);
    }
    image::digest(&all)
}

/// The page's sources where they are built, beside the description as they are in the repository.
fn copy(workspace: &Workspace, sources: &Sources) -> Result<PathBuf> {
    let root = workspace.target().join("web-build");
    let directory = root.join("web");
    copy_to(&directory, sources)?;
    let (from, to) = (workspace.root().join(DESCRIPTION), root.join("src/server"));
    fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
    fs::copy(&from, to.join("openapi.json")).with_context(|| format!("copy {}", from.display()))?;
    Ok(directory)
}

/// Copies sources; below src, of which everything is bundled or checked, what is none any more is removed.
fn copy_to(directory: &Path, sources: &Sources) -> Result<()> {
    let _ = fs::remove_dir_all(directory.join("src"));
    for (name, bytes) in sources {
        let to = directory.join(name);
        let parent = to.parent().unwrap_or(directory);
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::write(&to, bytes).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_all_files_but_those_that_npm_installed_and_each_change_is_another_digest() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/main.tsx", "one");
        write("package.json", "{}");
        write("node_modules/uplot/package.json", "{}");
        let first = sources(directory.path()).unwrap();
        let names: Vec<_> = first.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["package.json", "src/main.tsx"]);
        write("node_modules/uplot/package.json", "{ }");
        assert_eq!(digest(&sources(directory.path()).unwrap()), digest(&first));
        write("src/main.tsx", "two");
        assert_ne!(digest(&sources(directory.path()).unwrap()), digest(&first));
    }

    #[test]
    fn a_source_that_is_gone_is_not_built_any_more() {
        let directory = tempfile::tempdir().unwrap();
        copy_to(directory.path(), &vec![("src/old.ts".into(), b"old".to_vec())]).unwrap();
        copy_to(directory.path(), &vec![("src/new.ts".into(), b"new".to_vec())]).unwrap();
        assert!(!directory.path().join("src/old.ts").exists() && directory.path().join("src/new.ts").exists());
    }
}
