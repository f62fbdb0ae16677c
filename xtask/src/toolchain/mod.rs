//! The tool-chain of the eBPF object: a Rust compiler that can build `core` from source, and an LLVM for its linker.
//!
//! What is there is found by `probe`; which of it is taken, or what is to be installed, is decided here, by a pure
//! function; `lack` says why something is not taken, and what a user can do; `linker` builds the linker.
//!
//! The order is: a rustup nightly with rust-src, then the distribution's pair, then such a nightly newly installed.
//! A nightly that someone gave rust-src is a choice already made, so it comes first although the distribution's pair is
//! the one that is tested most; it must still be complete and matched, else it is passed over with its reason.
//! `--ebpf-toolchain distribution` turns the choice round.
//!
//! The linker's LLVM is an installed one that is at least the compiler's, else the one inside of rustup's compiler itself,
//! else one to be installed. The second makes a nightly complete wherever rustup runs: few distributions have the LLVM of
//! a recent nightly.

mod lack;
pub(crate) mod linker;
pub(crate) mod probe;
mod version;

pub(crate) use version::Version;

use lack::{Lack, by_hand};
use std::path::PathBuf;

/// The oldest compiler that builds the eBPF crate: the workspace's `rust-version`.
const OLDEST_RUST: Version = Version::new(1, 95, 0);

/// A Rust compiler on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rust {
    /// What people call it: `nightly`, or [`DISTRIBUTION`].
    pub(crate) name: String,
    /// The compiler itself, not rustup's proxy.
    pub(crate) rustc: PathBuf,
    /// The cargo beside it; `None` when it has none.
    pub(crate) cargo: Option<PathBuf>,
    /// Its release.
    pub(crate) release: Version,
    /// The LLVM that writes its bitcode.
    pub(crate) llvm: Version,
    /// True when it takes unstable options without being told to.
    pub(crate) nightly: bool,
    /// True when the source of `core` is beside it.
    pub(crate) sources: bool,
    /// The shared library of its LLVM, when it came with it: rustup's compilers, and no distribution's.
    pub(crate) own_llvm: Option<PathBuf>,
}

/// The name of the distribution's compiler.
pub(crate) const DISTRIBUTION: &str = "distribution";

/// An LLVM on this machine that a linker can be built against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Llvm {
    /// Where it is.
    pub(crate) place: Place,
    /// Its version.
    pub(crate) version: Version,
}

/// Where an LLVM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory that holds `bin/llvm-config` and `lib/libLLVM.so`.
    Prefix(PathBuf),
    /// The shared library of the compiler that is to be served, and nothing else.
    OfCompiler(PathBuf),
}

/// The packages of a distribution that hold a compiler, its cargo and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackagedRust {
    /// Their names.
    pub(crate) packages: [&'static str; 3],
    /// The compiler's release.
    pub(crate) release: Version,
    /// The major version of the LLVM it is linked to, if it is linked to the distribution's.
    pub(crate) llvm_major: Option<u32>,
}

/// A distribution's development package of LLVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackagedLlvm {
    /// Its version.
    pub(crate) version: Version,
}

impl PackagedLlvm {
    fn package(self) -> String {
        format!("llvm-{}-dev", self.version.major)
    }
}

/// All that a choice depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Compilers that are installed: rustup's nightlies, newest first, and the distribution's.
    pub(crate) rusts: Vec<Rust>,
    /// LLVMs that are installed.
    pub(crate) llvms: Vec<Llvm>,
    /// Compilers that could be installed without removing anything.
    pub(crate) packaged_rusts: Vec<PackagedRust>,
    /// LLVMs that could be installed.
    pub(crate) packaged_llvms: Vec<PackagedLlvm>,
    /// True when rustup is there.
    pub(crate) rustup: bool,
}

/// A compiler and an LLVM that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The compiler; complete: it has a cargo and sources.
    pub(crate) rust: Rust,
    /// The LLVM for the linker.
    pub(crate) llvm: Llvm,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing: it is all there.
    Ready(Pair),
    /// These packages of the distribution are to be installed.
    Packages(Vec<String>),
    /// A rustup nightly with rust-src is to be installed, or rust-src beside the one that is there. What else is needed is
    /// known then.
    RustupNightly {
        /// True when there is a nightly that lacks rust-src only.
        there: bool,
    },
    /// Nobody but the user can help; says how.
    ByHand(String),
}

/// A decision and what was passed over on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What is to be done.
    pub(crate) decision: Decision,
    /// One line for each compiler that is there and was not taken: which, and why.
    pub(crate) passed_over: Vec<String>,
}

/// Decides. `wanted` names the only compiler to consider; without it all are.
pub(crate) fn decide(found: &Found, wanted: Option<&str>) -> Verdict {
    let considered = |name: &str| wanted.is_none_or(|wanted| wanted == name);
    let mut passed_over = Vec::new();
    let mut lacking = Vec::new();
    for rust in found.rusts.iter().filter(|rust| considered(&rust.name)) {
        match matching_llvm(rust, &found.llvms) {
            Ok(llvm) => {
                let pair = Pair { rust: rust.clone(), llvm };
                return Verdict { decision: Decision::Ready(pair), passed_over };
            }
            Err(lack) => {
                passed_over.push(format!("{} (rustc {}): {lack}", rust.name, rust.release));
                lacking.push((rust, lack));
            }
        }
    }
    let decision = install_llvm(found, &lacking)
        .or_else(|| if considered(DISTRIBUTION) { install_packaged_rust(found) } else { None })
        .or_else(|| install_nightly(found, wanted))
        .unwrap_or_else(|| Decision::ByHand(by_hand(&lacking, wanted)));
    Verdict { decision, passed_over }
}

/// The smallest installed LLVM that reads what the compiler writes, else the compiler's own: bitcode is read by the same or
/// a later version, and not always by an earlier patch level.
fn matching_llvm(rust: &Rust, llvms: &[Llvm]) -> Result<Llvm, Lack> {
    if rust.release < OLDEST_RUST {
        return Err(Lack::TooOld(rust.release));
    }
    if rust.cargo.is_none() {
        return Err(Lack::Cargo);
    }
    if !rust.sources {
        return Err(Lack::Sources);
    }
    if rust.llvm.major > linker::LLVM_MAJORS[linker::LLVM_MAJORS.len() - 1] {
        return Err(Lack::UnknownLlvm(rust.llvm));
    }
    let known = || llvms.iter().filter(|llvm| linker::LLVM_MAJORS.contains(&llvm.version.major));
    let fitting = known().filter(|llvm| llvm.version >= rust.llvm).min_by_key(|llvm| llvm.version).cloned();
    let own = rust.own_llvm.clone().map(|library| Llvm { place: Place::OfCompiler(library), version: rust.llvm });
    fitting.or(own).ok_or_else(|| Lack::Llvm { needed: rust.llvm, newest: known().map(|llvm| llvm.version).max() })
}

/// A compiler lacks nothing but an LLVM, and the distribution has one.
fn install_llvm(found: &Found, lacking: &[(&Rust, Lack)]) -> Option<Decision> {
    lacking.iter().find_map(|(_, lack)| {
        let Lack::Llvm { needed, .. } = lack else { return None };
        let fitting = found.packaged_llvms.iter().filter(|llvm| llvm.version >= *needed);
        let known = fitting.filter(|llvm| linker::LLVM_MAJORS.contains(&llvm.version.major));
        known.min_by_key(|llvm| llvm.version).map(|llvm| Decision::Packages(vec![llvm.package()]))
    })
}

/// The distribution has a compiler that is new enough, and an LLVM for it.
fn install_packaged_rust(found: &Found) -> Option<Decision> {
    found.packaged_rusts.iter().find_map(|rust| {
        let major = rust.llvm_major.filter(|major| linker::LLVM_MAJORS.contains(major))?;
        let llvm = found.packaged_llvms.iter().find(|llvm| llvm.version.major == major)?;
        let rust_packages = rust.packages.iter().map(ToString::to_string);
        (rust.release >= OLDEST_RUST).then(|| Decision::Packages(rust_packages.chain([llvm.package()]).collect()))
    })
}

/// rustup can bring a nightly or the sources of the one it has. One that is complete lacks something else, and
/// installing it again brings nothing.
fn install_nightly(found: &Found, wanted: Option<&str>) -> Option<Decision> {
    let nightly = found.rusts.iter().find(|rust| rust.name == "nightly" && rust.release >= OLDEST_RUST);
    let complete = nightly.is_some_and(|rust| rust.sources && rust.cargo.is_some());
    let allowed = wanted.is_none_or(|wanted| wanted == "nightly");
    (found.rustup && allowed && !complete).then_some(Decision::RustupNightly { there: nightly.is_some() })
}

#[cfg(test)]
mod tests;
