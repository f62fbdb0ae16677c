//! What runs in a guest: our binaries, which need no library, and programs of this machine, with the libraries they need.

use super::machine::GuestFile;
use crate::{build, driven, setup::find, workspace::Workspace};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

/// `observer` and `observer-live`, the same that run on this machine, in /bin.
///
/// # Errors
/// When the eBPF object that they embed has not been built, or they do not build.
pub(crate) fn driven(workspace: &Workspace) -> Result<Vec<GuestFile>> {
    let object = workspace.object(build::PROGRAMS.file);
    ensure!(object.is_file(), "{} is not there: `cargo xtask build` makes it", object.display());
    driven::build(workspace)?;
    let file = |name| GuestFile { host: driven::program(workspace, name), guest: format!("/bin/{name}"), mode: 0o755 };
    Ok([driven::AGENT, driven::LIVE].map(file).into())
}

/// A program of this machine, a path or found on the search path, at the same path in the guest, after every library it is linked to.
///
/// # Errors
/// When it is not installed or a library of it is missing.
pub(crate) fn with_libraries(name: &str) -> Result<Vec<GuestFile>> {
    let program = find(name).with_context(|| format!("{name} is not installed"))?;
    let paths = libraries_of(&program)?.into_iter().chain([program]);
    Ok(paths.map(in_the_same_place).collect())
}

fn in_the_same_place(path: PathBuf) -> GuestFile {
    GuestFile { guest: path.to_string_lossy().into_owned(), host: path, mode: 0o755 }
}

fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    libraries(&String::from_utf8_lossy(&output.stdout))
        .map_err(|missing| anyhow::anyhow!("{} needs {missing}, which is not installed", program.display()))
}

/// Reads what ldd says: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, `libx.so => not found`; the kernel's own
/// vdso has no path. A static program has none of these lines.
fn libraries(ldd: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = BTreeSet::new();
    for line in ldd.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" => not found") {
            return Err(name.to_owned());
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        if path.starts_with('/')
            && let Some((path, _)) = path.split_once(" (")
        {
            found.insert(PathBuf::from(path));
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_ldd_says() {
        let ldd =
            "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let expected = ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(ldd).unwrap(), expected);
        assert_eq!(libraries("\tlibx.so.1 => not found\n").unwrap_err(), "libx.so.1");
        assert!(libraries("\tstatically linked\n").unwrap().is_empty());
        assert!(libraries("\tnot a dynamic executable\n").unwrap().is_empty());
    }
}
