//! The kernel matrix: which kernels it has, and their images and modules on disk, fetched once from the archive.

use super::apt::{Apt, Mirror};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The matrix, oldest first: a suite and, where it never changes, the version of its kernel; at the end whatever is newest.
const SUITES: [(&str, Option<&str>); 4] =
    [("bullseye", Some("5.10")), ("bookworm", Some("6.1")), ("trixie", Some("6.12")), ("sid", None)];

/// Its dependency is the newest kernel of a suite for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel on disk, ready to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Major and minor version, `6.1`: how people name it.
    pub(crate) label: String,
    /// The suite it comes from.
    pub(crate) suite: String,
    /// The full release as `uname -r` says it: `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    /// The boot image.
    pub(crate) image: PathBuf,
    /// The directory with `modules.builtin` and the tree `kernel/` of its modules.
    pub(crate) modules: PathBuf,
}

/// One row of the matrix: a kernel, or why it is not there.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The suite, in the order oldest to newest.
    pub(crate) suite: &'static str,
    /// The kernel, or what kept it from being fetched.
    pub(crate) kernel: Result<Kernel>,
}

/// Where the kernels are kept.
pub(crate) fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target().join("kernels")
}

/// The matrix under `directory`. What is there already is used as it is and needs no network (delete a suite's directory to have
/// a newer kernel fetched); `progress` is told before anything is fetched.
pub(crate) fn fetch(directory: &Path, progress: &mut dyn FnMut(&str)) -> Vec<Entry> {
    let mut mirror = None;
    let entry = |(suite, _)| Entry { suite, kernel: of_suite(directory, suite, &mut mirror, progress) };
    SUITES.into_iter().map(entry).collect()
}

/// The kernel called `name`: a version (`6.1`), a suite (`bookworm`), or `newest`. Nothing else is fetched.
///
/// # Errors
/// When no kernel of the matrix is called so, or it cannot be fetched.
pub(crate) fn find(directory: &Path, name: &str, progress: &mut dyn FnMut(&str)) -> Result<Kernel> {
    let called = |(suite, version): &(&str, Option<&str>)| *suite == name || *version == Some(name);
    if let Some((suite, _)) = SUITES.iter().find(|entry| called(entry)) {
        return of_suite(directory, suite, &mut None, progress);
    }
    // Only a look says which version the newest is.
    let newest = of_suite(directory, "sid", &mut None, progress)?;
    if name == "newest" || name == newest.label {
        return Ok(newest);
    }
    let versions: Vec<_> = SUITES.iter().filter_map(|(_, version)| *version).chain([newest.label.as_str()]).collect();
    bail!("no kernel of the matrix is called {name}; there are {} (newest)", versions.join(", "))
}

fn of_suite(
    directory: &Path,
    suite: &str,
    mirror: &mut Option<Mirror>,
    progress: &mut dyn FnMut(&str),
) -> Result<Kernel> {
    match Kernel::open(directory, suite)? {
        Some(kernel) => Ok(kernel),
        None => fetch_suite(directory, suite, mirror, progress),
    }
}

impl Kernel {
    /// The kernel of `suite` that an earlier run left under `directory`.
    fn open(directory: &Path, suite: &str) -> Result<Option<Self>> {
        let directory = directory.join(suite);
        if !directory.exists() {
            return Ok(None);
        }
        let release = fs::read_to_string(directory.join("release"))
            .with_context(|| format!("{} is not a kernel's directory: delete it", directory.display()))?;
        let release = release.trim().to_owned();
        Ok(Some(Self {
            label: label(&release),
            suite: suite.to_owned(),
            release,
            image: directory.join("vmlinuz"),
            modules: directory.join("modules"),
        }))
    }
}

/// `6.1.0-56-cloud-amd64` is called `6.1`.
fn label(release: &str) -> String {
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn fetch_suite(
    directory: &Path,
    suite: &str,
    mirror: &mut Option<Mirror>,
    progress: &mut dyn FnMut(&str),
) -> Result<Kernel> {
    let mirror = match mirror {
        Some(mirror) => mirror,
        None => mirror.insert(Mirror::of_this_machine()?),
    };
    progress(&format!("fetching the kernel of Debian {suite} (about 50 MB, kept in {})", directory.display()));
    // Everything happens in a directory that is renamed at the end: what an interrupted run leaves is never taken for a kernel.
    let staging = directory.join(format!(".{suite}.partial"));
    remove(&staging)?;
    fs::create_dir_all(&staging).with_context(|| format!("create {}", staging.display()))?;
    let staging = staging.canonicalize()?;
    let packages = Apt::open(&staging.join("apt"), mirror, suite)?.download_kernel(META_PACKAGE)?;
    for package in &packages {
        unpack(package, &staging.join("tree"))?;
    }
    arrange(&staging)?;
    fs::rename(&staging, directory.join(suite))?;
    Kernel::open(directory, suite)?.context("the kernel just fetched has vanished")
}

/// Unpacks a package's files without running any of its scripts.
fn unpack(package: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let status = Command::new("dpkg-deb").arg("-x").arg(package).arg(into).stdin(Stdio::null()).status();
    ensure!(status.context("run dpkg-deb")?.success(), "dpkg-deb could not unpack {}", package.display());
    Ok(())
}

/// Keeps image, modules and release of the unpacked tree at fixed places in `staging`, and nothing else.
///
/// The modules are in `lib` up to Debian 12 and in `usr/lib` from 13 on; the image is in `boot` and, from 7.x on, beside the modules.
fn arrange(staging: &Path) -> Result<()> {
    let tree = staging.join("tree");
    let roots = ["usr/lib/modules", "lib/modules"].map(|path| tree.join(path));
    let modules = roots.iter().find_map(|root| fs::read_dir(root).ok()?.next()?.ok());
    let modules = modules.context("the kernel's packages hold no modules")?;
    let release = modules.file_name().to_string_lossy().into_owned();
    let images = [modules.path().join("vmlinuz"), tree.join(format!("boot/vmlinuz-{release}"))];
    let image = images.iter().find(|path| path.is_file());
    let image = image.with_context(|| format!("the packages of {release} hold no image"))?;
    ensure!(modules.path().join("modules.builtin").is_file(), "the packages of {release} hold no modules.builtin");
    fs::rename(image, staging.join("vmlinuz"))?;
    fs::rename(modules.path(), staging.join("modules"))?;
    fs::write(staging.join("release"), format!("{release}\n"))?;
    remove(&tree)?;
    remove(&staging.join("apt"))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn both_layouts_of_the_packages_end_at_the_same_places() {
        let old = ["boot/vmlinuz-6.1.0-56-cloud-amd64", "lib/modules/6.1.0-56-cloud-amd64/modules.builtin"];
        let new = [
            "usr/lib/modules/7.2.13+deb14-cloud-amd64/vmlinuz",
            "usr/lib/modules/7.2.13+deb14-cloud-amd64/modules.builtin",
        ];
        for (files, label) in [(old, "6.1"), (new, "7.2")] {
            let directory = tempfile::tempdir().unwrap();
            let suite = directory.path().join("suite");
            for file in files {
                touch(&suite.join("tree").join(file));
            }
            arrange(&suite).unwrap();
            let kernel = Kernel::open(directory.path(), "suite").unwrap().unwrap();
            assert_eq!(kernel.label, label);
            assert!(kernel.image.is_file());
            assert!(kernel.modules.join("modules.builtin").is_file());
            assert!(!suite.join("tree").exists());
        }
    }

    #[test]
    fn a_kernel_is_found_by_version_suite_or_as_the_newest_without_a_network() {
        let directory = tempfile::tempdir().unwrap();
        for (suite, release) in [("bookworm", "6.1.0-56-cloud-amd64"), ("sid", "7.2.13+deb14-cloud-amd64")] {
            fs::create_dir(directory.path().join(suite)).unwrap();
            fs::write(directory.path().join(suite).join("release"), release).unwrap();
        }
        let find = |name: &str| find(directory.path(), name, &mut |line| panic!("{line}"));
        for (name, label) in [("6.1", "6.1"), ("bookworm", "6.1"), ("newest", "7.2"), ("7.2", "7.2"), ("sid", "7.2")] {
            assert_eq!(find(name).unwrap().label, label);
        }
        let error = find("4.19").unwrap_err().to_string();
        assert!(error.ends_with("there are 5.10, 6.1, 6.12, 7.2 (newest)"), "{error}");
    }

    #[test]
    fn what_an_interrupted_run_left_is_not_a_kernel() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Kernel::open(directory.path(), "sid").unwrap(), None);
        fs::create_dir(directory.path().join("sid")).unwrap();
        assert!(Kernel::open(directory.path(), "sid").unwrap_err().to_string().contains("delete it"));
    }
}
