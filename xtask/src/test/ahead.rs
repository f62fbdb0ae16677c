//! What the last level needs and what takes longest to build, Kubernetes, built while the levels before it run, by programs that the
//! kernel gives only what nobody else wants of the CPUs. What cargo builds is not: the levels before need it too, and would wait for its
//! lock behind all others.

use super::Level;
use crate::{progress, setup::privilege::Privilege, workspace::Workspace};
use anyhow::{Context as _, Result};
use std::{
    fs::File,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Runs a command in the background of all others, for as long as standard input is held open. A session of its own has its share of the
/// CPUs whatever class it is of, where the kernel groups by sessions: the group's weight is the least then.
const BEHIND_ALL: &str = "\
(echo 19 > /proc/self/autogroup) 2> /dev/null
exec 3<&0
\"$@\" < /dev/null 3<&- &
built=$!
{ read -r _ <&3; kill -KILL -$$; } &
wait $built";

/// A build that goes on; it ends with this process, however that ends.
#[derive(Debug)]
pub(super) struct Ahead {
    build: Child,
    log: PathBuf,
    _held: Option<ChildStdin>,
}

impl Ahead {
    /// Begins, if the cluster is to be brought up here and there is another level before it. What fails is built again when it is needed,
    /// and fails aloud.
    pub(super) fn begin(workspace: &Workspace, levels: &[Level]) -> Option<Self> {
        let is_worthwhile = levels.contains(&Level::Cluster) && levels.len() > 1;
        if !is_worthwhile || Privilege::of_this_process() == Privilege::None {
            return None;
        }
        println!("\ncluster: Kubernetes is built beside the levels before it, in the time that they leave");
        let program = std::env::current_exe().ok()?.into_os_string().into_string().ok()?;
        let begun = Self::start(workspace, &[&program, "cluster", "build-kubernetes"]);
        begun.inspect_err(|error| println!("  it is built when it is needed: {error:#}")).ok()
    }

    fn start(workspace: &Workspace, words: &[&str]) -> Result<Self> {
        let log = workspace.log("build-logs", "cluster-ahead")?;
        let file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let errors = file.try_clone().with_context(|| format!("write {}", log.display()))?;
        let mut command = Command::new("setsid");
        command.args(["chrt", "--idle", "0", "sh", "-c", BEHIND_ALL, "ahead"]).args(words);
        let mut build = command.stdin(Stdio::piped()).stdout(file).stderr(errors).spawn().context("run setsid")?;
        // To wait for the build must not end it.
        let held = build.stdin.take();
        Ok(Self { build, log, _held: held })
    }

    /// Waits for its end.
    pub(super) fn wait(mut self) {
        let mut ended = None;
        progress::wait_for("what is built beside the tests", || {
            ended = self.build.try_wait().transpose();
            ended.is_some()
        });
        // The same is built again, or found.
        if !ended.is_some_and(|status| status.is_ok_and(|status| status.success())) {
            println!("  beside the tests it could not be built: see {}", self.log.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        time::{Duration, Instant},
    };

    fn start(script: &str) -> Ahead {
        Ahead::start(&Workspace::this(), &["sh", "-c", script]).unwrap()
    }

    #[test]
    fn what_is_built_meanwhile_gives_way_to_all_others_and_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("told");
        let script = format!("(chrt --pid $$; cat /proc/self/autogroup) > {}", told.display());
        start(&script).wait();
        let told = fs::read_to_string(told).unwrap();
        assert!(told.contains("SCHED_IDLE"), "{told}");
        assert!(!told.contains("autogroup") || told.contains("nice 19"), "{told}");
    }

    #[test]
    fn what_is_built_meanwhile_ends_with_whoever_began_it() {
        let directory = tempfile::tempdir().unwrap();
        let number = directory.path().join("number");
        let ahead = start(&format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 600", number.display()));
        let wait_for = |what: &str, is_so: &mut dyn FnMut() -> bool| {
            let begun = Instant::now();
            while !is_so() {
                assert!(begun.elapsed() < Duration::from_mins(1), "{what}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        wait_for("it runs", &mut || number.exists());
        let process = PathBuf::from("/proc").join(fs::read_to_string(&number).unwrap().trim());
        assert!(process.exists());
        let Ahead { mut build, _held: held, .. } = ahead;
        drop(held);
        wait_for("it is over", &mut || build.try_wait().unwrap().is_some() && !process.exists());
    }
}
