//! Something that is missing: what it is called, how it comes, and whether a build can do without it.

use super::tools;
use crate::{
    cluster,
    deploy::{helm, schema},
    go,
    toolchain::linker,
};
use std::fmt;

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// Optional when only tests or measurements need it.
    Package {
        name: String,
        why: String,
        optional: bool,
    },
    Unpack {
        name: &'static str,
        programs: &'static [&'static str],
        why: &'static str,
    },
    RustupComponents,
    RustupNightly {
        there: bool,
    },
    Linker {
        why: String,
    },
    CargoDeny,
    Go,
    Helm,
    Schema,
    Runtime,
}

impl Item {
    /// True when a build does without it: what needs it says so, and is skipped.
    pub(super) const fn is_optional(&self) -> bool {
        match self {
            Self::Package { optional, .. } => *optional,
            Self::Unpack { .. }
            | Self::RustupComponents
            | Self::CargoDeny
            | Self::Go
            | Self::Helm
            | Self::Schema
            | Self::Runtime => true,
            Self::RustupNightly { .. } | Self::Linker { .. } => false,
        }
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Package { name, .. } => name,
            Self::Unpack { name, .. } => name,
            Self::RustupComponents => "clippy and rustfmt",
            Self::RustupNightly { .. } => "a nightly with rust-src",
            Self::Linker { .. } => linker::NAME,
            Self::CargoDeny => tools::CARGO_DENY,
            Self::Helm => helm::NAME,
            Self::Schema => schema::NAME,
            Self::Go => "Go",
            Self::Runtime => "containerd, runc, network plugins",
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { name, why, .. } => write!(f, "{name:<18} apt-get install        {why}"),
            Self::Unpack { name, why, .. } => write!(f, "{name:<18} into target/tools      {why}"),
            Self::RustupComponents => write!(f, "{:<18} rustup component add   format and lints", "clippy rustfmt"),
            Self::RustupNightly { there } => {
                write!(
                    f,
                    "{:<18} rustup {}   compiles the eBPF programs",
                    "rust-src",
                    nightly_arguments(*there).join(" ")
                )
            }
            Self::Linker { why } => {
                let what = format!("{} {}", linker::NAME, linker::VERSION);
                write!(f, "{what:<18} built, target/tools    links the eBPF programs (about a minute; {why})")
            }
            Self::CargoDeny => {
                let what = format!("{} {}", tools::CARGO_DENY, tools::CARGO_DENY_VERSION);
                write!(f, "{what:<18} built, target/tools    checks the dependencies (about two minutes)")
            }
            Self::Helm => {
                let what = format!("{} {}", helm::NAME, helm::VERSION);
                write!(f, "{what:<18} built, target/tools    renders and checks the chart (about two minutes, with Go)")
            }
            Self::Schema => {
                let (name, what) = (schema::NAME, "holds the dashboards against Grafana's schema");
                write!(f, "{name:<18} built, target/tools    {what} (half a minute, with Go)")
            }
            Self::Go => {
                let what = go::PACKAGES.join(" ");
                write!(
                    f,
                    "{what}\n  {:<18} into target/tools      builds helm, {} and the test cluster's Kubernetes",
                    "",
                    schema::NAME
                )
            }
            Self::Runtime => {
                let what = cluster::runtime();
                write!(
                    f,
                    "{what}\n  {:<18} into target/cluster    runs the test cluster's containers; not installed",
                    ""
                )
            }
        }
    }
}

/// What rustup is told to bring the source of `core`. A nightly that is there stays the one it is.
pub(super) const fn nightly_arguments(there: bool) -> &'static [&'static str] {
    if there {
        &["component", "add", "rust-src", "--toolchain", "nightly"]
    } else {
        &["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src", "--no-self-update"]
    }
}
