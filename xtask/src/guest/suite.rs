//! The live tests on every kernel of the matrix: the level `kernels` of `cargo xtask test`.

use super::command::MODULES;
use super::kernels::{self, Kernel};
use super::machine::{self, Guest, GuestFile};
use super::programs;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Debian packages that the guests need.
pub(crate) const PACKAGES: [&str; 2] = ["qemu-system-x86", "busybox-static"];

/// Each guest has two virtual CPUs and no hardware help: more of them at a time only slow each other down.
const AT_A_TIME: usize = 2;

/// For the whole suite on one kernel.
const TIMEOUT: Duration = Duration::from_mins(15);

/// What came of the tests on all kernels.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Tests that passed, over all kernels.
    pub(crate) passed: usize,
    /// One line for each that failed, with its kernel; a guest that did not finish is one.
    pub(crate) failed: Vec<String>,
    /// One line for each test, kernel or the whole level that was left out, with the reason.
    pub(crate) skipped: Vec<String>,
}

/// Runs the live tests that `filters` (passed on to the harness) choose on every kernel, and prints each result as it comes, the kernel first.
///
/// What this machine cannot do (no QEMU, no Debian archive, no network for the first fetch) is skipped with its reason.
///
/// # Errors
/// When the test binaries do not build.
pub(crate) fn run(root: &Path, filters: &[String]) -> Result<Summary> {
    let mut summary = Summary::default();
    if let Err(error) = is_possible() {
        summary.skipped.push(format!("kernels: {error:#}"));
        return Ok(summary);
    }
    let mut kernels = Vec::new();
    for entry in kernels::fetch(&root.join("target/kernels"), &mut |line| eprintln!("{line}")) {
        match entry.kernel {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => summary.skipped.push(format!("kernels of {}: {error:#}", entry.suite)),
        }
    }
    if kernels.is_empty() {
        return Ok(summary);
    }
    let files = binaries(root)?;
    let (next, summary) = (AtomicUsize::new(0), Mutex::new(summary));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let of_this = run_on(kernel, &files, filters);
                    summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(of_this);
                }
            });
        }
    });
    Ok(summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// `observer` and `observer-live`, statically linked, in /bin.
///
/// # Errors
/// When they do not build.
pub(crate) fn binaries(root: &Path) -> Result<Vec<GuestFile>> {
    let packages = ["observer", "observer-live"];
    let built = programs::build_static(root, &packages)?;
    let file = |name: &str| GuestFile { host: built.join(name), guest: format!("/bin/{name}"), mode: 0o755 };
    Ok(packages.into_iter().map(file).collect())
}

/// The tools on this machine, before anything is fetched or built.
fn is_possible() -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the guests run x86-64 binaries, and this machine builds others");
    let qemu = Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status();
    qemu.context("no qemu-system-x86_64 here: install qemu-system-x86")?;
    machine::busybox().map(drop)
}

fn run_on(kernel: &Kernel, files: &[GuestFile], filters: &[String]) -> Summary {
    let mut summary = Summary::default();
    let label = &kernel.label;
    let filters: Vec<_> = filters.iter().map(|word| super::command::quoted(word)).collect();
    let guest = Guest {
        kernel: kernel.clone(),
        files: files.to_vec(),
        modules: MODULES.map(str::to_owned).to_vec(),
        command: format!(
            "OBSERVER_BIN=/bin/observer exec observer-live --guest-suite --test-threads=1 {}",
            filters.join(" ")
        ),
        bring: Vec::new(),
        timeout: TIMEOUT,
    };
    let outcome = guest.run(&mut |line| {
        println!("{label}: {line}");
        summary.note(label, line);
    });
    match outcome {
        Ok(run) if run.exit_code != 0 && summary.failed.is_empty() => {
            summary.failed.push(format!("{label}: the tests ended with exit code {}\n{}", run.exit_code, run.console));
        }
        Ok(_) => {}
        Err(error) => summary.failed.push(format!("{label}: {error:#}")),
    }
    summary
}

impl Summary {
    /// Counts the line if it is a test's result as libtest and its like print it: `test NAME ... ok`.
    fn note(&mut self, label: &str, line: &str) {
        let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            return;
        };
        let line = format!("{label}: {}", name.trim_end());
        if result == "ok" {
            self.passed += 1;
        } else if result.starts_with("FAILED") {
            self.failed.push(line);
        } else if result.starts_with("ignored") {
            self.skipped.push(line);
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
    fn result_lines_are_counted_and_nothing_else_is() {
        let mut summary = Summary::default();
        let lines = "running 3 tests\ntest bytes::tcp ... ok\ntest wait ... FAILED\ntest dload        ... ignored\n\
                     the test of ... nothing\ntest result: FAILED. 1 passed; 1 failed; 1 ignored\n";
        for line in lines.lines() {
            summary.note("6.1", line);
        }
        assert_eq!(summary.passed, 1);
        assert_eq!(summary.failed, ["6.1: wait"]);
        assert_eq!(summary.skipped, ["6.1: dload"]);
    }
}
