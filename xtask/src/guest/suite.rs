//! The live tests on every kernel of the matrix: the level `kernels` of `cargo xtask test`.

use super::command::{MODULES, quoted};
use super::kernels::{self, Kernel};
use super::machine::{self, EmulatorFault, Guest, GuestFile, GuestRun};
use super::programs;
use super::results::Results;
use crate::test::{Circumstances, skipped::Skipped};
use crate::workspace::Workspace;
use anyhow::{Context, Error, Result};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Programs of this machine that tests in a guest use when they are there.
const PROGRAMS: [&str; 2] = ["ip", "stress-ng"];

/// Each guest has two virtual CPUs and no hardware help: more of them at a time only slow each other down.
const AT_A_TIME: usize = 2;

/// For what every kernel must show, on one: more than twice what it takes on two CPUs that others use, too.
const TIMEOUT: Duration = Duration::from_mins(25);

/// The same for the whole suite, which takes a quarter of an hour.
const LONG_TIMEOUT: Duration = Duration::from_hours(1);

/// Several times as long as the longest of those tests takes.
const SILENCE: Duration = Duration::from_mins(3);

/// A guest that dies of an emulator's fault is started again; this often at most.
const ATTEMPTS: usize = 3;

/// What came of the tests on all kernels. The line of a failure starts with its kernel: `6.1: name_of_the_test`.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Tests that passed, over all kernels.
    pub(crate) passed: usize,
    /// One line for each that failed; a guest that did not finish is one.
    pub(crate) failed: Vec<String>,
    /// Each test, kernel or the whole level that was left out.
    pub(crate) skipped: Vec<Skipped>,
}

/// Runs the live tests that `arguments` (filters and flags of the harness) choose on every kernel: those that each must show, all of
/// them when there is time. `on_line` gets every line that is said as it comes, each with its kernel in front.
///
/// What this machine cannot do (no QEMU, no Debian archive, no network for the first fetch) is skipped with its reason, and failed
/// in CI.
///
/// # Errors
/// When the test binaries do not build.
pub(crate) fn run(
    workspace: &Workspace,
    arguments: &[String],
    circumstances: Circumstances,
    on_line: &(dyn Fn(&str) + Sync),
) -> Result<Summary> {
    let mut summary = Summary::default();
    if !cfg!(target_arch = "x86_64") {
        let reason = "the guests run x86-64 binaries, and this machine builds others";
        summary.skipped.push(Skipped::all_of("every kernel", reason));
        return Ok(summary);
    }
    let busybox = match is_possible(workspace) {
        Ok(busybox) => busybox,
        Err(error) => {
            summary.leave_out("every kernel", &error, circumstances);
            return Ok(summary);
        }
    };
    let mut kernels = Vec::new();
    for entry in kernels::fetch(&kernels::directory(workspace), &mut |line| on_line(line)) {
        match entry.kernel {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => summary.leave_out(&format!("the kernel of Debian {}", entry.suite), &error, circumstances),
        }
    }
    if kernels.is_empty() {
        return Ok(summary);
    }
    let mut files = programs::driven(workspace)?;
    // What is not installed is not there in the guest either, and the tests that need it say so.
    files.extend(PROGRAMS.iter().filter_map(|name| programs::with_libraries(name).ok()).flatten());
    let (timeout, silence) = if circumstances.long { (LONG_TIMEOUT, LONG_TIMEOUT) } else { (TIMEOUT, SILENCE) };
    let plan = Plan { busybox, files, command: command(arguments, circumstances), timeout, silence };
    summary.add(run_on_all(&kernels, &plan, on_line));
    Ok(summary)
}

/// The tools on this machine, before anything is fetched or built: the busybox.
fn is_possible(workspace: &Workspace) -> Result<PathBuf> {
    let qemu = Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status();
    qemu.context("no qemu-system-x86_64 here: install qemu-system-x86")?;
    machine::busybox(workspace)
}

/// What is the same on every kernel.
struct Plan {
    busybox: PathBuf,
    files: Vec<GuestFile>,
    /// Shell text.
    command: String,
    timeout: Duration,
    silence: Duration,
}

/// A guest has no environment but what its command says.
fn command(arguments: &[String], circumstances: Circumstances) -> String {
    let settings = circumstances.settings().into_iter().chain(["OBSERVER_BIN=/bin/observer".to_owned()]);
    let arguments = arguments.iter().map(|word| quoted(word));
    let words = settings.chain(["exec observer-live --guest".to_owned()]).chain(arguments);
    words.collect::<Vec<_>>().join(" ")
}

fn run_on_all(kernels: &[Kernel], plan: &Plan, on_line: &(dyn Fn(&str) + Sync)) -> Summary {
    let (next, summary) = (AtomicUsize::new(0), Mutex::new(Summary::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let of_this = run_on(kernel, plan, on_line);
                    summary.lock().unwrap_or_else(PoisonError::into_inner).add(of_this);
                }
            });
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run_on(kernel: &Kernel, plan: &Plan, on_line: &dyn Fn(&str)) -> Summary {
    let label = &kernel.label;
    let Plan { busybox, files, command, timeout, silence } = plan;
    let guest = Guest {
        kernel: kernel.clone(),
        busybox: busybox.clone(),
        files: files.clone(),
        modules: MODULES.map(str::to_owned).to_vec(),
        command: command.clone(),
        bring: Vec::new(),
        timeout: *timeout,
        silence: *silence,
    };
    let mut attempt = 1;
    loop {
        let mut results = Results::default();
        let outcome = guest.run(&mut |line| {
            on_line(&format!("{label}: {line}"));
            results.read(line);
        });
        match outcome {
            Err(error) if attempt < ATTEMPTS && error.is::<EmulatorFault>() => {
                on_line(&format!("{label}: once more, all of it: {error:#}"));
                attempt += 1;
            }
            outcome => return summary(kernel, outcome, &results, on_line),
        }
    }
}

fn summary(kernel: &Kernel, outcome: Result<GuestRun>, results: &Results, on_line: &dyn Fn(&str)) -> Summary {
    let label = &kernel.label;
    let ended = outcome.and_then(|run| {
        let (seconds, boot) = (run.seconds, run.boot_seconds);
        on_line(&format!("{label}: {} in {seconds:.0} s, of which {boot:.0} s to boot", kernel.release));
        run.console.lines().for_each(|line| on_line(&format!("{label}: console: {line}")));
        results.complete(run.exit_code)
    });
    let mut summary = Summary { passed: results.passed, ..Summary::default() };
    summary.failed.extend(ended.err().map(|error| format!("{label}: {error:#}")));
    summary.failed.extend(results.failures().map(|failure| format!("{label}: {failure}")));
    summary.skipped.extend(results.skipped.iter().map(|test| test.clone().on(label)));
    summary
}

impl Summary {
    /// Notes what could not be tested. Where nobody reads what a run says as long as it passes, that is a failure.
    fn leave_out(&mut self, what: &str, error: &Error, circumstances: Circumstances) {
        if circumstances.ci {
            self.failed.push(format!("{what}: {error:#}"));
        } else {
            self.skipped.push(Skipped::all_of(what, format!("{error:#}")));
        }
    }

    fn add(&mut self, other: Self) {
        let Self { passed, failed, skipped } = other;
        self.passed += passed;
        self.failed.extend(failed);
        self.skipped.extend(skipped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_cannot_be_had_is_a_failure_in_ci_and_a_skip_elsewhere() {
        let left_out = |ci| {
            let mut summary = Summary::default();
            let error = anyhow::anyhow!("no route").context("fetch the package lists of sid");
            summary.leave_out("the kernel of Debian sid", &error, Circumstances { ci, ..Circumstances::default() });
            summary
        };
        let said = "the kernel of Debian sid: fetch the package lists of sid: no route";
        assert_eq!((left_out(true).failed, left_out(true).skipped), (vec![said.to_owned()], vec![]));
        let elsewhere = left_out(false);
        assert!(elsewhere.failed.is_empty());
        assert_eq!(elsewhere.skipped[0].to_string(), format!("NOT TESTED: {said}"));
    }

    #[test]
    fn the_wish_for_the_whole_suite_reaches_the_guest() {
        let arguments = ["tcp v4".to_owned()];
        let short = Circumstances::default();
        assert_eq!(command(&arguments, short), "OBSERVER_BIN=/bin/observer exec observer-live --guest 'tcp v4'");
        let long = Circumstances { long: true, ..short };
        assert!(command(&arguments, long).starts_with("OBSERVER_LONG=1 OBSERVER_BIN=/bin/observer exec "));
    }
}
