//! What the kernel itself says: schedstat, task states, device counters.

use crate::page::{Counted, Traffic, Waits};
use anyhow::{Context as _, Result};
use std::{fs, time::Duration};

/// Ethernet's header, which devices count and an L3 counter does not.
pub(crate) const LINK_HEADER: u64 = 14;

/// The run-queue waits of every thread of the processes, by `/proc/PID/task/TID/schedstat`.
pub(crate) fn schedstat(pids: &[u32]) -> Result<Waits> {
    let mut waits = Waits::default();
    for_each_thread(pids, |[_ran, waited, times]| {
        waits.nanoseconds += waited;
        waits.count += times;
    })?;
    Ok(waits)
}

/// Nanoseconds on a CPU of every thread of the processes, by the same account.
pub(crate) fn ran(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for_each_thread(pids, |[ran, ..]| sum += ran)?;
    Ok(sum)
}

fn for_each_thread(pids: &[u32], mut add: impl FnMut([u64; 3])) -> Result<()> {
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
            add(*numbers.first_chunk().context("a short schedstat")?);
        }
    }
    Ok(())
}

/// How long the calling process, which has one thread, ran and waited for a CPU so far, by `/proc/self/schedstat`.
pub(crate) fn run_and_wait() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let numbers = text.split_whitespace().take(2).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    Ok(Duration::from_nanos(numbers.iter().sum()))
}

/// Processes and threads made, and context switches, on the whole machine since it booted.
pub(crate) fn forks_and_switches() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.parse().ok()).with_context(|| format!("no {name} in /proc/stat"))
    };
    Ok((field("processes")?, field("ctxt")?))
}

/// The state letter of a process's first thread, by `/proc/PID/stat`.
pub(crate) fn state(pid: u32) -> Result<char> {
    state_in(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

fn state_in(stat: &str) -> Result<char> {
    // The name may hold anything, but the last parenthesis ends it.
    let rest = stat.rsplit_once(')').context("a stat without a name")?.1;
    rest.trim_start().chars().next().context("a stat without a state")
}

/// Every thread of the machine that is in uninterruptible sleep.
pub(crate) fn uninterruptible_threads() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        if !process.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        for task in fs::read_dir(process.path().join("task")).into_iter().flatten().flatten() {
            // Threads end while we look.
            let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
            if state_in(&stat)? == 'D'
                && let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok())
            {
                found.push(tid);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What a device counted, link headers included, in the network namespace of a process.
pub(crate) fn device(pid: u32, name: &str) -> Result<Traffic> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))
        .with_context(|| format!("no device {name}"))?;
    let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let at = |index: usize| numbers.get(index).copied().context("a short line in /proc/net/dev");
    Ok(Traffic {
        receive: Counted { bytes: at(0)?, packets: at(1)? },
        transmit: Counted { bytes: at(8)?, packets: at(9)? },
    })
}

/// L3 traffic of a device: its own figures without the link headers.
pub(crate) fn without_link_headers(traffic: Traffic) -> Traffic {
    let strip = |counted: Counted| Counted { bytes: counted.bytes - counted.packets * LINK_HEADER, ..counted };
    Traffic { transmit: strip(traffic.transmit), receive: strip(traffic.receive) }
}

/// What TCP counts in the network namespace of a process: a column of `net/snmp`, such as `RetransSegs`.
pub(crate) fn tcp(pid: u32, column: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/snmp"))?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = rows.next().zip(rows.next()).context("no TCP in net/snmp")?;
    let at = names.split_whitespace().position(|name| name == column).with_context(|| format!("no {column}"))?;
    Ok(values.split_whitespace().nth(at).context("no value")?.parse()?)
}
