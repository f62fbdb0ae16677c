//! Waits for a CPU against the kernel's own account of each task, /proc/PID/schedstat.

use super::culprits::caused;
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine::{is_guest, wait_until},
    page::{Page, Waits},
    trial::{Need, Place, test},
    truth,
    worker::{Priority, Seat, Worker},
};
use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use observer_ebpf::waited::PLACES;
use std::time::{Duration, Instant};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test(
            "spinners_and_sleepers_on_one_cpu_wait_as_schedstat_says",
            Place::Both,
            &[Need::Root],
            spinners_and_sleepers,
        ),
        test("waits_that_go_on_on_another_cpu_are_whole", Place::Both, &[Need::Root], moved_about),
        test("a_wait_on_two_cpus_is_one_wait_in_the_histogram", Place::Both, &[Need::Root], || one_wait(0)),
        test("a_wait_in_parts_is_whole_whoever_shares_its_place", Place::Both, &[Need::Root], || one_wait(2)),
        test("each_cgroup_on_a_shared_cpu_has_its_own_waits", Place::Both, &[Need::Root], two_cgroups),
        test("the_buckets_of_the_waits_add_up_to_their_count", Place::Both, &[Need::Root], buckets_add_up),
    ]
}

/// Workers in one cgroup, all on the last CPU.
pub(super) struct Crowd {
    workers: Vec<(Worker, &'static str)>,
    pids: Vec<u32>,
}

impl Crowd {
    pub(super) fn start(cgroup: &Cgroup, spinners: usize, sleepers: usize) -> Result<Self> {
        let seat = Seat { cpu: Some(last_cpu()?), ..Seat::in_cgroup(cgroup) };
        let jobs = std::iter::repeat_n("spin", spinners).chain(std::iter::repeat_n("nap", sleepers));
        let workers = jobs.map(|job| Ok((Worker::start(seat, [job])?, job))).collect::<Result<Vec<_>>>()?;
        let pids = workers.iter().map(|(worker, _)| worker.pid()).collect();
        Ok(Self { workers, pids })
    }

    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    pub(super) fn begin(&mut self, length: Duration) -> Result<()> {
        self.workers.iter_mut().try_for_each(|(worker, job)| worker.tell(&format!("{job} {}", length.as_millis())))
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        for (worker, _) in &mut self.workers {
            worker.line(Duration::from_mins(1))?;
        }
        Ok(())
    }

    /// Schedstat's sum of waits while every worker sleeps.
    pub(super) fn truth(&self) -> Result<Waits> {
        self.rest()?;
        truth::schedstat(&self.pids)
    }

    /// Schedstat's nanoseconds on a CPU while every worker sleeps.
    pub(super) fn ran(&self) -> Result<u64> {
        self.rest()?;
        truth::ran(&self.pids)
    }

    fn rest(&self) -> Result<()> {
        let asleep = wait_until(Duration::from_secs(10), || {
            for pid in &self.pids {
                if truth::state(*pid)? != 'S' {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        ensure!(asleep, "the workers do not come to rest");
        Ok(())
    }
}

pub(super) fn last_cpu() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get() - 1)
}

/// In a guest, to the nanosecond; on a host, where some switches run no program (docs/kernel.md), within a hundredth.
pub(super) fn agree(what: &str, books: Waits, truth: Waits) -> Result<()> {
    let say = || format!("{what}: the books {books:?}, schedstat {truth:?}");
    if is_guest() {
        ensure!(books == truth, "{}", say());
    } else {
        let near = |ours: u64, real: u64| ours.abs_diff(real) <= real / 100 + 2;
        ensure!(near(books.nanoseconds, truth.nanoseconds) && near(books.count, truth.count), "{}", say());
    }
    Ok(())
}

fn spinners_and_sleepers() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("crowd")?;
    let agent = Agent::start(&[])?;
    let mut crowd = Crowd::start(&cgroup, 4, 3)?;
    let before = (crowd.truth()?, agent.scrape()?.waits(&cgroup.label)?);
    crowd.begin(Duration::from_secs(4))?;
    crowd.finish()?;
    let truth = crowd.truth()? - before.0;
    let books = agent.scrape()?.waits(&cgroup.label)? - before.1;
    ensure!(truth.nanoseconds > 6_000_000_000, "four spinners on one CPU for 4 s waited only {truth:?}");
    explain(&agent, agree("the crowd", books, truth))
}

/// Tasks that wait are taken from one CPU to another all the time; the kernel adds their waits up part by part.
fn moved_about() -> Result<()> {
    let mut cpus = [CpuSet::new(), CpuSet::new()];
    cpus[0].set(0)?;
    cpus[1].set(last_cpu()?)?;
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("crowd")?;
    let agent = Agent::start(&[])?;
    let mut crowd = Crowd::start(&cgroup, 8, 0)?;
    let before = (crowd.truth()?, agent.scrape()?.waits(&cgroup.label)?);
    let length = Duration::from_secs(4);
    crowd.begin(length)?;
    let begun = Instant::now();
    // Every second task the other way round.
    for round in 0.. {
        for (number, pid) in crowd.pids().iter().enumerate() {
            sched_setaffinity(Pid::from_raw(pid.cast_signed()), &cpus[(round + number) % 2])?;
            std::thread::sleep(Duration::from_micros(50));
        }
        if begun.elapsed() > length / 4 * 3 {
            break;
        }
    }
    crowd.finish()?;
    let truth = crowd.truth()? - before.0;
    let page = agent.scrape()?;
    let books = page.waits(&cgroup.label)? - before.1;
    ensure!(truth.nanoseconds > 10_000_000_000, "eight spinners on two CPUs for 4 s waited only {truth:?}");
    let outcome = || {
        agree("the crowd", books, truth)?;
        // A wait is as long as its parts together, and each part is somebody's.
        fits_its_buckets(&page, &cgroup.label)?;
        let caused: u64 = caused(&page, &cgroup.label)?.values().sum();
        ensure!(caused >= truth.nanoseconds / 10 * 9, "{caused} ns are blamed on someone, of {truth:?}");
        Ok(())
    };
    explain(&agent, outcome())
}

/// A worker whose thread has the number of another, but for a multiple of the places that the agent has for what threads waited.
fn namesake(pid: u32, seat: Seat<'_>) -> Result<Worker> {
    let all: u32 = std::fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse()?;
    for turn in 1..all.min(100 * PLACES) / PLACES {
        let wanted = (pid + turn * PLACES) % all;
        // The first few hundred are not given again.
        if wanted < PLACES {
            continue;
        }
        std::fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string())?;
        let worker = Worker::start(seat, ["nap"])?;
        if worker.pid() == wanted {
            return Ok(worker);
        }
    }
    bail!("others always had the numbers that were to be had");
}

/// A task of the lowest priority is taken to and fro between CPUs that others of the highest never leave to it, beside some that have
/// the CPU again and again, and share the place of what it has waited.
fn one_wait(namesakes: usize) -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (greedy, meek) = (folder.child("greedy")?, folder.child("meek")?);
    let agent = Agent::start(&[])?;
    let seat = |cgroup, cpu, priority| Seat { cpu: Some(cpu), priority: Some(priority), ..Seat::in_cgroup(cgroup) };
    let cpus = [0, last_cpu()?];
    let mut victim = Worker::start(seat(&meek, 0, Priority::Idle), ["spin"])?;
    let mut others = Vec::new();
    for cpu in cpus {
        others.push((Worker::start(seat(&greedy, cpu, Priority::High), ["spin"])?, "spin"));
    }
    for _ in 0..namesakes {
        others.push((namesake(victim.pid(), seat(&greedy, 0, Priority::High))?, "nap"));
    }
    others.iter_mut().try_for_each(|(worker, job)| worker.tell(&format!("{job} 30000")))?;
    std::thread::sleep(Duration::from_millis(200));
    victim.tell("spin 30000")?;
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    let mut moves = 0;
    let mut before = truth::schedstat(&[victim.pid()])?;
    // The lowest priority is none: some day it has the CPU for a moment, and waits anew.
    let waited = loop {
        let mut to = CpuSet::new();
        to.set(cpus[moves % 2])?;
        sched_setaffinity(Pid::from_raw(victim.pid().cast_signed()), &to)?;
        moves += 1;
        std::thread::sleep(Duration::from_millis(5));
        let now = truth::schedstat(&[victim.pid()])?;
        if now.count != before.count {
            before = now;
            moves = 0;
        }
        let waited = (now.nanoseconds - before.nanoseconds) as f64 / 1e9;
        if waited > 0.6 {
            break waited;
        }
        ensure!(begun.elapsed() < Duration::from_secs(25), "it has the CPU again and again");
    };
    ensure!(moves >= 20, "{moves} moves in {waited} s of waits");
    drop(others);
    let ended = || Ok(truth::schedstat(&[victim.pid()])?.count > before.count);
    ensure!(wait_until(Duration::from_secs(10), ended)?, "it has no CPU, and nobody else wants one");
    let page = agent.scrape()?;
    let outcome = || {
        let buckets = page.samples("observer_run_queue_wait_seconds_bucket", &[("cgroup", &meek.label)])?;
        let (mut not_longer, mut all) = (0, 0);
        for bucket in &buckets {
            all = bucket.integer()?;
            if bucket.label("le").parse::<f64>().is_ok_and(|bound| bound <= waited) {
                not_longer = all;
            }
        }
        ensure!(all > not_longer, "no wait of {waited} s in {} buckets of {all}", buckets.len());
        Ok(())
    };
    explain(&agent, outcome())
}

fn two_cgroups() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (busy, calm) = (folder.child("busy")?, folder.child("calm")?);
    let agent = Agent::start(&[])?;
    let (mut spinners, mut nappers) = (Crowd::start(&busy, 2, 0)?, Crowd::start(&calm, 0, 4)?);
    let page = agent.scrape()?;
    let before = [(spinners.truth()?, page.waits(&busy.label)?), (nappers.truth()?, page.waits(&calm.label)?)];
    for crowd in [&mut spinners, &mut nappers] {
        crowd.begin(Duration::from_secs(2))?;
    }
    spinners.finish()?;
    nappers.finish()?;
    let truths = [spinners.truth()? - before[0].0, nappers.truth()? - before[1].0];
    let page = agent.scrape()?;
    let checks = || {
        agree("the busy", page.waits(&busy.label)? - before[0].1, truths[0])?;
        agree("the calm", page.waits(&calm.label)? - before[1].1, truths[1])
    };
    explain(&agent, checks())
}

fn buckets_add_up() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let cgroup = folder.child("crowd")?;
    let agent = Agent::start(&[])?;
    let mut crowd = Crowd::start(&cgroup, 2, 2)?;
    crowd.begin(Duration::from_secs(1))?;
    crowd.finish()?;
    crowd.truth()?;
    let page = agent.scrape()?;
    fits_its_buckets(&page, &cgroup.label)
}

/// An error unless the sum of a cgroup's waits is one that its buckets allow.
fn fits_its_buckets(page: &Page, label: &str) -> Result<()> {
    let buckets = page.samples("observer_run_queue_wait_seconds_bucket", &[("cgroup", label)])?;
    ensure!(buckets.len() == 13, "{} buckets, not 12 and the last", buckets.len());
    let mut previous = (f64::NEG_INFINITY, 0);
    let (mut least, mut most) = (0.0, 0.0);
    for bucket in &buckets {
        let bound = if bucket.label("le") == "+Inf" { f64::INFINITY } else { bucket.label("le").parse()? };
        let count = bucket.integer()?;
        ensure!(bound > previous.0 && count >= previous.1, "the buckets are not in order");
        let waits = (count - previous.1) as f64;
        least += waits * previous.0.max(0.0);
        most += if waits > 0.0 { waits * bound } else { 0.0 };
        previous = (bound, count);
    }
    let waits = page.waits(label)?;
    ensure!(previous == (f64::INFINITY, waits.count), "the last bucket is {previous:?}, the count {}", waits.count);
    let sum = waits.nanoseconds as f64 / 1e9;
    ensure!((least..=most).contains(&sum), "the sum {sum} is not between {least} and {most}");
    Ok(())
}
