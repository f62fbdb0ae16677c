//! What is on this machine: compilers, LLVMs, and what its distribution has of both.

use super::{DISTRIBUTION, Found, Llvm, PackagedLlvm, PackagedRust, Place, Rust, Version, linker};
use crate::{setup::apt, workspace::Workspace};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's names, newest first: the pair that follows Firefox's needs also in a stable release, and the release's own.
const PACKAGED: [[&str; 3]; 2] = [["rustc-web", "cargo-web", "rust-web-src"], ["rustc", "cargo", "rust-src"]];
/// Where distributions put LLVMs; every directory in them that holds a `bin/llvm-config` is one.
const LLVM_PARENTS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/lib/llvm", "/usr/local"];

/// What is installed.
pub(crate) fn installed(workspace: &Workspace) -> Found {
    let mut rusts = nightlies(workspace);
    rusts.sort_by(|a, b| (b.release, &b.name).cmp(&(a.release, &a.name)));
    rusts.extend(distribution(workspace));
    Found { rusts, llvms: llvms(), rustup: said(Command::new("rustup").arg("--version")).is_some(), ..Found::default() }
}

/// Adds what the distribution's packages could bring.
pub(crate) fn add_packaged(found: &mut Found) {
    let rust = |packages: [&'static str; 3]| {
        let release = Version::parse(&apt::candidate(packages[0])?)?;
        let llvm_major =
            apt::dependencies(packages[0]).iter().find_map(|name| name.strip_prefix("libllvm")?.parse().ok());
        apt::installs_without_removing(&packages).then_some(PackagedRust { packages, release, llvm_major })
    };
    found.packaged_rusts = PACKAGED.into_iter().filter_map(rust).collect();
    let llvm = |major: u32| Version::parse(&apt::candidate(&format!("llvm-{major}-dev"))?);
    found.packaged_llvms =
        linker::LLVM_MAJORS.into_iter().filter_map(llvm).map(|version| PackagedLlvm { version }).collect();
}

/// What a Debian whose package lists have not been fetched yet is taken to have: for the list of `--no-install`, which
/// fetches nothing.
pub(crate) fn assume_packaged(found: &mut Found) {
    found.packaged_rusts =
        vec![PackagedRust { packages: PACKAGED[0], release: super::OLDEST_RUST, llvm_major: Some(22) }];
    found.packaged_llvms = vec![PackagedLlvm { version: Version::new(22, 0, 0) }];
}

fn nightlies(workspace: &Workspace) -> Vec<Rust> {
    let Some(list) = said(Command::new("rustup").args(["toolchain", "list"])) else { return Vec::new() };
    let names =
        list.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| name.starts_with("nightly"));
    let rust = |name: &str| {
        let rustc = said(Command::new("rustup").args(["which", "--toolchain", name, "rustc"]))?;
        rust_at(workspace, short_name(name), Path::new(rustc.trim()))
    };
    names.filter_map(rust).collect()
}

/// `nightly` for `nightly-x86_64-unknown-linux-gnu`; a date stays.
fn short_name(name: &str) -> &str {
    name.find(&format!("-{}", std::env::consts::ARCH)).map_or(name, |end| &name[..end])
}

fn distribution(workspace: &Workspace) -> Option<Rust> {
    let rustc = Path::new("/usr/bin/rustc");
    // Debian also packages rustup, whose proxies have the compilers' names.
    let proxy = fs::canonicalize(rustc).ok()?.file_name()?.to_string_lossy().starts_with("rustup");
    if proxy { None } else { rust_at(workspace, DISTRIBUTION, rustc) }
}

/// The compiler at a path, unless it does not run.
fn rust_at(workspace: &Workspace, name: &str, rustc: &Path) -> Option<Rust> {
    let about = said(workspace.foreign(rustc).arg("-vV"))?;
    let sysroot = said(workspace.foreign(rustc).args(["--print", "sysroot"]))?;
    let sysroot = Path::new(sysroot.trim());
    let (release, llvm, nightly) = identity(&about)?;
    Some(Rust {
        name: name.to_owned(),
        rustc: rustc.to_owned(),
        cargo: Some(rustc.with_file_name("cargo")).filter(|cargo| cargo.is_file()),
        release,
        llvm,
        nightly,
        sources: sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file(),
        own_llvm: own_llvm(sysroot, llvm),
    })
}

/// The LLVM that a compiler brought along, `lib/libLLVM.so.23.1-rust-1.101.0-nightly`. A distribution's has no `rust` in its
/// name, and is found by its own `llvm-config`.
fn own_llvm(sysroot: &Path, llvm: Version) -> Option<PathBuf> {
    let libraries = fs::read_dir(sysroot.join("lib")).ok()?.flatten().map(|entry| entry.path());
    let is_own = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(&format!("libLLVM.so.{}.", llvm.major)) && name.contains("-rust-")
    };
    fs::canonicalize(libraries.into_iter().find(is_own)?).ok()
}

/// Release, LLVM, and whether it is a nightly, from `rustc -vV`.
fn identity(about: &str) -> Option<(Version, Version, bool)> {
    let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let release = field("release")?;
    let unstable = release.contains("-nightly") || release.contains("-dev");
    Some((Version::parse(release)?, Version::parse(field("LLVM version")?)?, unstable))
}

fn llvms() -> Vec<Llvm> {
    let named = std::env::var_os("LLVM_PREFIX").map(PathBuf::from);
    let on_path = said(Command::new("llvm-config").arg("--prefix")).map(|prefix| PathBuf::from(prefix.trim()));
    let usual = LLVM_PARENTS.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten();
    let usual = usual.map(|entry| entry.path()).filter(|path| path.join("bin/llvm-config").is_file());
    let prefixes: BTreeSet<_> = named.into_iter().chain(on_path).chain(usual).collect();
    prefixes.into_iter().filter_map(llvm_at).collect()
}

/// The LLVM of a prefix, if its shared library can be linked to.
fn llvm_at(prefix: PathBuf) -> Option<Llvm> {
    let version = llvm_version(&prefix)?;
    let names = ["libLLVM.so".to_owned(), format!("libLLVM-{}.so", version.major)];
    let libraries = ["lib", "lib64"].map(|directory| prefix.join(directory));
    let linkable = libraries.iter().any(|directory| names.iter().any(|name| directory.join(name).exists()));
    linkable.then_some(Llvm { place: Place::Prefix(prefix), version })
}

/// What the `llvm-config` of a prefix says.
pub(crate) fn llvm_version(prefix: &Path) -> Option<Version> {
    Version::parse(&said(Command::new(prefix.join("bin/llvm-config")).arg("--version"))?)
}

/// What a program prints, if it runs and succeeds.
pub(crate) fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_says_what_it_is() {
        let about = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                     release: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(identity(about), Some((Version::new(1, 97, 0), Version::new(22, 1, 4), true)));
        let about = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(identity(about), Some((Version::new(1, 96, 0), Version::new(22, 1, 8), false)));
        assert_eq!(identity("rustc 1.96.0\n"), None);
    }

    #[test]
    fn a_tool_chains_name_is_without_its_host() {
        let arch = std::env::consts::ARCH;
        assert_eq!(short_name(&format!("nightly-{arch}-unknown-linux-gnu")), "nightly");
        assert_eq!(short_name(&format!("nightly-2026-05-20-{arch}-unknown-linux-gnu")), "nightly-2026-05-20");
        assert_eq!(short_name("nightly"), "nightly");
    }

    #[test]
    fn only_a_library_that_came_with_the_compiler_is_its_own() {
        let sysroot = tempfile::tempdir().unwrap();
        let llvm = Version::new(23, 1, 4);
        assert_eq!(own_llvm(sysroot.path(), llvm), None);
        let lib = sysroot.path().join("lib");
        fs::create_dir(&lib).unwrap();
        for other in ["libLLVM.so.23.1", "libLLVM-23-rust-1.101.0-nightly.so", "libLLVM.so.22.1-rust-1.97.0-nightly"] {
            fs::write(lib.join(other), "").unwrap();
        }
        assert_eq!(own_llvm(sysroot.path(), llvm), None);
        let own = lib.join("libLLVM.so.23.1-rust-1.101.0-nightly");
        fs::write(&own, "").unwrap();
        assert_eq!(own_llvm(sysroot.path(), llvm), fs::canonicalize(own).ok());
    }

    #[test]
    fn an_llvm_needs_its_library_beside_its_llvm_config() {
        let prefix = tempfile::tempdir().unwrap();
        let config = prefix.path().join("bin/llvm-config");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        fs::write(&config, "#!/bin/sh\necho 22.1.8\n").unwrap();
        fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(llvm_version(prefix.path()), Some(Version::new(22, 1, 8)));
        assert_eq!(llvm_at(prefix.path().to_owned()), None);
        fs::create_dir(prefix.path().join("lib")).unwrap();
        fs::write(prefix.path().join("lib/libLLVM-22.so"), "").unwrap();
        assert_eq!(llvm_at(prefix.path().to_owned()).map(|llvm| llvm.version), Some(Version::new(22, 1, 8)));
    }
}
