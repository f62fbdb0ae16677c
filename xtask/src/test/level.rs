//! The levels of the tests: what each runs and how its result is read. From the cheapest to the dearest.

use super::{Context, Tally, agent, cluster, deploy, skipped::Skipped};
use crate::{
    driven, page, progress,
    setup::{self, Purpose, tools},
};
use anyhow::{Context as _, Result};
use std::{ffi::OsString, fs, process::Command};

/// A group of tests of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Level {
    /// The code is formatted.
    Format,
    /// The code has no warnings.
    Lint,
    /// Dependencies: no banned ones, licences and sources that are allowed.
    Deny,
    /// Unit tests of every crate; no root, no eBPF.
    Unit,
    /// Generated documentation is up to date, and what the code's documentation links to exists.
    Docs,
    /// The chart and the manifest: what they promise, and that they agree. No cluster.
    Deploy,
    /// The agent on this machine's kernel, as root.
    Live,
    /// The same on the kernels of several Debian releases, in QEMU: what each must show, or everything with
    /// `OBSERVER_LONG=1`.
    Kernels,
    /// Pods in a real Kubernetes of one node on this machine, in both of its modes, or with `--kubeconfig` in anyone's. What it
    /// needs is built for ten minutes, once.
    Cluster,
}

impl Level {
    /// Every level, in the order in which they run.
    pub(crate) const ALL: [Self; 9] = [
        Self::Format,
        Self::Lint,
        Self::Deny,
        Self::Unit,
        Self::Docs,
        Self::Deploy,
        Self::Live,
        Self::Kernels,
        Self::Cluster,
    ];

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Deny => "deny",
            Self::Unit => "unit",
            Self::Docs => "docs",
            Self::Deploy => "deploy",
            Self::Live => "live",
            Self::Kernels => "kernels",
            Self::Cluster => "cluster",
        }
    }

    /// What it runs.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Format => "cargo fmt --all --check",
            Self::Lint => "cargo clippy --workspace --all-targets -- -D warnings; the web page's types",
            Self::Deny => "cargo deny check bans licenses sources",
            Self::Unit => "cargo test --workspace",
            Self::Docs => "docs/metrics.md is what `observer metrics-docs` prints; cargo doc has no warnings",
            Self::Deploy => "deploy/observer.yaml is what the chart renders; observer-deploy, which reads both",
            Self::Live => "observer-live, which drives the agent on this kernel, as root",
            Self::Kernels => "observer-live in QEMU guests, one for each kernel",
            Self::Cluster => "observer-cluster, which makes pods in a real Kubernetes",
        }
    }

    /// What has to be set up for it.
    pub(super) const fn purposes(self) -> &'static [Purpose] {
        match self {
            Self::Format | Self::Lint => &[Purpose::Lint],
            Self::Deny => &[Purpose::Deny],
            Self::Unit => &[Purpose::Unit],
            Self::Docs => &[],
            Self::Deploy => &[Purpose::Deploy],
            Self::Live => &[Purpose::Build, Purpose::Live],
            Self::Kernels => &[Purpose::Build, Purpose::Kernels],
            Self::Cluster => &[Purpose::Build, Purpose::Cluster],
        }
    }

    /// Runs it.
    pub(super) fn run(self, context: &Context<'_>) -> Result<Tally> {
        match self {
            Self::Format => {
                check(context, self, "fmt", &["--all", "--check", "--", "--files-with-diff", "--color=never"])
            }
            Self::Lint => lint(context),
            Self::Deny => deny(context),
            Self::Unit => unit(context),
            Self::Docs => docs(context),
            Self::Deploy => deploy::run(context),
            Self::Live => agent::live(context),
            Self::Kernels => agent::kernels(context),
            Self::Cluster => cluster::run(context),
        }
    }
}

/// A cargo subcommand that either succeeds or does not.
fn check(context: &Context<'_>, level: Level, subcommand: &str, arguments: &[&str]) -> Result<Tally> {
    if !setup::has_lint_components(context.workspace) {
        return Ok(context.unable("cargo has no clippy or no rustfmt here: see target/setup-logs"));
    }
    let mut cargo = context.workspace.cargo(subcommand);
    cargo.args(arguments);
    let finished = progress::run(level.name(), cargo, &context.log(level)?)?;
    if finished.status.success() {
        return Ok(Tally::one_passed());
    }
    println!("{}", progress::tail(&finished.output));
    Ok(Tally::one_failed(format!("`{}` found something", level.what())))
}

fn lint(context: &Context<'_>) -> Result<Tally> {
    let mut tally = check(context, Level::Lint, "clippy", &["--workspace", "--all-targets", "--", "-D", "warnings"])?;
    let log = context.workspace.log("test-logs", "page")?;
    match page::check(context.workspace, &log)? {
        None => tally.skipped.push(Skipped::all_of("the web page's types", "there is no npm")),
        Some(finished) if finished.status.success() => tally.add(Tally::one_passed()),
        Some(finished) => {
            println!("{}", progress::tail(&finished.output));
            tally.add(Tally::one_failed("the web page's types do not fit the API's description"));
        }
    }
    Ok(tally)
}

fn deny(context: &Context<'_>) -> Result<Tally> {
    if !tools::has_cargo_deny(context.workspace) {
        return Ok(context.unable("there is no cargo-deny: see target/setup-logs"));
    }
    let mut command = Command::new(context.workspace.tool(tools::CARGO_DENY));
    command.current_dir(context.workspace.root()).args(["--all-features", "check", "bans", "licenses", "sources"]);
    let finished = progress::run("deny", command, &context.log(Level::Deny)?)?;
    let tally = verdicts(&finished.output);
    if tally.is_empty() || !tally.failed.is_empty() {
        println!("{}", progress::tail(&finished.output));
    }
    if tally.is_empty() {
        finished.success()?;
    }
    Ok(tally)
}

/// Reads cargo-deny's last line, `bans ok, licenses ok, sources FAILED`: each is a test.
fn verdicts(output: &str) -> Tally {
    let mut tally = Tally::default();
    let line =
        output.lines().rev().find(|line| line.contains("bans ") && line.contains("sources ")).unwrap_or_default();
    for (name, verdict) in line.split(", ").filter_map(|part| part.trim().split_once(' ')) {
        if verdict == "ok" {
            tally.passed += 1;
        } else {
            tally.failed.push(format!("{name} of the dependencies"));
        }
    }
    tally
}

fn unit(context: &Context<'_>) -> Result<Tally> {
    let mut cargo = context.workspace.cargo("test");
    cargo.args(["--workspace", "--no-fail-fast", "--"]).args(context.arguments).env("PATH", context.path());
    let finished = progress::run("unit", cargo, &context.log(Level::Unit)?)?;
    Ok(read(&finished))
}

fn docs(context: &Context<'_>) -> Result<Tally> {
    let mut cargo = context.workspace.cargo("doc");
    // The crates are not published: a link to a private item is a link that works.
    cargo
        .args(["--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    let finished = progress::run("docs", cargo, &context.log(Level::Docs)?)?;
    let mut tally = Tally::one_passed();
    if !finished.status.success() {
        println!("{}", progress::tail(&finished.output));
        tally = Tally::one_failed("`cargo doc` found something");
    }
    if metrics_docs(context)? {
        tally.passed += 1;
    } else {
        let cure = "`target/release/observer metrics-docs > docs/metrics.md` after `cargo xtask build`";
        tally.failed.push(format!("docs/metrics.md is not what the catalogue says: {cure}"));
    }
    Ok(tally)
}

/// True when docs/metrics.md is what the agent prints.
fn metrics_docs(context: &Context<'_>) -> Result<bool> {
    driven::build(context.workspace)?;
    let agent = driven::program(context.workspace, driven::AGENT);
    let output =
        Command::new(&agent).arg("metrics-docs").output().with_context(|| format!("run {}", agent.display()))?;
    let written = fs::read(context.workspace.root().join("docs/metrics.md")).unwrap_or_default();
    Ok(output.status.success() && output.stdout == written)
}

/// The result of a harness; what it said about failures is shown.
pub(super) fn read(finished: &progress::Finished) -> Tally {
    let tally = Tally::of_output(&finished.output, finished.status.success());
    if !tally.failed.is_empty() {
        let start = finished.output.find("\nfailures:\n");
        println!(
            "{}",
            start.map_or_else(|| progress::tail(&finished.output), |start| finished.output[start..].to_owned())
        );
    }
    tally
}

impl Context<'_> {
    /// A level without the program that it consists of.
    pub(super) fn unable(&self, reason: &str) -> Tally {
        if self.circumstances.ci { Tally::one_failed(reason) } else { Tally::left_out(reason) }
    }

    pub(super) fn log(&self, level: Level) -> Result<std::path::PathBuf> {
        self.workspace.log("test-logs", level.name())
    }

    /// The search path with target/tools first: some programs of the set-up are there.
    pub(super) fn path(&self) -> OsString {
        let mut path = self.workspace.tools().join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{test::Circumstances, workspace::Workspace};
    use std::cell::Cell;

    #[test]
    fn each_verdict_of_cargo_deny_is_a_test() {
        assert_eq!(verdicts("warning: x\nbans ok, licenses ok, sources ok\n").passed, 3);
        let tally = verdicts("error\nbans FAILED, licenses ok, sources ok\n");
        assert_eq!((tally.passed, tally.failed), (2, vec!["bans of the dependencies".to_owned()]));
        assert!(verdicts("error: no manifest").is_empty());
    }

    #[test]
    fn a_level_without_its_program_is_left_out_and_in_ci_a_failure() {
        let unable = |ci| {
            let circumstances = Circumstances { ci, ..Circumstances::default() };
            Context {
                workspace: &Workspace::this(),
                pair: None,
                kubeconfig: None,
                arguments: &[],
                circumstances,
                ahead: Cell::default(),
            }
            .unable("no cargo-deny")
        };
        assert_eq!(unable(false), Tally::left_out("no cargo-deny"));
        assert_eq!(unable(true), Tally::one_failed("no cargo-deny"));
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        use clap::ValueEnum as _;
        for level in Level::ALL {
            assert_eq!(level.to_possible_value().unwrap().get_name(), level.name());
        }
        assert_eq!(Level::value_variants().len(), Level::ALL.len());
    }
}
