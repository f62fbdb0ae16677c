//! Set-up: finds out what is missing, lists it, installs it. Doing it again finds nothing missing and does nothing.

pub(crate) mod apt;
mod needs;
pub(crate) mod privilege;
pub(crate) mod tools;

pub(crate) use needs::{Purpose, find};

use crate::{
    progress,
    toolchain::{self, Decision, Found, Pair, linker, probe},
    workspace::Workspace,
};
use anyhow::{Result, bail};
use needs::{Need, Way};
use privilege::Privilege;
use std::{fmt, process::Command, time::Instant};

/// What every command that sets up takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct SetupArgs {
    /// Only list what is missing, and end with 0 when nothing is, 1 otherwise.
    #[arg(long)]
    pub(crate) no_install: bool,
    /// The compiler of the eBPF programs: `nightly` (or the name of any rustup nightly), or `distribution`. Without it: a
    /// nightly with rust-src if there is one, else the distribution's.
    #[arg(long, value_name = "NAME", env = "OBSERVER_EBPF_TOOLCHAIN")]
    pub(crate) ebpf_toolchain: Option<String>,
}

/// The way a set-up ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All is there; the eBPF tool-chain, if a purpose needs it.
    Ready(Option<Pair>),
    /// Only a list was asked for: true when it is empty.
    Listed(bool),
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Package { name: String, why: String },
    Unpack { name: &'static str, programs: &'static [&'static str], why: &'static str },
    RustupComponents,
    RustupNightly { there: bool },
    Linker { why: String },
    CargoDeny,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { name, why } => write!(f, "{name:<18} apt-get install        {why}"),
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
const fn nightly_arguments(there: bool) -> &'static [&'static str] {
    if there {
        &["component", "add", "rust-src", "--toolchain", "nightly"]
    } else {
        &["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src", "--no-self-update"]
    }
}

/// What is missing for some purposes.
struct Survey {
    items: Vec<Item>,
    pair: Option<Pair>,
    /// What only the user can do.
    by_hand: Option<String>,
    /// For the reader: what was found, what was passed over.
    remarks: Vec<String>,
}

/// Sets up for `purposes`: lists what is missing, then installs it.
///
/// # Errors
/// When something cannot be installed; what was installed before stays, whole.
pub(crate) fn prepare(workspace: &Workspace, purposes: &[Purpose], args: &SetupArgs) -> Result<Outcome> {
    let started = Instant::now();
    let privilege = Privilege::of_this_process();
    let (mut announced, mut before): (Vec<Item>, Vec<Item>) = Default::default();
    // What a round installs can show that more is missing: a compiler tells which LLVM its linker needs.
    loop {
        let survey = survey(workspace, purposes, args, privilege)?;
        if announced.is_empty() {
            survey.remarks.iter().for_each(|remark| println!("set-up: {remark}"));
        }
        if args.no_install {
            return Ok(Outcome::Listed(list_only(&survey)));
        }
        if let Some(how) = &survey.by_hand {
            bail!("the eBPF programs cannot be built here; needed: {how}");
        }
        if survey.items.is_empty() {
            println!("set-up: all there ({})", progress::seconds(started.elapsed()));
            return Ok(Outcome::Ready(survey.pair));
        }
        if survey.items == before {
            let items: Vec<_> = before.iter().map(ToString::to_string).collect();
            let logs = workspace.target().join("setup-logs");
            bail!("installed, and still not found (logs: {}):\n  {}", logs.display(), items.join("\n  "));
        }
        announce(&survey.items, &mut announced, privilege);
        install(workspace, privilege, &survey)?;
        before = survey.items;
    }
}

fn list_only(survey: &Survey) -> bool {
    if survey.items.is_empty() && survey.by_hand.is_none() {
        println!("set-up: nothing is missing");
        return true;
    }
    println!("set-up: missing:");
    survey.items.iter().for_each(|item| println!("  {item}"));
    if let Some(how) = &survey.by_hand {
        println!("  to be installed by hand: {how}");
    }
    false
}

fn announce(items: &[Item], announced: &mut Vec<Item>, privilege: Privilege) {
    // The linker's reason changes once its LLVM is known; it is the same item.
    let known = |item: &Item, announced: &[Item]| {
        announced
            .iter()
            .any(|other| other == item || matches!((other, item), (Item::Linker { .. }, Item::Linker { .. })))
    };
    let new: Vec<_> = items.iter().filter(|item| !known(item, announced)).cloned().collect();
    if !new.is_empty() {
        println!("set-up: missing, and now to be installed:");
        for item in &new {
            println!("  {item}");
        }
    }
    let packages = new.iter().any(|item| matches!(item, Item::Package { .. }));
    if packages && privilege == Privilege::Sudo {
        println!("set-up: not root, so apt-get runs through sudo; nothing else of the set-up does");
    }
    announced.extend(new);
}

fn survey(workspace: &Workspace, purposes: &[Purpose], args: &SetupArgs, privilege: Privilege) -> Result<Survey> {
    let mut survey = Survey { items: Vec::new(), pair: None, by_hand: None, remarks: Vec::new() };
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
    let not_there = |why: &str| Item::Linker { why: why.to_owned() };
    match verdict.decision {
        Decision::Ready(pair) => {
            survey.remarks.push(format!(
                "the eBPF programs are built with the {} rustc {} (LLVM {}), linked with LLVM {}",
                pair.rust.name, pair.rust.release, pair.rust.llvm, pair.llvm.version
            ));
            if let Some(why) = linker::unfit(linker::look(workspace).as_ref(), &pair) {
                survey.items.push(not_there(&why));
            }
            survey.pair = Some(pair);
        }
        Decision::Packages(names) => {
            let why =
                |name: &str| if name.starts_with("llvm") { "for the linker" } else { "compiles the eBPF programs" };
            let missing: Vec<_> = names.iter().filter(|name| !apt::is_current(name)).cloned().collect();
            if missing.is_empty() {
                let reasons = verdict.passed_over.join("; ");
                survey.by_hand =
                    Some(format!("a repair of what is installed and current ({}): {reasons}", names.join(" ")));
                return Ok(());
            }
            survey.items.extend(missing.into_iter().map(|name| Item::Package { why: why(&name).into(), name }));
            survey.items.push(not_there("after the packages"));
        }
        Decision::RustupNightly { there } => {
            survey.items.extend([Item::RustupNightly { there }, not_there("and its LLVM, if it is not there")]);
        }
        Decision::ByHand(how) => survey.by_hand = Some(how),
    }
    Ok(())
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
            Way::Install => Item::Package { name: package.into(), why: why.into() },
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

fn has_lint_components(workspace: &Workspace) -> bool {
    // rustup's proxies are there even where the components are not.
    ["clippy", "fmt"].iter().all(|name| probe::said(workspace.cargo(name).arg("--version")).is_some())
}

/// Installs one round: packages first, since what is built needs them. The linker waits until its LLVM is there.
fn install(workspace: &Workspace, privilege: Privilege, survey: &Survey) -> Result<()> {
    let needs_apt = |item: &Item| matches!(item, Item::Package { .. } | Item::Unpack { .. });
    if survey.items.iter().any(needs_apt) && apt::lists_are_empty() {
        apt::update(workspace, privilege)?;
    }
    let package = |item: &Item| match item {
        Item::Package { name, .. } => Some(name.clone()),
        _ => None,
    };
    let packages: Vec<_> = survey.items.iter().filter_map(package).collect();
    if !packages.is_empty() {
        apt::install(workspace, privilege, &packages)?;
    }
    for item in &survey.items {
        match item {
            Item::Package { .. } => {}
            Item::Unpack { name, programs, .. } => apt::unpack(workspace, name, programs)?,
            Item::RustupComponents => rustup(workspace, &["component", "add", "clippy", "rustfmt"])?,
            Item::RustupNightly { there } => rustup(workspace, nightly_arguments(*there))?,
            Item::Linker { .. } => {
                if let Some(pair) = &survey.pair {
                    tools::install(workspace, linker::NAME, linker::build_command(workspace, &pair.llvm))?;
                    linker::verify(workspace, pair)?;
                }
            }
            Item::CargoDeny => tools::install(workspace, tools::CARGO_DENY, tools::cargo_deny_command(workspace))?,
        }
    }
    Ok(())
}

fn rustup(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    if find("rustup").is_none() {
        bail!("`rustup {}` is needed, and there is no rustup: https://rustup.rs", arguments.join(" "));
    }
    let mut command = Command::new("rustup");
    command.args(arguments);
    let finished =
        progress::run(&format!("rustup {}", arguments[0]), command, &workspace.log("setup-logs", "rustup")?)?
            .success()?;
    println!("  rustup {} took {}", arguments.join(" "), progress::seconds(finished.elapsed));
    Ok(())
}
