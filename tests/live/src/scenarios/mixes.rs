//! Mixed loads: the sum of the shares against the kernel's load average, and each share against a look at /proc a hundred times a second.

use super::load::{KEPT, gauge, sums};
use crate::{
    agent::{Agent, explain},
    cgroup::Cgroup,
    machine,
    syscalls::set_policy,
    trial::{Need, Place, test},
    truth,
    worker::Seat,
};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

pub(super) fn tests() -> Vec<Trial> {
    const NEEDS: [Need; 3] = [Need::Root, Need::Command("stress-ng"), Need::Iterators];
    vec![
        test(
            "after_mixed_loads_the_sum_of_the_shares_is_the_kernels_and_nothing_is_left",
            Place::Host,
            &NEEDS,
            mixed_loads,
        ),
        test("a_look_at_proc_a_hundred_times_a_second_finds_as_many_active_tasks", Place::Host, &NEEDS, as_sampled),
    ]
}

/// A minute of everything that is hard to count, then calm; ten minutes where there is time.
fn mixed_loads() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (one, other) = (folder.child("one")?, folder.child("other")?);
    let agent = Agent::start(&[])?;
    let length = if machine::has_time() { Duration::from_mins(10) } else { Duration::from_secs(45) };
    // What was there before the agent has to fade first.
    let begun = Instant::now();
    let fade = Duration::from_secs(if machine::has_time() { 240 } else { 10 });
    while begun.elapsed() < fade && load_now()? > 0.2 {
        sleep(Duration::from_secs(1));
    }
    let first = sums(&agent.scrape()?)?.1;
    let mut children = everything(&one, &other, length)?;
    let started = Instant::now();
    let (mut ours, mut kernels, mut asleep, mut samples) = (0.0, 0.0, 0.0, 0);
    while started.elapsed() < length {
        // Not in step with the averages, which are brought forward every five.
        sleep(Duration::from_millis(4300));
        let page = agent.scrape()?;
        let (load, left) = sums(&page)?;
        // That of before fades as the kernel's own does.
        let before = first * KEPT[0].powf(started.elapsed().as_secs_f64() / 5.0);
        kernels += load - before;
        ours += load - left;
        asleep += page.one("observer_node_load1_sleeping", &[])?.value.parse::<f64>()?;
        samples += 1;
    }
    ensure_all_ended(&mut children)?;
    let residual = (kernels - ours) / kernels;
    let mean = |sum: f64| sum / f64::from(samples);
    println!(
        "{samples} samples: the kernel's load {:.2}, ours {:.2} on average, and {:.2} that sleep on a queue",
        mean(kernels),
        mean(ours),
        mean(asleep)
    );
    let outcome = ensure_near(residual);
    explain(&agent, outcome)?;
    // Nothing drifts: what is left over fades as the kernel's load does.
    let calm = Duration::from_secs(if machine::has_time() { 300 } else { 20 });
    let before = sums(&agent.scrape()?)?.1;
    sleep(calm);
    let (load, left) = sums(&agent.scrape()?)?;
    let most = before.abs() * (-calm.as_secs_f64() / 60.0).exp() * 1.1 + 0.3;
    let outcome = || {
        ensure!(
            left.abs() <= most,
            "{left} of {load} is left over after {calm:?}, of {before} before: more than {most}"
        );
        Ok(())
    };
    explain(&agent, outcome())
}

/// A tenth over ten minutes; a short run has few of the kernel's samples.
fn ensure_near(residual: f64) -> Result<()> {
    let most = if machine::has_time() { 0.10 } else { 0.25 };
    ensure!(residual.abs() <= most, "the residual is {:.1} % of the kernel's load", residual * 100.0);
    Ok(())
}

fn load_now() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// How many threads are made at a time. The kernel looks once in 5 s, and whether it meets a thousand that are there for milliseconds is a
/// matter of luck in a minute: its own mean is then anything from 7 to 50.
fn threads_at_a_time() -> u32 {
    if machine::has_time() { 1024 } else { 16 }
}

/// Spinners, bursts, threads, forks, switches, uninterruptible sleeps and writes, in two cgroups.
fn everything(one: &Cgroup, other: &Cgroup, length: Duration) -> Result<Vec<Child>> {
    let threads = threads_at_a_time();
    let first = format!("--cpu 2 --cpu-load 60 --vfork 2 --fork 1 --pthread 1 --pthread-max {threads}");
    Ok(vec![
        stress(one, length, &first)?,
        stress(other, length, "--switch 2 --io 1 --hdd 1 --hdd-bytes 16m --nanosleep 1 --clone 1")?,
    ])
}

fn stress(cgroup: &Cgroup, length: Duration, mix: &str) -> Result<Child> {
    let timeout = format!("{}s", length.as_secs());
    let job = ["exec", "stress-ng", "--quiet", "--timeout", &timeout].into_iter().chain(mix.split(' '));
    let mut command = Seat::in_cgroup(cgroup).command(job);
    command.current_dir("/tmp").stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("start stress-ng")
}

fn ensure_all_ended(children: &mut [Child]) -> Result<()> {
    for child in children {
        let status = child.wait()?;
        ensure!(status.success(), "stress-ng: {status}");
    }
    Ok(())
}

/// Whoever looks, looks before everybody else: else it would be when those that run let it.
struct Sampler {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<f64>>>,
}

impl Sampler {
    /// Counts the tasks of some cgroups that run, wait for a CPU or sleep uninterruptibly.
    fn start(cgroups: &[&Cgroup]) -> Self {
        let paths: Vec<_> = cgroups.iter().map(|cgroup| cgroup.path().join("cgroup.threads")).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = spawn(move || {
            set_policy(libc::SCHED_FIFO, 1)?;
            let (mut sums, mut looks) = (vec![0u64; paths.len()], 0u32);
            while !until.load(Ordering::Acquire) {
                for (sum, path) in sums.iter_mut().zip(&paths) {
                    let threads = fs::read_to_string(path)?;
                    // One that has ended since is not active.
                    let states = threads.lines().filter_map(|thread| truth::state(thread.parse().ok()?).ok());
                    *sum += states.filter(|state| matches!(state, 'R' | 'D')).count() as u64;
                }
                looks += 1;
                // Not in step with whatever else has a timer.
                sleep(Duration::from_micros(u64::from(7000 + looks.wrapping_mul(2_654_435_761) % 6000)));
            }
            Ok(sums.into_iter().map(|sum| sum as f64 / f64::from(looks)).collect())
        });
        Self { is_over, thread }
    }

    /// How many there were on average.
    fn end(self) -> Result<Vec<f64>> {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))?
    }
}

/// The averages of some cgroups when they have just been brought forward, and when that was.
fn just_brought_forward(agent: &Agent, cgroups: &[&Cgroup]) -> Result<(Vec<f64>, Instant)> {
    let read = || -> Result<Vec<f64>> {
        let page = agent.scrape()?;
        cgroups.iter().map(|cgroup| gauge(&page, "observer_load1", &cgroup.label)).collect()
    };
    let (before, started) = (read()?, Instant::now());
    while started.elapsed() < Duration::from_secs(12) {
        sleep(Duration::from_millis(50));
        let now = read()?;
        if now != before {
            return Ok((now, Instant::now()));
        }
    }
    anyhow::bail!("the averages stay as they are: {before:?}")
}

/// What our average shows is of the last minute or so: a longer run is made of rounds.
const ROUND: Duration = Duration::from_secs(30);

/// Two cgroups of tasks that run, sleep and write. None that end: a thread that is on its way out is not in /proc any more while it still waits
/// for a CPU, and in a storm of them there are dozens, which the kernel's load average and ours count.
fn as_sampled() -> Result<()> {
    let folder = Cgroup::for_test()?;
    let (one, other) = (folder.child("one")?, folder.child("other")?);
    let cgroups = [&one, &other];
    let rounds = if machine::has_time() { 20 } else { 1 };
    let agent = Agent::start(&[])?;
    let longer = ROUND * rounds + Duration::from_mins(1);
    let mut children = vec![
        stress(&one, longer, "--cpu 3 --cpu-load 60")?,
        stress(&other, longer, "--switch 2 --io 1 --hdd 1 --hdd-bytes 16m")?,
    ];
    sleep(Duration::from_secs(3));
    let (mut by_proc, mut ours) = ([0.0; 2], [0.0; 2]);
    let (mut before, mut begun) = just_brought_forward(&agent, &cgroups)?;
    for _ in 0..rounds {
        let sampler = Sampler::start(&cgroups);
        sleep(ROUND.saturating_sub(Duration::from_millis(2500)));
        let (after, ended) = just_brought_forward(&agent, &cgroups)?;
        let found = sampler.end()?;
        let kept = KEPT[0].powf(((ended - begun).as_secs_f64() / 5.0).round());
        for at in 0..cgroups.len() {
            by_proc[at] += found[at] / f64::from(rounds);
            ours[at] += (after[at] - before[at] * kept) / (1.0 - kept) / f64::from(rounds);
        }
        (before, begun) = (after, ended);
    }
    // It ends its own children on that.
    children.iter().try_for_each(|child| kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT))?;
    for child in &mut children {
        child.wait()?;
    }
    println!("active tasks of two cgroups: {by_proc:.2?} by /proc, {ours:.2?} by observer_load1");
    let outcome = || {
        for (sampled, ours) in by_proc.iter().zip(&ours) {
            ensure!(*sampled > 0.5, "hardly anything was active: {sampled}");
            ensure!((sampled - ours).abs() <= sampled * 0.1, "{ours} by observer_load1, {sampled} by /proc");
        }
        Ok(())
    };
    explain(&agent, outcome())
}
