//! Why a compiler that is there cannot be used, and what the user can do where this program cannot.

use super::{DISTRIBUTION, OLDEST_RUST, Rust, Version, linker};
use std::fmt;

/// A nightly, by rustup's name for it, whose LLVM the linker knows.
const KNOWN_NIGHTLY: &str = "nightly-2026-10-30";

/// Why a compiler that is there cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    TooOld(Version),
    Cargo,
    Sources,
    /// Its LLVM is one that the linker does not know.
    UnknownLlvm(Version),
    /// No installed LLVM is at least its own; the newest of that major that is there.
    Llvm {
        needed: Version,
        newest: Option<Version>,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld(release) => write!(f, "rustc {release} is older than {OLDEST_RUST}"),
            Self::Cargo => write!(f, "there is no cargo beside it"),
            Self::Sources => write!(f, "it has no rust-src"),
            Self::UnknownLlvm(llvm) => {
                write!(f, "its LLVM {llvm} is not one that bpf-linker {} knows", linker::VERSION)
            }
            Self::Llvm { needed, newest: None } => {
                write!(f, "it writes LLVM {needed}, and no development files of an LLVM {} are installed", needed.major)
            }
            Self::Llvm { needed, newest: Some(newest) } => {
                write!(f, "it writes LLVM {needed}, newer than the LLVM {newest} that is installed for the linker")
            }
        }
    }
}

/// What the user can do when nothing that is there or can be installed serves.
pub(super) fn by_hand(lacking: &[(&Rust, Lack)], wanted: Option<&str>) -> String {
    let told = lacking.iter().find_map(|(rust, lack)| match lack {
        Lack::Llvm { needed, .. } => Some(an_llvm(rust, *needed)),
        Lack::UnknownLlvm(llvm) => Some(another_compiler(rust, *llvm)),
        Lack::TooOld(_) | Lack::Cargo | Lack::Sources => None,
    });
    told.unwrap_or_else(|| match wanted {
        Some(name) if lacking.is_empty() && name != "nightly" && name != DISTRIBUTION => {
            format!("the tool-chain `{name}`, which rustup does not list")
        }
        _ => format!(
            "a Rust compiler {OLDEST_RUST} or later with its source: `rustup toolchain install nightly --component rust-src` \
             (rustup is at https://rustup.rs)"
        ),
    })
}

fn an_llvm(rust: &Rust, needed: Version) -> String {
    format!(
        "LLVM {needed} or later with its development files, for the {} compiler: from apt.llvm.org the package llvm-{}-dev, \
         or any build of it named by LLVM_PREFIX",
        rust.name, needed.major
    )
}

fn another_compiler(rust: &Rust, llvm: Version) -> String {
    let newest = linker::LLVM_MAJORS[linker::LLVM_MAJORS.len() - 1];
    format!(
        "an older nightly than {} (rustc {}): it writes LLVM {llvm}, and bpf-linker {} reads up to LLVM {newest}. Take one by \
         its date, `rustup toolchain install {KNOWN_NIGHTLY} --profile minimal --component rust-src`, and name it with \
         `--ebpf-toolchain {KNOWN_NIGHTLY}`; or, on Debian 12 and 13, `--ebpf-toolchain {DISTRIBUTION}`",
        rust.name,
        rust.release,
        linker::VERSION
    )
}
