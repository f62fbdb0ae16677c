//! The running parts: starting, stopping, and noticing when one ends. None is started again by itself: that a part is gone is
//! something tests have to see.

use super::{
    cgroups::{self, Hierarchies},
    layout::Layout,
    parts::Part,
    process::Process,
    record,
};
use anyhow::{Context, Result, ensure};
use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// The parts that this process is the parent of.
#[derive(Debug)]
pub(super) struct Supervisor {
    layout: Layout,
    hierarchies: Hierarchies,
    running: Mutex<BTreeMap<Part, Child>>,
    ended: Condvar,
}

impl Supervisor {
    /// Of nothing yet.
    pub(super) fn new(layout: Layout, hierarchies: Hierarchies) -> Arc<Self> {
        Arc::new(Self { layout, hierarchies, running: Mutex::default(), ended: Condvar::new() })
    }

    /// Starts a part, unless it runs.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub(super) fn start(self: &Arc<Self>, part: Part) -> Result<()> {
        let mut running = self.running();
        if running.contains_key(&part) {
            return Ok(());
        }
        let path = self.layout.log(part);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("open {}", path.display()))?;
        let mut command = self.command(part.program(&self.layout));
        command.args(part.arguments(&self.layout)).stdin(Stdio::null());
        command.stdout(log.try_clone().context("a log for both streams")?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("start {}", part.program(&self.layout).display()))?;
        let known = Process::named(part.name(), child.id()).context("it ended at once");
        let placed = known.and_then(|process| {
            record::add_process(&process)?;
            cgroups::enter(&self.hierarchies.program(part), child.id())
        });
        if let Err(error) = placed {
            // Not one that nobody knows of.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error.context(format!("start {}", part.name())));
        }
        self.watch(part, child.id());
        running.insert(part, child);
        Ok(())
    }

    /// Notices the end of a part. It stays a zombie, whose number nobody else gets, until this holds the lock.
    fn watch(self: &Arc<Self>, part: Part, pid: u32) {
        let supervisor = Arc::clone(self);
        thread::spawn(move || {
            let pid = Pid::from_raw(pid.cast_signed());
            while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
            if let Some(mut child) = supervisor.running().remove(&part) {
                match child.wait() {
                    Ok(status) => eprintln!("{} ended: {status}", part.name()),
                    Err(error) => eprintln!("{} ended: {error}", part.name()),
                }
            }
            supervisor.ended.notify_all();
        });
    }

    /// Kills a part and waits for its end; one that does not run is stopped already.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub(super) fn stop(&self, part: Part) -> Result<()> {
        let mut running = self.running();
        if let Some(child) = running.get_mut(&part) {
            child.kill().with_context(|| format!("kill {}", part.name()))?;
        }
        while running.contains_key(&part) {
            running = self.ended.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// That a part runs.
    ///
    /// # Errors
    /// When it does not: the end of its log.
    pub(super) fn check(&self, part: Part) -> Result<()> {
        let log = self.layout.log(part);
        let text = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
        ensure!(
            self.running().contains_key(&part),
            "{} ended; the end of {}:\n{}",
            part.name(),
            log.display(),
            super::last_lines(&text(), 5)
        );
        Ok(())
    }

    /// A program with nothing of this process's environment but what a node has.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", self.layout.search_path()).env("HOME", "/root").env("LC_ALL", "C");
        // A signal to the one is none to the others.
        command.process_group(0).current_dir("/");
        command
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Part, Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
