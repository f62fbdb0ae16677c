//! A process by its number and the time of its start, which together are never used again.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fmt, fs, str::FromStr};

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// What it is: the name of a part, or `node`.
    pub(super) name: String,
    /// Its number.
    pub(super) pid: u32,
    /// When it started, in clock ticks since boot: `proc_pid_stat(5)`, field 22.
    start: u64,
}

impl Process {
    /// The process that has that number now; none when there is no such process.
    pub(super) fn named(name: &str, pid: u32) -> Option<Self> {
        let (_state, start) = state_and_start(pid)?;
        Some(Self { name: name.to_owned(), pid, start })
    }

    /// Every process of its mount namespace, itself among them. None when it has ended, and none when that is also the one of
    /// the caller: those are not its companions but the machine.
    pub(super) fn companions(&self) -> Vec<Self> {
        let mounts = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let (its, own) = (mounts(self.pid).filter(|_| self.is_alive()), mounts(std::process::id()));
        if its.is_none() || own.is_none() || its == own {
            return Vec::new();
        }
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| mounts(*pid) == its).filter_map(|pid| Self::named(&self.name, pid)).collect()
    }

    /// Kills it, unless it has ended.
    pub(super) fn kill(&self) {
        if self.is_alive() {
            // It may have ended just then.
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL);
        }
    }

    /// True while it runs. One that has ended and waits for its parent to notice does not.
    pub(super) fn is_alive(&self) -> bool {
        state_and_start(self.pid).is_some_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X'))
    }
}

fn state_and_start(pid: u32) -> Option<(char, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// State and start from a line of /proc/PID/stat. The name, second, may hold spaces and parentheses.
fn parse(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, pid, start } = self;
        write!(f, "{name} {pid} {start}")
    }
}

impl FromStr for Process {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<_> = line.split(' ').collect();
        let [name, pid, start] = words[..] else { return Err(()) };
        Ok(Self { name: name.to_owned(), pid: pid.parse().map_err(drop)?, start: start.parse().map_err(drop)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_separates_the_fields() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 2 18446744073709551615";
        assert_eq!(parse(stat), Some(('S', 4711)));
        assert_eq!(parse("12 (a"), None);
    }

    #[test]
    fn a_process_is_itself_and_no_other_of_its_number() {
        let own = Process::named("test", std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { start: own.start + 1, ..own.clone() }.is_alive());
        assert_eq!(own.to_string().parse(), Ok(own));
        assert_eq!("half a line".parse::<Process>(), Err(()));
    }

    #[test]
    fn the_processes_of_the_machine_are_nobodys_companions() {
        let own = Process::named("test", std::process::id()).unwrap();
        assert_eq!(own.companions(), []);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(Process::named("sleep", child.id()).unwrap().companions(), []);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn one_that_has_ended_is_not_alive_though_nobody_has_waited_for_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::named("sleep", child.id()).unwrap();
        assert!(process.is_alive());
        child.kill().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while process.is_alive() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!process.is_alive());
        child.wait().unwrap();
    }
}
