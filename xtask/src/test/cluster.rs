//! The level `cluster`: `observer-cluster` in a cluster that is brought up for it, once in each mode, or in anyone's.

use super::{Context, Level, Tally, level, skipped::Skipped};
use crate::{
    cluster::{self, Census, Held, Mode},
    deploy::helm,
    image::{self, Target},
    page, progress,
    setup::privilege::Privilege,
    toolchain::Pair,
    workspace::{Profile, Workspace},
};
use anyhow::{Context as _, Result};
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Runs it.
///
/// # Errors
/// When something that it needs does not build.
pub(super) fn run(context: &Context<'_>) -> Result<Tally> {
    let workspace = context.workspace;
    let pair = context.pair.context("the set-up found no eBPF tool-chain")?;
    if let Some(kubeconfig) = context.kubeconfig {
        cluster::prepare_for_another(workspace)?;
        let image = image::of_agent(workspace, pair, Target::of_this_machine(), Profile::Release)?.path;
        println!("  in the cluster of {}, which has to have these images:", kubeconfig.display());
        println!("    {}\n    {}", image.display(), cluster::Layout::of(workspace).test_image().display());
        let kubeconfig = kubeconfig.canonicalize().with_context(|| format!("open {}", kubeconfig.display()))?;
        let harness = harness(context, Privilege::Root, &kubeconfig, None)?;
        return Ok(level::read(&progress::run("cluster", harness, &context.log(Level::Cluster)?)?));
    }
    if Privilege::of_this_process() == Privilege::None {
        return Ok(context.unable("it needs root, and there is no sudo"));
    }
    if let Some(ahead) = context.ahead.take() {
        ahead.wait();
    }
    let image = build(workspace, pair)?;
    page::tests(workspace)?;
    let mut log = File::create(context.log(Level::Cluster)?).context("write the level's log")?;
    let (mut tally, mut again) = (Tally::default(), false);
    for mode in Mode::ALL {
        let of_this = if let Some(reason) = Mode::impossible(mode) {
            Tally { skipped: vec![Skipped::all_of("all of it", reason)], ..Tally::default() }
        } else {
            let outcome = in_mode(context, Bed { mode, again }, &image, &mut log);
            again = true;
            outcome.unwrap_or_else(|error| Tally::one_failed(format!("{error:#}")))
        };
        add(&mut tally, of_this, mode);
    }
    Ok(tally)
}

/// Builds what an own cluster needs; returns the image of the agent, as the tests drive it.
///
/// # Errors
/// When something does not build.
pub(super) fn build(workspace: &Workspace, pair: &Pair) -> Result<PathBuf> {
    cluster::prepare(workspace)?;
    Ok(image::of_agent(workspace, pair, Target::of_this_machine(), Profile::TestRelease)?.path)
}

/// An own cluster.
#[derive(Clone, Copy)]
struct Bed {
    mode: Mode,
    /// True when the tests have run in another mode before: what takes long and does not depend on the mode is left out.
    again: bool,
}

/// Brings a cluster up, runs the tests in it, takes it down, and looks whether it is gone.
fn in_mode(context: &Context<'_>, bed: Bed, image: &Path, log: &mut File) -> Result<Tally> {
    cluster::tidy(context.workspace)?;
    let before = Census::take(context.workspace);
    let path = context.workspace.log("test-logs", &format!("cluster-{}", bed.mode.name()))?;
    let held = Held::start(bed.mode, |line| println!("  {line}"))?;
    let mut tally = tests(context, bed, image, &path).unwrap_or_else(|error| Tally::one_failed(format!("{error:#}")));
    drop(held);
    log.write_all(&fs::read(&path).unwrap_or_default()).context("write the level's log")?;
    let left = Census::take(context.workspace).beyond(&before);
    if left.is_empty() {
        tally.passed += 1;
    } else {
        tally.failed.push(format!("a cluster that is down leaves nothing behind: {}", left.join(", ")));
    }
    Ok(tally)
}

fn tests(context: &Context<'_>, bed: Bed, image: &Path, log: &Path) -> Result<Tally> {
    cluster::load(context.workspace, image)?;
    let kubeconfig = cluster::Layout::of(context.workspace).kubeconfig();
    let harness = harness(context, Privilege::of_this_process(), &kubeconfig, Some(bed))?;
    Ok(level::read(&progress::run(&format!("cluster, {}", bed.mode.name()), harness, log)?))
}

/// The harness's command line, for an own cluster or another. Through `env`, since sudo forgets the environment.
fn harness(context: &Context<'_>, privilege: Privilege, kubeconfig: &Path, bed: Option<Bed>) -> Result<Command> {
    let layout = cluster::Layout::of(context.workspace);
    let setting = |name: &str, value: &Path| format!("{name}={}", value.display());
    let profile = if bed.is_some() { Profile::TestRelease } else { Profile::Release };
    let mut words = vec![
        "env".to_owned(),
        format!("PATH={}", context.path().to_string_lossy()),
        setting("KUBECONFIG", kubeconfig),
        setting("OBSERVER_BIN", &image::program(context.workspace, profile)),
        setting("OBSERVER_KUBECTL", &cluster::kubectl(context.workspace, bed.is_none())),
    ];
    words.extend(context.circumstances.settings());
    if let Some(Bed { again, .. }) = bed {
        words.extend(again.then(|| "OBSERVER_CLUSTER_AGAIN=1".to_owned()));
        words.push(setting("OBSERVER_CLUSTER_STATIC_PODS", &layout.static_pods()));
        words.push(setting("OBSERVER_CLUSTER_DEFINITIONS", &layout.definitions()));
        words.extend(helm::find(context.workspace).map(|helm| setting("HELM", &helm)));
        words.push(setting("OBSERVER_CLUSTER_XTASK", &std::env::current_exe().context("find this program")?));
    }
    words.push(cluster::harness(context.workspace).to_string_lossy().into_owned());
    words.extend(context.arguments.iter().cloned());
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    privilege.command(&words)
}

/// Adds what came of a mode, each line with its name.
fn add(tally: &mut Tally, of_mode: Tally, mode: Mode) {
    let Tally { passed, failed, skipped } = of_mode;
    tally.passed += passed;
    tally.failed.extend(failed.into_iter().map(|line| format!("{}: {line}", mode.name())));
    tally.skipped.extend(skipped.into_iter().map(|one| one.on(mode.name())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_in_which_mode_it_was() {
        let mut tally = Tally::default();
        let of_mode =
            |name: &str| Tally { passed: 2, failed: vec![name.into()], skipped: vec![Skipped::test("c", "x")] };
        add(&mut tally, of_mode("a"), Mode::Hybrid);
        add(&mut tally, of_mode("b"), Mode::V2);
        assert_eq!((tally.passed, tally.failed), (4, vec!["hybrid: a".to_owned(), "v2: b".to_owned()]));
        assert_eq!(tally.skipped[1].to_string(), "skipped: v2: c: x");
    }
}
