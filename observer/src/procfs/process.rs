//! What /proc/self says about this process. Its own /proc, whatever `--proc-path` is: that one may lack our process.

use super::file::{self, number, unexpected, words};
use crate::ledger::ProcessFacts;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

/// The facts of the moment. CPU time is the process clock's, exact to the nanosecond; the rest is from /proc/self.
///
/// # Errors
/// When /proc/self cannot be read or does not look as proc(5) says.
pub fn process() -> io::Result<ProcessFacts> {
    let mut content = Vec::with_capacity(2048);
    let path = Path::new("/proc/self/stat");
    file::read(path, &mut content)?;
    let stat = parse_stat(&content).ok_or_else(|| unexpected(path, "no such fields as in proc(5)"))?;
    let path = Path::new("/proc/self/limits");
    file::read(path, &mut content)?;
    let max_fds = parse_max_fds(&content).ok_or_else(|| unexpected(path, "no line on open files"))?;
    Ok(ProcessFacts {
        cpu_seconds: seconds(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?),
        resident_bytes: stat.resident_pages * system(SysconfVar::PAGE_SIZE)?,
        virtual_bytes: stat.virtual_bytes,
        open_fds: open_fds()?,
        max_fds,
        start_time_seconds: start_time(stat.start_ticks)?,
        threads: stat.threads,
    })
}

/// Since 6.2 their number is the size of the directory; before, they have to be listed.
fn open_fds() -> io::Result<u64> {
    let directory = Path::new("/proc/self/fd");
    match fs::metadata(directory)?.len() {
        // The directory that is being listed is one of them.
        0 => Ok((fs::read_dir(directory)?.count() as u64).saturating_sub(1)),
        number => Ok(number),
    }
}

/// The fields of stat that are wanted.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

fn parse_stat(content: &[u8]) -> Option<Stat> {
    let name_end = content.iter().rposition(|byte| *byte == b')')?;
    // Field 3, the state, is the first behind the name.
    let mut fields = words(&content[name_end + 1..]).map(number);
    let threads = fields.nth(20 - 3)??;
    let start_ticks = fields.nth(22 - 20 - 1)??;
    Some(Stat { threads, start_ticks, virtual_bytes: fields.next()??, resident_pages: fields.next()?? })
}

/// `Max open files            1024                 1048576              files`: the soft limit.
fn parse_max_fds(content: &[u8]) -> Option<u64> {
    let mut lines = content.split(|byte| *byte == b'\n');
    let limits = lines.find_map(|line| line.strip_prefix(b"Max open files"))?;
    match words(limits).next()? {
        b"unlimited" => Some(u64::MAX),
        soft => number(soft),
    }
}

/// When the process started, in seconds since the epoch. Computed once: a clock that is set must not look like a restart.
fn start_time(ticks_after_boot: u64) -> io::Result<f64> {
    static START: OnceLock<f64> = OnceLock::new();
    if let Some(start) = START.get() {
        return Ok(*start);
    }
    let boot = seconds(clock_gettime(ClockId::CLOCK_REALTIME)?) - seconds(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    let start = boot + ticks_after_boot as f64 / system(SysconfVar::CLK_TCK)? as f64;
    Ok(*START.get_or_init(|| start))
}

fn seconds(time: TimeSpec) -> f64 {
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

fn system(variable: SysconfVar) -> io::Result<u64> {
    let value = sysconf(variable)?.and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, format!("sysconf has no {variable:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant, SystemTime};

    #[test]
    fn stat_is_read_behind_a_name_with_spaces_and_parentheses() {
        let content = b"42 (a b) R) S 1 42 42 0 -1 4194560 100 0 0 0 7 8 0 0 20 0 11 0 12345 67890944 2222 18446744073709551615 1";
        let expected = Stat { threads: 11, start_ticks: 12345, virtual_bytes: 67_890_944, resident_pages: 2222 };
        assert_eq!(parse_stat(content), Some(expected));
        assert_eq!(parse_stat(b"42 (a) S 1"), None);
    }

    #[test]
    fn the_soft_limit_of_descriptors_is_read() {
        let head = "Limit                     Soft Limit           Hard Limit           Units     \n";
        let limits = |soft: &str| format!("{head}Max open files            {soft}                 4096       files\n");
        assert_eq!(parse_max_fds(limits("1024").as_bytes()), Some(1024));
        assert_eq!(parse_max_fds(limits("unlimited").as_bytes()), Some(u64::MAX));
        assert_eq!(parse_max_fds(head.as_bytes()), None);
    }

    #[test]
    fn this_process_is_what_it_is() {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(20) {}
        let facts = process().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(facts.cpu_seconds >= 0.001 && facts.cpu_seconds < 100_000.0, "{facts:?}");
        assert!(facts.resident_bytes > 100_000 && facts.resident_bytes < facts.virtual_bytes, "{facts:?}");
        assert!(facts.open_fds >= 3 && facts.open_fds < facts.max_fds, "{facts:?}");
        assert!(facts.threads >= 1, "{facts:?}");
        // The start is known to a tick.
        assert!((-0.02..100_000.0).contains(&(now - facts.start_time_seconds)), "{facts:?} at {now}");
        assert_eq!(process().unwrap().start_time_seconds.to_bits(), facts.start_time_seconds.to_bits());
    }

    #[test]
    fn an_opened_file_is_one_descriptor_more() {
        // Other tests open files meanwhile: many of ours outweigh theirs.
        let before = process().unwrap().open_fds;
        let files: Vec<fs::File> = (0..200).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = process().unwrap().open_fds;
        assert!(after + 100 > before + files.len() as u64, "{before} before, {after} after {}", files.len());
    }
}
