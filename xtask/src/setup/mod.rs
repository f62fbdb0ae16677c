//! Set-up: finds out what is missing, lists it, installs it. Doing it again finds nothing missing and does nothing.

pub(crate) mod apt;
mod install;
mod item;
mod needs;
pub(crate) mod privilege;
mod survey;
pub(crate) mod tools;

pub(crate) use needs::{Purpose, find, static_busybox};
pub(crate) use survey::has_lint_components;

use crate::{progress, toolchain::Pair, workspace::Workspace};
use anyhow::{Result, bail};
use install::install;
use item::Item;
use privilege::Privilege;
use std::time::Instant;
use survey::{Survey, Surveyor};

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

/// Sets up for `purposes`: lists what is missing, then installs it. What only tests need and cannot be had is said and left
/// out; the tests know how to be without.
///
/// # Errors
/// When something that a build needs cannot be installed; what was installed before stays, whole.
pub(crate) fn prepare(workspace: &Workspace, purposes: &[Purpose], args: &SetupArgs) -> Result<Outcome> {
    let started = Instant::now();
    let privilege = Privilege::of_this_process();
    let (mut announced, mut before, mut left_out): (Vec<Item>, Vec<Item>, Vec<Item>) = Default::default();
    let mut said: Vec<String> = Vec::new();
    let mut surveyor = Surveyor::new(workspace, args, privilege);
    // What a round installs can show that more is missing: a compiler tells which LLVM its linker needs.
    loop {
        let mut survey = surveyor.survey(purposes);
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
        survey.items.retain(|item| !left_out.contains(item));
        left_out.extend(take_stuck(&mut survey.items, &before, workspace)?);
        if survey.items.is_empty() {
            println!("set-up: {} ({})", result(&left_out), progress::seconds(started.elapsed()));
            return Ok(Outcome::Ready(survey.pair));
        }
        announce(&survey.items, &mut announced, privilege);
        left_out.extend(install(workspace, privilege, &survey)?);
        before = survey.items;
    }
}

/// Takes out what was installed and is still not found.
///
/// # Errors
/// When a build needs it.
fn take_stuck(items: &mut Vec<Item>, before: &[Item], workspace: &Workspace) -> Result<Vec<Item>> {
    let needed = |items: &[Item]| items.iter().filter(|item| !item.is_optional()).cloned().collect::<Vec<_>>();
    let again = needed(items);
    let logs = workspace.target().join("setup-logs");
    if !again.is_empty() && again == needed(before) {
        let items: Vec<_> = again.iter().map(ToString::to_string).collect();
        bail!("installed, and still not found (logs: {}):\n  {}", logs.display(), items.join("\n  "));
    }
    let (stuck, rest) = std::mem::take(items).into_iter().partition(|item| item.is_optional() && before.contains(item));
    *items = rest;
    for item in &stuck {
        println!("set-up: {} was installed and is still not found (logs: {})", Item::name(item), logs.display());
    }
    Ok(stuck)
}

/// How a set-up ended.
fn result(left_out: &[Item]) -> String {
    let names: Vec<_> = left_out.iter().map(Item::name).collect();
    if names.is_empty() { "all there".into() } else { format!("all there but {}", names.join(", ")) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, optional: bool) -> Item {
        Item::Package { name: name.into(), why: String::new(), optional }
    }

    #[test]
    fn what_only_tests_need_is_left_out_when_installing_it_did_not_help() {
        let workspace = Workspace::this();
        let before = [package("zstd", true), package("llvm-22-dev", false)];
        let mut items = vec![package("zstd", true), package("bpftool", true), Item::Linker { why: String::new() }];
        assert_eq!(take_stuck(&mut items, &before, &workspace).unwrap(), [package("zstd", true)]);
        assert_eq!(items, [package("bpftool", true), Item::Linker { why: String::new() }]);
        assert_eq!(result(&[package("zstd", true), Item::CargoDeny]), "all there but zstd, cargo-deny");
        assert_eq!(result(&[]), "all there");
    }

    #[test]
    fn what_a_build_needs_and_does_not_come_is_an_error() {
        let before = [package("llvm-22-dev", false)];
        let error = take_stuck(&mut before.to_vec(), &before, &Workspace::this()).unwrap_err().to_string();
        assert!(error.starts_with("installed, and still not found") && error.contains("llvm-22-dev"), "{error}");
    }
}
