//! bpf-linker: built once into target/tools against the LLVM of the chosen pair, and used from there.

use super::{Llvm, Pair, Place, Version, probe};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
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
    /// The LLVM library that it loads, without links on the way.
    library: Option<PathBuf>,
    /// Its version now, since it upgrades with the system; `None` when it cannot be told, as of a compiler's own.
    llvm: Option<Version>,
}

/// Looks at the linker under target/tools; `None` when it is not there or does not run.
pub(crate) fn look(workspace: &Workspace) -> Option<Linker> {
    let path = workspace.tool(NAME);
    let says = probe::said(workspace.foreign(&path).arg("--version"))?.lines().next().unwrap_or_default().to_owned();
    let libraries = probe::said(workspace.foreign(Path::new("ldd")).arg(&path)).unwrap_or_default();
    let library = llvm_library(&libraries);
    let llvm = library.and_then(|library| probe::llvm_version(library.parent()?.parent()?));
    Some(Linker { says, library: library.and_then(|library| fs::canonicalize(library).ok()), llvm })
}

/// Why the linker must be built (again) for a pair; `None` when it serves.
pub(crate) fn unfit(linker: Option<&Linker>, pair: &Pair) -> Option<String> {
    let Some(linker) = linker else { return Some("it is not there, or does not start".into()) };
    let expected = format!("{NAME} {VERSION}");
    if linker.says != expected {
        return Some(format!("it is `{}`, not `{expected}`", linker.says));
    }
    if linker.library.is_some() && linker.library == pair.rust.own_llvm {
        return None;
    }
    match (&pair.llvm.place, linker.llvm) {
        (Place::OfCompiler(_), _) => Some("it does not load the compiler's own LLVM".into()),
        (Place::Prefix(_), None) => Some("it loads the LLVM of another compiler, or one that cannot be told".into()),
        (Place::Prefix(_), Some(llvm)) if llvm < pair.rust.llvm => {
            Some(format!("it loads LLVM {llvm}, and rustc {} writes LLVM {}", pair.rust.release, pair.rust.llvm))
        }
        (Place::Prefix(_), Some(_)) => None,
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

/// The command that builds it. With little optimisation and without the debug information that its release has: it then takes half of the
/// time to build, and what it does is done by LLVM.
///
/// # Errors
/// When the directory that stands for a compiler's own LLVM cannot be made.
pub(crate) fn build_command(workspace: &Workspace, llvm: &Llvm) -> Result<Command> {
    let prefix = match &llvm.place {
        Place::Prefix(prefix) => prefix.clone(),
        Place::OfCompiler(library) => {
            let prefix = workspace.tools().join("llvm");
            stand_in(&prefix, library).with_context(|| format!("make {}", prefix.display()))?;
            prefix
        }
    };
    let mut cargo = crate::setup::tools::install_command(workspace, NAME, VERSION);
    cargo
        .args(["--no-default-features", "--features", &format!("llvm-{}", llvm.version.major)])
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("LLVM_PREFIX", prefix);
    Ok(cargo)
}

/// Makes a prefix for a library alone. A build needs no more than `lib/libLLVM.so`, which is passed as `-lLLVM`; the linker
/// then looks in `lib` for the name that the library gives itself, its file name. When the compiler is replaced by one with
/// another library, the linker does not start any more, and is built anew.
fn stand_in(prefix: &Path, library: &Path) -> Result<()> {
    match fs::remove_dir_all(prefix) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let directory = prefix.join("lib");
    fs::create_dir_all(&directory)?;
    symlink(library, directory.join("libLLVM.so"))?;
    symlink(library, directory.join(library.file_name().context("a library has a name")?))?;
    Ok(())
}

/// The libLLVM that ldd names: `libLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x…)`.
fn llvm_library(ldd: &str) -> Option<&Path> {
    let line = ldd.lines().map(str::trim).find(|line| line.starts_with("libLLVM"))?;
    Some(Path::new(line.split_once(" => ")?.1.split_once(" (")?.0))
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
            own_llvm: None,
        };
        Pair { rust, llvm: Llvm { place: Place::Prefix("/usr/lib/llvm-22".into()), version: llvm } }
    }

    /// A compiler that is linked with the LLVM it brought along.
    fn pair_of_its_own() -> Pair {
        let (library, Pair { rust, llvm }) = (PathBuf::from("/n/lib/libLLVM.so.22.1-rust-1.97.0-nightly"), pair());
        let llvm = Llvm { place: Place::OfCompiler(library.clone()), ..llvm };
        Pair { rust: Rust { own_llvm: Some(library), ..rust }, llvm }
    }

    fn linker(llvm: Option<Version>) -> Linker {
        Linker { says: "bpf-linker 0.13.0".into(), library: Some("/usr/lib/llvm-22/lib/libLLVM.so.22.1".into()), llvm }
    }

    #[test]
    fn the_library_is_the_one_that_ldd_names() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f)\n\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007f)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n";
        assert_eq!(llvm_library(ldd), Some(Path::new("/usr/lib/llvm-22/lib/libLLVM.so.22.1")));
        assert_eq!(llvm_library("\tlibLLVM.so.22.1 => not found\n"), None);
        assert_eq!(llvm_library("\tstatically linked\n"), None);
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

    #[test]
    fn a_compilers_own_llvm_serves_it_and_no_other_stands_in_for_it() {
        let of_its_own = pair_of_its_own();
        let own = Linker { library: of_its_own.rust.own_llvm.clone(), ..linker(None) };
        assert_eq!(unfit(Some(&own), &of_its_own), None);
        assert!(unfit(Some(&linker(Some(Version::new(22, 1, 8)))), &of_its_own).unwrap().contains("own LLVM"));
        // Another compiler with the same linker: which version it is cannot be told.
        assert!(unfit(Some(&own), &pair()).is_some());
        assert!(unfit(Some(&Linker { library: None, ..own }), &of_its_own).is_some());
    }

    #[test]
    fn a_library_alone_is_made_a_prefix_and_an_older_one_gives_way() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("llvm");
        for name in ["libLLVM.so.22.1-rust-1.97.0-nightly", "libLLVM.so.23.1-rust-1.101.0-nightly"] {
            let library = directory.path().join(name);
            fs::write(&library, name).unwrap();
            stand_in(&prefix, &library).unwrap();
            assert_eq!(fs::read_to_string(prefix.join("lib/libLLVM.so")).unwrap(), name);
            assert_eq!(fs::read_to_string(prefix.join("lib").join(name)).unwrap(), name);
            assert_eq!(fs::read_dir(prefix.join("lib")).unwrap().count(), 2);
        }
    }
}
