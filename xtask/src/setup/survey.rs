//! What is missing for some purposes: the items of the list, and finding them. Changes nothing but apt's package lists,
//! when it has none and may fetch them.

use super::{Purpose, SetupArgs, apt, needs, privilege::Privilege, tools};
use crate::{
    toolchain::{self, Decision, Found, Pair, linker, probe},
    workspace::Workspace,
};
use anyhow::Result;
use needs::{Need, Way};
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
}

impl Item {
    /// True when a build does without it: what needs it says so, and is skipped.
    pub(super) const fn is_optional(&self) -> bool {
        match self {
            Self::Package { optional, .. } => *optional,
            Self::Unpack { .. } | Self::RustupComponents | Self::CargoDeny => true,
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

/// What is missing for some purposes.
#[derive(Default)]
pub(super) struct Survey {
    /// What can be installed.
    pub(super) items: Vec<Item>,
    /// The eBPF tool-chain, once it is complete but for its linker.
    pub(super) pair: Option<Pair>,
    /// What only the user can do.
    pub(super) by_hand: Option<String>,
    /// For the reader: what was found, what was passed over.
    pub(super) remarks: Vec<String>,
}

/// Looks at all that `purposes` need.
///
/// # Errors
/// When the package lists are to be fetched and cannot be.
pub(super) fn survey(
    workspace: &Workspace,
    purposes: &[Purpose],
    args: &SetupArgs,
    privilege: Privilege,
) -> Result<Survey> {
    let mut survey = Survey::default();
    if purposes.contains(&Purpose::Build) {
        survey_toolchain(workspace, args, privilege, &mut survey)?;
    }
    survey_packages(workspace, purposes, &mut survey);
    if purposes.contains(&Purpose::Lint) && !has_lint_components(workspace) {
        survey.items.push(Item::RustupComponents);
    }
    if purposes.contains(&Purpose::Deny) && !tools::has_cargo_deny(workspace) {
        survey.items.push(Item::CargoDeny);
    }
    Ok(survey)
}

fn survey_toolchain(workspace: &Workspace, args: &SetupArgs, privilege: Privilege, survey: &mut Survey) -> Result<()> {
    let wanted = args.ebpf_toolchain.as_deref();
    let mut found = probe::installed(workspace);
    let mut verdict = toolchain::decide(&found, wanted);
    if !matches!(verdict.decision, Decision::Ready(_)) && apt::is_there() {
        look_at_packages(workspace, args, privilege, &mut found, survey)?;
        verdict = toolchain::decide(&found, wanted);
    }
    survey.remarks.extend(verdict.passed_over.iter().map(|line| format!("not for the eBPF programs: {line}")));
    match verdict.decision {
        Decision::Ready(pair) => survey_linker(workspace, pair, survey),
        Decision::Packages(names) => {
            let missing: Vec<_> = names.iter().filter(|name| !apt::is_current(name)).cloned().collect();
            if missing.is_empty() {
                let (names, reasons) = (names.join(" "), verdict.passed_over.join("; "));
                survey.by_hand = Some(format!("a repair of what is installed and current ({names}): {reasons}"));
                return Ok(());
            }
            let why =
                |name: &str| if name.starts_with("llvm") { "for the linker" } else { "compiles the eBPF programs" };
            let item = |name: String| Item::Package { why: why(&name).into(), name, optional: false };
            survey.items.extend(missing.into_iter().map(item));
            survey.items.extend(absent_linker(workspace, "after the packages"));
        }
        Decision::RustupNightly { there } => {
            survey.items.push(Item::RustupNightly { there });
            survey.items.extend(absent_linker(workspace, "and its LLVM, if it is not there"));
        }
        Decision::ByHand(how) => survey.by_hand = Some(how),
    }
    Ok(())
}

/// The linker, while its pair is not known. One that is there is judged when it is.
fn absent_linker(workspace: &Workspace, why: &str) -> Option<Item> {
    linker::look(workspace).is_none().then(|| Item::Linker { why: why.to_owned() })
}

fn survey_linker(workspace: &Workspace, pair: Pair, survey: &mut Survey) {
    survey.remarks.push(format!(
        "the eBPF programs are built with the {} rustc {} (LLVM {}), linked with LLVM {}",
        pair.rust.name, pair.rust.release, pair.rust.llvm, pair.llvm.version
    ));
    let unfit = linker::unfit(linker::look(workspace).as_ref(), &pair);
    survey.items.extend(unfit.map(|why| Item::Linker { why }));
    survey.pair = Some(pair);
}

/// Adds what apt has to offer. Only when something is missing: it takes a second.
fn look_at_packages(
    workspace: &Workspace,
    args: &SetupArgs,
    privilege: Privilege,
    found: &mut Found,
    survey: &mut Survey,
) -> Result<()> {
    if apt::lists_are_empty() {
        if args.no_install {
            survey.remarks.push("apt has no package lists yet, so these are Debian 12's names".into());
            probe::assume_packaged(found);
            return Ok(());
        }
        println!("set-up: apt has no package lists yet");
        apt::update(workspace, privilege)?;
    }
    probe::add_packaged(found);
    Ok(())
}

fn survey_packages(workspace: &Workspace, purposes: &[Purpose], survey: &mut Survey) {
    let missing = needs::missing(purposes, |program| needs::has(workspace, program));
    let known = |need: &&Need| apt::is_there() && (apt::lists_are_empty() || apt::candidate(need.package).is_some());
    let (packaged, other): (Vec<_>, Vec<_>) = missing.into_iter().partition(known);
    for need in packaged {
        let (package, why) = (need.package, need.why);
        survey.items.push(match need.way {
            Way::Install => Item::Package { name: package.into(), why: why.into(), optional: true },
            Way::Unpack => Item::Unpack { name: package, programs: need.programs, why },
        });
    }
    // Nothing ends because of these: a test that needs one says so and is skipped.
    survey.remarks.extend(other.into_iter().map(|need| {
        format!(
            "install {} by hand, if it can be had: {} (Debian: {})",
            need.programs.join(", "),
            need.why,
            need.package
        )
    }));
}

/// True when cargo has its formatter and its lints.
pub(crate) fn has_lint_components(workspace: &Workspace) -> bool {
    // rustup's proxies are there even where the components are not.
    ["clippy", "fmt"].iter().all(|name| probe::said(workspace.cargo(name).arg("--version")).is_some())
}
