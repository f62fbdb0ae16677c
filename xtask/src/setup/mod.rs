//! Set-up: finds out what is missing, lists it, installs it. Doing it again finds nothing missing and does nothing.

pub(crate) mod apt;
mod needs;
pub(crate) mod privilege;
mod survey;
pub(crate) mod tools;

pub(crate) use needs::{Purpose, find, static_busybox};

use crate::{
    progress,
    toolchain::{Pair, linker},
    workspace::Workspace,
};
use anyhow::{Result, bail};
use privilege::Privilege;
use std::{process::Command, time::Instant};
use survey::{Item, Survey, nightly_arguments, survey};

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

/// Sets up for `purposes`: lists what is missing, then installs it.
///
/// # Errors
/// When something cannot be installed; what was installed before stays, whole.
pub(crate) fn prepare(workspace: &Workspace, purposes: &[Purpose], args: &SetupArgs) -> Result<Outcome> {
    let started = Instant::now();
    let privilege = Privilege::of_this_process();
    let (mut announced, mut before): (Vec<Item>, Vec<Item>) = Default::default();
    let mut said: Vec<String> = Vec::new();
    // What a round installs can show that more is missing: a compiler tells which LLVM its linker needs.
    loop {
        let survey = survey(workspace, purposes, args, privilege)?;
        for remark in &survey.remarks {
            if !said.contains(remark) {
                println!("set-up: {remark}");
                said.push(remark.clone());
            }
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
