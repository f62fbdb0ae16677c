//! Taking the cluster down: everything that bringing it up did is undone, whatever became of it in the meantime.

use super::{
    cgroups::Hierarchies,
    layout::Layout,
    namespaces, network, node,
    process::Process,
    record::{self, Lock, Record, Step},
    say, status, sysctls,
};
use crate::{progress, workspace::Workspace};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Takes down the cluster of this machine, whichever checkout it is of, and says so. As root.
///
/// # Errors
/// What could not be undone; trying again goes on from there.
pub(super) fn down(workspace: &Workspace) -> Result<()> {
    let (started, layout) = (Instant::now(), Layout::of(workspace));
    if let Some(record) = Record::read().filter(|record| record.directory != layout.run()) {
        say(&format!("cluster: the one that is up is that of another checkout ({})", record.directory.display()));
    }
    if quietly(workspace)? {
        let logs = layout.logs();
        let took = progress::seconds(started.elapsed());
        say(&format!("cluster: down in {took}; its logs stay in {}", logs.display()));
    } else {
        say("cluster: nothing is up");
    }
    Ok(())
}

/// The same without a word; false when there was nothing to take down.
///
/// # Errors
/// What could not be undone.
pub(super) fn quietly(workspace: &Workspace) -> Result<bool> {
    let layout = Layout::of(workspace);
    let orphaned = Hierarchies::of_this_machine().is_ok_and(|hierarchies| hierarchies.programs().exists());
    let there = record::is_there() || orphaned;
    if there {
        let lock = Lock::take()?;
        clean(Record::read().as_ref())?;
        Record::remove(lock)?;
    }
    // One that a reboot has ended leaves its directory.
    remove_run(&layout.run())?;
    Ok(there)
}

/// Takes down what is left of one that is not up any more, its record with it; one that is up stays.
///
/// # Errors
/// What could not be undone.
pub(super) fn remains(say: &mut dyn FnMut(&str)) -> Result<()> {
    if !record::is_there() {
        return Ok(());
    }
    let lock = Lock::take()?;
    let record = Record::read();
    if record.as_ref().is_some_and(status::is_up) {
        return Ok(());
    }
    say(TIDIES);
    clean(record.as_ref())?;
    Record::remove(lock)
}

const TIDIES: &str = "cluster: what an earlier one left is taken down first";

/// Takes down what is left of one that is not up any more, for another to come up; one that is up stays.
///
/// # Errors
/// What could not be undone.
pub(super) fn tidy(lock: &Lock, say: &mut dyn FnMut(&str)) -> Result<()> {
    let Some(record) = Record::read().filter(|record| !status::is_up(record)) else { return Ok(()) };
    say(TIDIES);
    clean(Some(&record))?;
    Record::clear(lock)
}

/// Undoes everything but the record. What fails does not keep the rest from being undone.
///
/// # Errors
/// All that could not be undone.
pub(super) fn clean(record: Option<&Record>) -> Result<()> {
    let mut errors = Vec::new();
    let mut note = |outcome: Result<()>| errors.extend(outcome.err().map(|error| format!("{error:#}")));
    let known = processes();
    match Hierarchies::of_this_machine() {
        Err(error) => note(Err(error)),
        Ok(hierarchies) => {
            note(hierarchies.end_programs());
            if let Some(record) = record {
                // Without a record they may be another's.
                note(hierarchies.end_pods());
                if record.boot == record::this_boot() {
                    note(hierarchies.restore_subtree_control(&record.subtree_control));
                }
            }
        }
    }
    note(end(&known));
    note(network::disconnect());
    if let Some(record) = record {
        // A boot has put them back already, to values of its own.
        if record.boot == record::this_boot() {
            note(sysctls::restore(&record.sysctls));
        }
        note(remove_run(&record.directory));
        namespaces::remove_directories(&record.made);
    }
    if !errors.is_empty() {
        bail!("{}", errors.join("; "));
    }
    Ok(())
}

/// The processes that are the cluster's without regard to cgroups: those that were started, and all in the node's namespace.
fn processes() -> Vec<Process> {
    let started: Vec<_> = record::processes().into_values().filter(Process::is_alive).collect();
    // Before that, its first process is in the namespace of whoever started it.
    let made = record::steps().contains(&Step::Done(node::WAITS_FOR_NETWORK.to_owned()));
    let companions = started.first().filter(|_| made).map(Process::companions);
    companions.into_iter().flatten().chain(started).collect()
}

/// Ends processes that their groups' end has not ended.
fn end(processes: &[Process]) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    while let Some(process) = processes.iter().find(|process| process.is_alive()) {
        ensure!(Instant::now() < limit, "process {} does not end", process.pid);
        processes.iter().for_each(Process::kill);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Removes a cluster's directory.
///
/// # Errors
/// When something is mounted in it, which must not be removed with it.
pub(super) fn remove_run(run: &Path) -> Result<()> {
    ensure!(run.ends_with("target/cluster/run"), "{} is not a cluster's directory", run.display());
    if !run.exists() {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mounted =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).find(|path| Path::new(path).starts_with(run));
    ensure!(mounted.is_none(), "{} is mounted in {}: unmount it", mounted.unwrap_or_default(), run.display());
    fs::remove_dir_all(run).with_context(|| format!("remove {}", run.display()))
}
