//! bpf-linker: built once into target/tools against the LLVM of the chosen pair, and used from there.

use super::{Llvm, Pair, Version, probe};
use crate::workspace::Workspace;
use anyhow::{Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The release that is built.
pub(crate) const VERSION: &str = "0.13.0";
/// The LLVM releases it can be linked to, oldest first: each is a feature `llvm-NN` of its crate.
pub(crate) const LLVM_MAJORS: [u32; 3] = [21, 22, 23];
/// Its file name.
pub(crate) const NAME: &str = "bpf-linker";

/// A linker that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linker {
    /// What it says of itself: `bpf-linker 0.13.0`.
    says: String,
    /// The LLVM it loads now, which is a shared library that upgrades with the system; `None` when it cannot be told.
    llvm: Option<Version>,
}

/// Looks at the linker under target/tools; `None` when it is not there or does not run.
pub(crate) fn look(workspace: &Workspace) -> Option<Linker> {
    let path = workspace.tool(NAME);
    let says = probe::said(workspace.foreign(&path).arg("--version"))?.lines().next().unwrap_or_default().to_owned();
    let llvm = probe::said(workspace.foreign(Path::new("ldd")).arg(&path))
        .and_then(|libraries| llvm_prefix(&libraries))
        .and_then(|prefix| probe::llvm_version(&prefix));
    Some(Linker { says, llvm })
}

/// Why the linker must be built (again) for a pair; `None` when it serves.
pub(crate) fn unfit(linker: Option<&Linker>, pair: &Pair) -> Option<String> {
    let Some(linker) = linker else { return Some("it is not there".into()) };
    let expected = format!("{NAME} {VERSION}");
    if linker.says != expected {
        return Some(format!("it is `{}`, not `{expected}`", linker.says));
    }
    match linker.llvm {
        None => Some("the LLVM it loads cannot be told".into()),
        Some(llvm) if llvm < pair.rust.llvm => {
            Some(format!("it loads LLVM {llvm}, and rustc {} writes LLVM {}", pair.rust.release, pair.rust.llvm))
        }
        Some(_) => None,
    }
}

/// Names a mismatch of linker and compiler, before a build fails on it.
///
/// # Errors
/// When the linker does not serve the pair.
pub(crate) fn verify(workspace: &Workspace, pair: &Pair) -> Result<()> {
    let reason = unfit(look(workspace).as_ref(), pair);
    ensure!(
        reason.is_none(),
        "{} does not serve the {} compiler: {}; remove the file, and `cargo xtask setup` builds it anew",
        workspace.tool(NAME).display(),
        pair.rust.name,
        reason.unwrap_or_default()
    );
    Ok(())
}

/// The command that builds it.
pub(crate) fn build_command(workspace: &Workspace, llvm: &Llvm) -> Command {
    let mut cargo = crate::setup::tools::install_command(workspace, NAME, VERSION);
    cargo
        .args(["--no-default-features", "--features", &format!("llvm-{}", llvm.version.major)])
        .env("LLVM_PREFIX", &llvm.prefix);
    cargo
}

/// Where the libLLVM that ldd names belongs: `libLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x…)`.
fn llvm_prefix(ldd: &str) -> Option<PathBuf> {
    let line = ldd.lines().map(str::trim).find(|line| line.starts_with("libLLVM"))?;
    let path = Path::new(line.split_once(" => ")?.1.split_once(" (")?.0);
    Some(path.parent()?.parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::Rust;

    fn pair() -> Pair {
        let llvm = Version::new(22, 1, 8);
        let rust = Rust {
            name: "distribution".into(),
            rustc: "/usr/bin/rustc".into(),
            cargo: Some("/usr/bin/cargo".into()),
            release: Version::new(1, 96, 0),
            llvm,
            nightly: false,
            sources: true,
        };
        Pair { rust, llvm: Llvm { prefix: "/usr/lib/llvm-22".into(), version: llvm } }
    }

    fn linker(llvm: Option<Version>) -> Linker {
        Linker { says: "bpf-linker 0.13.0".into(), llvm }
    }

    #[test]
    fn the_library_tells_the_prefix() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f)\n\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007f)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n";
        assert_eq!(llvm_prefix(ldd), Some("/usr/lib/llvm-22".into()));
        assert_eq!(llvm_prefix("\tlibLLVM.so.22.1 => not found\n"), None);
        assert_eq!(llvm_prefix("\tstatically linked\n"), None);
    }

    #[test]
    fn a_linker_serves_with_the_same_or_a_later_llvm() {
        for version in [Version::new(22, 1, 8), Version::new(22, 1, 9), Version::new(23, 1, 0)] {
            assert_eq!(unfit(Some(&linker(Some(version))), &pair()), None);
        }
    }

    #[test]
    fn a_linker_a_patch_level_behind_is_named_with_both_versions() {
        let reason = unfit(Some(&linker(Some(Version::new(22, 1, 2)))), &pair()).unwrap();
        assert_eq!(reason, "it loads LLVM 22.1.2, and rustc 1.96.0 writes LLVM 22.1.8");
    }

    #[test]
    fn another_release_or_an_unknown_llvm_is_built_anew() {
        let other = Linker { says: "bpf-linker 0.12.0".into(), ..linker(Some(Version::new(22, 1, 8))) };
        assert!(unfit(Some(&other), &pair()).unwrap().contains("0.12.0"));
        assert!(unfit(Some(&linker(None)), &pair()).is_some());
        assert!(unfit(None, &pair()).is_some());
    }
}
