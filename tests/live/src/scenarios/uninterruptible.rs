//! Uninterruptible sleep: vfork parents of known length, tasks that slept before the agent came, and storms after
//! which no phantom may be left.

use super::long_run::Stage;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    controllers::Controlled,
    machine::{self, is_guest, wait_until},
    trial::{Need, Place, test},
    truth,
    worker::{Seat, Worker},
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

const MILLISECOND: u64 = 1_000_000;

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test(
            "a_vfork_parent_sleeps_as_long_as_its_child_lives_to_the_millisecond",
            Place::Both,
            &[Need::Root],
            known_lengths,
        ),
        test("a_sleep_that_has_not_ended_counts_while_it_lasts", Place::Both, &[Need::Root], open_sleeps_count),
        test(
            "a_task_that_slept_before_the_agent_came_counts_from_then_on",
            Place::Both,
            &[Need::Root],
            sleeps_from_before,
        ),
        test(
            "a_task_that_the_freezer_of_version_1_holds_is_no_load",
            Place::Host,
            &[Need::Root, Need::CgroupV1, Need::Controller("freezer")],
            frozen,
        ),
        test("after_storms_of_the_tests_own_no_phantom_is_left", Place::Both, &[Need::Root], own_storms),
    ]
}

/// Nanoseconds that a vfork parent slept, by its own account.
#[derive(Debug)]
pub(super) struct Slept {
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Slept {
    pub(super) fn wait_for(worker: &mut Worker) -> Result<Self> {
        let line = worker.line(Duration::from_mins(1))?;
        let (least, most) = line.split_once(' ').with_context(|| format!("{line:?} is not two numbers"))?;
        Ok(Self { least: least.parse()?, most: most.parse()? })
    }

    fn agrees(&self, booked: u64, slack: u64) -> Result<()> {
        ensure!(booked + slack >= self.least && booked <= self.most + slack, "{booked} ns booked; it was {self:?}");
        Ok(())
    }
}

/// To the millisecond. An emulated CPU may stand still for longer within a switch, while the kernel calls the task
/// running and the program does not yet: there one round of three has to agree.
fn known_lengths() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("vfork")?;
    let agent = Agent::start(&[])?;
    let mut outcome = known_length(&agent, &cgroup);
    for _ in 1..if is_guest() { 3 } else { 1 } {
        if outcome.is_err() {
            outcome = known_length(&agent, &cgroup);
        }
    }
    explain(&agent, outcome)
}

/// The truth is what is left of the parents' time when their run and wait by schedstat are taken away.
fn known_length(agent: &Agent, cgroup: &Cgroup) -> Result<()> {
    let lengths = [700, 1500, 2200];
    let start = |_| Worker::start(Seat::in_cgroup(cgroup), ["vfork"]);
    let mut workers = lengths.iter().map(start).collect::<Result<Vec<_>>>()?;
    let before = agent.scrape()?.uninterruptible(&cgroup.label)?;
    for (worker, length) in workers.iter_mut().zip(lengths) {
        worker.tell(&format!("vfork {length}"))?;
    }
    let mut truth = Slept { least: 0, most: 0 };
    for worker in &mut workers {
        let slept = Slept::wait_for(worker)?;
        truth = Slept { least: truth.least + slept.least, most: truth.most + slept.most };
    }
    ensure!(truth.most >= lengths.iter().sum::<u64>() * MILLISECOND, "slept only {truth:?}");
    let booked = agent.scrape()?.uninterruptible(&cgroup.label)? - before;
    truth.agrees(booked, MILLISECOND * lengths.len() as u64)
}

fn open_sleeps_count() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("vfork")?;
    let agent = Agent::start(&[])?;
    let mut worker = Worker::start(Seat::in_cgroup(&cgroup), ["vfork"])?;
    let start = Instant::now();
    worker.tell("vfork 5000")?;
    let mut previous = 0;
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(1));
        let least = start.elapsed();
        let booked = agent.scrape()?.uninterruptible(&cgroup.label)?;
        let most = start.elapsed();
        ensure!(booked >= previous, "fell from {previous} to {booked}");
        // At worst as old as the last sample.
        let floor = least.saturating_sub(Duration::from_millis(1300)).as_nanos() as u64;
        ensure!(booked >= floor && booked <= most.as_nanos() as u64, "{booked} ns after {least:?}");
        previous = booked;
    }
    let truth = Slept::wait_for(&mut worker)?;
    let booked = agent.scrape()?.uninterruptible(&cgroup.label)?;
    explain(&agent, truth.agrees(booked, MILLISECOND))?;
    std::thread::sleep(Duration::from_millis(1500));
    let later = agent.scrape()?.uninterruptible(&cgroup.label)?;
    ensure!(later == booked, "{later} ns a second after it had ended with {booked}");
    Ok(())
}

fn sleeps_from_before() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("vfork")?;
    let mut worker = Worker::start(Seat::in_cgroup(&cgroup), ["vfork"])?;
    let length = machine::patience(Duration::from_secs(5));
    worker.tell(&format!("vfork {}", length.as_millis()))?;
    let asleep = wait_until(Duration::from_secs(5), || Ok(truth::state(worker.pid())? == 'D'))?;
    ensure!(asleep, "the worker does not sleep");
    let asleep_since = Instant::now();
    let agent = Agent::start_anew(&[])?;
    ensure!(truth::state(worker.pid())? == 'D', "it took the agent too long to start");
    worker.line(length + Duration::from_secs(10))?;
    let woke = Instant::now();
    let (least, most) = (woke - agent.ready, woke - agent.started);
    ensure!(woke - asleep_since > Duration::from_secs(1), "slept too short to tell");
    let booked = Duration::from_nanos(agent.scrape()?.uninterruptible(&cgroup.label)?);
    let slack = machine::patience(Duration::from_millis(10));
    let within = booked + slack >= least && booked <= most;
    explain(&agent, if within { Ok(()) } else { Err(anyhow::anyhow!("{booked:?}; it was {least:?} to {most:?}")) })
}

/// It looks as if it slept uninterruptibly; the kernel's load leaves it out. Beside it one that does, so that what is seen is seen.
fn frozen() -> Result<()> {
    let mut folder = Cgroup::for_test()?;
    let held = Controlled::make(&mut folder, "held", "freezer")?;
    let asleep = folder.child("asleep")?;
    let worker = Worker::start(Seat::in_cgroup(&held.cgroup), ["spin"])?;
    held.take(worker.pid())?;
    let mut sleeper = Worker::start(Seat::in_cgroup(&asleep), ["vfork"])?;
    sleeper.tell("vfork 600000")?;
    let freezer = Freezer::close(&held)?;
    for pid in [worker.pid(), sleeper.pid()] {
        ensure!(wait_until(Duration::from_secs(5), || Ok(truth::state(pid)? == 'D'))?, "{pid} is not in D");
    }
    let agent = Agent::start(&[])?;
    std::thread::sleep(Duration::from_millis(3300));
    let page = agent.scrape()?;
    let booked = |cgroup: &Cgroup| page.uninterruptible(&cgroup.label);
    let (held_ns, asleep_ns) = (booked(&held.cgroup)?, booked(&asleep)?);
    drop(freezer);
    explain(&agent, {
        if held_ns == 0 && asleep_ns > 1_000 * MILLISECOND {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{held_ns} ns of the task that is held, {asleep_ns} ns of the one that sleeps"))
        }
    })
}

/// A frozen cgroup; thawed when dropped, since what is in it cannot even be killed.
struct Freezer(PathBuf);

impl Freezer {
    fn close(cgroup: &Controlled) -> Result<Self> {
        let freezer = Self(cgroup.files().join("freezer.state"));
        fs::write(&freezer.0, "FROZEN").context("freeze")?;
        Ok(freezer)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.0, "THAWED") {
            eprintln!("observer-live: thaw {}: {error}", self.0.display());
        }
    }
}

fn own_storms() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let agent = Agent::start(&[])?;
    let seconds = machine::storm_seconds(if is_guest() { 4 } else { 10 })?;
    leaves_no_phantom(&agent, &folder, seconds, |cgroup| {
        let mut workers = Vec::new();
        for kind in ["vfork", "fork", "switch"].into_iter().cycle().take(6) {
            let mut worker = Worker::start(Seat::in_cgroup(cgroup), ["storm"])?;
            worker.tell(&format!("storm {kind} {}", seconds * 1000))?;
            workers.push((worker, kind));
        }
        for (worker, kind) in &mut workers {
            let rounds: u64 = worker.line(Duration::from_secs(seconds + 60))?.parse()?;
            ensure!(rounds > 100, "only {rounds} rounds of {kind}");
        }
        Ok(())
    })
}

/// A part of the long run: all storms at once, for half a minute; where there is time, for a minute, and each of them alone as well.
pub(super) fn stress_ng_storm(Stage { agent, folder, .. }: &Stage) -> Result<()> {
    let seconds = machine::storm_seconds(if machine::has_time() { 60 } else { 30 })?;
    let mut storms = vec![vec!["--vfork", "--fork", "--switch"]];
    if machine::has_time() {
        storms.extend([vec!["--vfork"], vec!["--fork"], vec!["--switch"]]);
    }
    storms.iter().try_for_each(|kinds| {
        leaves_no_phantom(agent, folder, seconds, |cgroup| stress_ng(cgroup, kinds, seconds))
            .with_context(|| kinds.join(" "))
    })
}

fn stress_ng(cgroup: &Cgroup, kinds: &[&str], seconds: u64) -> Result<()> {
    let timeout = format!("{seconds}s");
    let kinds = kinds.iter().flat_map(|kind| [kind, "2"]);
    let job = ["exec", "stress-ng", "--quiet", "--timeout", &timeout].into_iter().chain(kinds);
    let temporary = tempfile::tempdir()?;
    let before = truth::forks_and_switches()?;
    let mut command = Seat::in_cgroup(cgroup).command(job);
    let status = command.current_dir(temporary.path()).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.context("start stress-ng")?;
    ensure!(status.success(), "stress-ng: {status}");
    let after = truth::forks_and_switches()?;
    // More of one kind or the other, by whoever else was there too: a calm would not be worth the name.
    let events = after.0 - before.0 + after.1 - before.1;
    ensure!(events > 1000 * seconds, "only {events} forks and switches in {seconds} s");
    Ok(())
}

/// Runs a storm while one task is known to be in D, and then compares the agent's open entries with /proc.
fn leaves_no_phantom(
    agent: &Agent,
    folder: &Cgroup,
    seconds: u64,
    storm: impl FnOnce(&Cgroup) -> Result<()>,
) -> Result<()> {
    let (sleeper, cgroup) = (folder.child("sleeper")?, folder.child("storm")?);
    let mut known = Worker::start(Seat::in_cgroup(&sleeper), ["vfork"])?;
    known.tell(&format!("vfork {}", (seconds + 600) * 1000))?;
    storm(&cgroup)?;
    ensure!(truth::uninterruptible_threads()?.contains(&known.pid()), "the known task is not in D");
    let mut last = (0, Vec::new());
    // The agent removes what /proc does not show once it is two seconds old.
    let equal = wait_until(Duration::from_secs(6), || {
        let before = truth::uninterruptible_threads()?;
        let page = agent.scrape()?;
        let open = page.one("observer_bpf_map_entries", &[("map", "SLEEPS")])?.integer()?;
        last = (open, truth::uninterruptible_threads()?);
        Ok(last.1 == before && open == before.len() as u64)
    })?;
    let page = agent.scrape()?;
    ensure!(page.dropped("sleep_table_full")? == 0, "the table of sleeps was full");
    explain(
        agent,
        if equal { Ok(()) } else { Err(anyhow::anyhow!("{} open entries; /proc shows {:?}", last.0, last.1)) },
    )
}
