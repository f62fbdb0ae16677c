//! Installs one round of what is missing: first what a build needs, without which nothing goes on; then what only some
//! tests need, which they can be without.

use super::{
    apt, find,
    item::{Item, nightly_arguments},
    privilege::Privilege,
    survey::Survey,
    tools,
};
use crate::{
    cluster,
    deploy::{helm, schema},
    go::Go,
    progress,
    toolchain::{Pair, linker},
    workspace::Workspace,
};
use anyhow::{Context, Error, Result, bail};
use std::process::Command;

/// Installs what a survey found missing; returns what only tests need and could not be had, which was said. The linker waits
/// until its LLVM is there.
///
/// # Errors
/// When something that a build needs cannot be installed.
pub(super) fn install(workspace: &Workspace, privilege: Privilege, survey: &Survey) -> Result<Vec<Item>> {
    let (optional, needed): (Vec<_>, Vec<_>) = survey.items.iter().cloned().partition(Item::is_optional);
    install_needed(workspace, privilege, &needed, survey.pair.as_ref())?;
    let lost = try_optional(workspace, privilege, &optional);
    for line in remarks(&lost) {
        println!("set-up: {line}");
    }
    Ok(lost.into_iter().map(|(item, _)| item).collect())
}

fn install_needed(workspace: &Workspace, privilege: Privilege, items: &[Item], pair: Option<&Pair>) -> Result<()> {
    let packages = packages(items);
    if !packages.is_empty() {
        apt::install(workspace, privilege, &packages)
            .with_context(|| format!("the eBPF programs cannot be built without {}", packages.join(" ")))?;
    }
    for item in items {
        match item {
            Item::RustupNightly { there } => rustup(workspace, nightly_arguments(*there))?,
            Item::Linker { .. } => {
                if let Some(pair) = pair {
                    tools::install(workspace, linker::NAME, linker::build_command(workspace, &pair.llvm)?)?;
                    linker::verify(workspace, pair)?;
                }
            }
            Item::Package { .. }
            | Item::Unpack { .. }
            | Item::RustupComponents
            | Item::CargoDeny
            | Item::Go
            | Item::Helm
            | Item::Schema
            | Item::Runtime => {}
        }
    }
    Ok(())
}

/// Those that could not be had, with the reason.
fn try_optional(workspace: &Workspace, privilege: Privilege, items: &[Item]) -> Vec<(Item, String)> {
    let (packaged, other): (Vec<Item>, Vec<_>) =
        items.iter().cloned().partition(|item| matches!(item, Item::Package { .. }));
    let mut lost = try_packages(workspace, privilege, packaged);
    for item in other {
        let outcome = match &item {
            Item::Unpack { name, programs, .. } => apt::unpack(workspace, privilege, name, programs),
            Item::RustupComponents => rustup(workspace, &["component", "add", "clippy", "rustfmt"]),
            Item::CargoDeny => tools::install(workspace, tools::CARGO_DENY, tools::cargo_deny_command(workspace)),
            Item::Helm => helm::build(workspace),
            Item::Schema => schema::build(workspace),
            Item::Go => Go::fetch(workspace),
            Item::Runtime => cluster::install_runtime(workspace, privilege),
            Item::Package { .. } | Item::RustupNightly { .. } | Item::Linker { .. } => Ok(()),
        };
        lost.extend(outcome.err().map(|error| (item, reason(&error))));
    }
    lost
}

/// All packages at once; should that fail, once more without those that cannot be installed here.
fn try_packages(workspace: &Workspace, privilege: Privilege, items: Vec<Item>) -> Vec<(Item, String)> {
    let install = |items: &[Item]| match packages(items) {
        names if names.is_empty() => Ok(()),
        names => apt::install(workspace, privilege, &names),
    };
    let Err(error) = install(&items) else { return Vec::new() };
    let because = |error: &Error| {
        let reason = reason(error);
        move |item| (item, reason.clone())
    };
    // A simulation needs neither root nor a network: what passes it is kept from being installed by something else.
    let alone = |item: &Item| apt::installs_without_removing(&[item.name()]);
    let (possible, impossible): (Vec<_>, Vec<_>) = items.into_iter().partition(alone);
    if impossible.is_empty() {
        return possible.into_iter().map(because(&error)).collect();
    }
    let again = install(&possible).err();
    let mut lost: Vec<_> = impossible.into_iter().map(because(&error)).collect();
    lost.extend(again.into_iter().flat_map(|error| possible.iter().cloned().map(because(&error))));
    lost
}

fn packages(items: &[Item]) -> Vec<String> {
    let package = |item: &Item| matches!(item, Item::Package { .. }).then(|| item.name().to_owned());
    items.iter().filter_map(package).collect()
}

/// A line for each reason, with all that it keeps away.
fn remarks(lost: &[(Item, String)]) -> Vec<String> {
    let mut reasons: Vec<&str> = lost.iter().map(|(_, reason)| reason.as_str()).collect();
    reasons.dedup();
    let line = |reason: &&str| {
        let names: Vec<_> = lost.iter().filter(|(_, other)| other == reason).map(|(item, _)| item.name()).collect();
        format!("going on without {}, and tests that need it are skipped: {reason}", names.join(", "))
    };
    reasons.iter().map(line).collect()
}

/// An error in one line: the first of apt's or cargo's own if it shows some.
pub(super) fn reason(error: &Error) -> String {
    let text = format!("{error:#}");
    let told = text.lines().map(str::trim).find(|line| line.starts_with("E: ") || line.starts_with("error: "));
    told.or(text.lines().next()).unwrap_or_default().to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Item {
        Item::Package { name: name.into(), why: String::new(), optional: true }
    }

    #[test]
    fn what_cannot_be_had_for_one_reason_is_one_line() {
        let lost = [("stress-ng", "no network"), ("zstd", "no network"), ("bpftool", "held")];
        let lost = lost.map(|(name, reason)| (package(name), reason.to_owned()));
        assert_eq!(
            remarks(&lost),
            [
                "going on without stress-ng, zstd, and tests that need it are skipped: no network",
                "going on without bpftool, and tests that need it are skipped: held"
            ]
        );
        assert!(remarks(&[]).is_empty());
    }

    #[test]
    fn of_an_error_the_line_that_names_the_cause_is_told() {
        let apt = anyhow::anyhow!(
            "`apt-get` failed; the end of the log:\nReading lists\nE: Unable to locate package x\nE: more"
        );
        assert_eq!(reason(&apt), "E: Unable to locate package x");
        assert_eq!(reason(&anyhow::anyhow!("no root").context("apt-get")), "apt-get: no root");
    }
}
