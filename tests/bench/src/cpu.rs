//! The CPU that a measurement is pinned to, and what a process has used of it.

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use std::{
    fmt, fs,
    path::Path,
    str::FromStr,
    time::{Duration, Instant},
};

/// The CPUs this process may use, as it was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    all: CpuSet,
    last: usize,
    first: usize,
}

impl Cpus {
    /// Reads them.
    pub(crate) fn read() -> Result<Self> {
        let all = sched_getaffinity(Pid::this()).context("read the CPU affinity")?;
        let allowed: Vec<usize> = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap_or(false)).collect();
        let (first, last) = (allowed.first().copied(), allowed.last().copied());
        Ok(Self { all, first: first.context("no CPU allowed")?, last: last.context("no CPU allowed")? })
    }

    /// Pins this thread, and what it starts, to one CPU: the last, where least else is pinned by habit.
    pub(crate) fn pin(&self) -> Result<()> {
        pin_to(self.last)
    }

    /// The pinned CPU and another one, the same if there is only one.
    pub(crate) fn two(&self) -> (usize, usize) {
        (self.last, self.first)
    }

    /// Allows every CPU again.
    pub(crate) fn unpin(&self) -> Result<()> {
        sched_setaffinity(Pid::this(), &self.all).context("reset the CPU affinity")
    }
}

/// Pins this thread, and what it starts, to a CPU.
pub(crate) fn pin_to(cpu: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu).context("a CPU's number")?;
    sched_setaffinity(Pid::this(), &one).with_context(|| format!("pin to CPU {cpu}"))
}

/// CPU time of this thread, nanoseconds. Time that others take on the same CPU is not in it.
pub(crate) fn thread_ns() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read the thread's CPU clock")?;
    Ok(Duration::from(time).as_nanos() as u64)
}

/// What some work took, in nanoseconds, by two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    wall: f64,
    task: f64,
}

impl Taken {
    /// Does something on this thread and times it.
    pub(crate) fn by(work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let (start, start_ns) = (Instant::now(), thread_ns()?);
        work()?;
        let task = (thread_ns()? - start_ns) as f64;
        Ok(Self { wall: start.elapsed().as_nanos() as f64, task })
    }

    /// The same, with the CPU time of more than one thread.
    pub(crate) fn with_task_ns(self, task_ns: u64) -> Self {
        Self { task: task_ns as f64, ..self }
    }

    /// By one of the clocks.
    pub(crate) fn by_clock(self, clock: Clock) -> f64 {
        match clock {
            Clock::Wall => self.wall,
            Clock::Task => self.task,
        }
    }
}

/// As a worker writes it.
impl fmt::Display for Taken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.wall, self.task)
    }
}

/// As a worker wrote it.
impl FromStr for Taken {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (wall, task) = text.split_once(' ').context("two numbers")?;
        Ok(Self { wall: wall.parse()?, task: task.parse()? })
    }
}

/// By which clock a thread that never sleeps is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Wall time, which a neighbour on the CPU lengthens.
    Wall,
    /// The thread's CPU time, which holds the receiving half of a packet only where the kernel charges softirqs to the
    /// task they interrupt (no `CONFIG_IRQ_TIME_ACCOUNTING`).
    Task,
}

impl Clock {
    /// CPU time if, in the quietest of some short runs, it is all of the wall time.
    pub(crate) fn choose(mut run: impl FnMut() -> Result<Taken>) -> Result<Self> {
        let mut share = 0.0f64;
        for _ in 0..50 {
            let taken = run()?;
            share = share.max(taken.task / taken.wall);
        }
        Ok(if share > 0.97 { Self::Task } else { Self::Wall })
    }
}

/// What the scheduler knows of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchedStat {
    /// Nanoseconds on a CPU, without the stretch that is under way.
    pub(crate) run_ns: u64,
    /// How often it came onto a CPU.
    pub(crate) switches_in: u64,
}

/// Reads a task's `schedstat`.
pub(crate) fn schedstat(pid: u32) -> Result<SchedStat> {
    read_schedstat(Path::new(&format!("/proc/{pid}/schedstat")))
}

/// CPU time of all threads of a process, nanoseconds; a thread that has ended is no longer in it.
pub(crate) fn process_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        sum += read_schedstat(&task.path().join("schedstat"))?.run_ns;
    }
    Ok(sum)
}

fn read_schedstat(path: &Path) -> Result<SchedStat> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    let mut next = || fields.next().context("three numbers")?.context("a number");
    let (run_ns, _wait_ns, switches_in) = (next()?, next()?, next()?);
    Ok(SchedStat { run_ns, switches_in })
}
