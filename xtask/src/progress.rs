//! Running a program that takes a while: its output goes to a log, the terminal sees what runs and for how long.

use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How often a terminal's line is refreshed.
const REFRESH: Duration = Duration::from_millis(200);
/// How often a line is added where lines cannot be refreshed.
const REMINDER: Duration = Duration::from_secs(30);
/// Lines of the log that an error shows.
const TAIL_LINES: usize = 40;

/// A program that ran.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// What it printed, both streams in the order written.
    pub(crate) output: String,
    log: PathBuf,
    command: String,
}

impl Finished {
    /// Itself when the program succeeded.
    ///
    /// # Errors
    /// When it did not: what ran, how it ended, the end of what it said and where all of it is.
    pub(crate) fn success(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        bail!(
            "`{}` failed ({}); the end of {}:\n{}",
            self.command,
            self.status,
            self.log.display(),
            tail(&self.output)
        );
    }
}

/// Runs `command` under the name `what`, with its output in `log` and no input.
///
/// # Errors
/// When it cannot be started or its log cannot be written. That it failed is for [`Finished::success`].
pub(crate) fn run(what: &str, mut command: Command, log: &Path) -> Result<Finished> {
    let name = command_line(&command);
    let mut file = File::create(log).with_context(|| format!("write {}", log.display()))?;
    writeln!(file, "$ {name}").with_context(|| format!("write {}", log.display()))?;
    let errors = file.try_clone().with_context(|| format!("write {}", log.display()))?;
    // A file and not a pipe: should this program be interrupted, one that goes on to a clean end is not cut off.
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    let started = Instant::now();
    let child = command.spawn().with_context(|| format!("run `{name}`"))?;
    let status = wait(child, what, log, started).with_context(|| format!("wait for `{name}`"))?;
    let output = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(Finished { status, elapsed: started.elapsed(), output, log: log.to_owned(), command: name })
}

fn wait(mut child: Child, what: &str, log: &Path, started: Instant) -> Result<ExitStatus> {
    let mut teller = Teller::new(what, started);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        teller.go_on(|| last_line(log));
    }
}

/// Waits until something is done, and says for how long.
pub(crate) fn wait_for(what: &str, mut is_done: impl FnMut() -> bool) {
    let mut teller = Teller::new(what, Instant::now());
    while !is_done() {
        teller.go_on(String::new);
    }
}

/// Tells of what goes on.
struct Teller<'a> {
    what: &'a str,
    started: Instant,
    reminded: Instant,
    line: Line,
}

impl<'a> Teller<'a> {
    fn new(what: &'a str, started: Instant) -> Self {
        Self { what, started, reminded: started, line: Line::new() }
    }

    /// Waits a moment, and tells of it if it is time for that; `detail` is for who sees a line change.
    fn go_on(&mut self, detail: impl Fn() -> String) {
        let Self { what, started, reminded, line } = self;
        let elapsed = started.elapsed();
        if line.terminal {
            line.show(&format!("  {what}  {}  {}", seconds(elapsed), detail()));
        } else if reminded.elapsed() >= REMINDER {
            *reminded = Instant::now();
            println!("  {what}: {} so far", seconds(elapsed));
        }
        // A quick one is not kept waiting.
        thread::sleep(if elapsed < REFRESH { Duration::from_millis(10) } else { REFRESH });
    }
}

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        self.line.clear();
    }
}

/// A terminal's last line, written again and again.
struct Line {
    terminal: bool,
    shown: bool,
}

impl Line {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), shown: false }
    }

    fn show(&mut self, text: &str) {
        // Without a terminal's width at hand: what fits into the narrowest usual one.
        let text: String = text.chars().filter(|c| !c.is_control()).take(79).collect();
        eprint!("\r\x1b[K{text}");
        self.shown = true;
    }

    fn clear(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

/// A duration as people say it: `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{whole} s"),
        _ => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The last line of a file that is still growing; empty when there is none.
fn last_line(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(512);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().lines().last().unwrap_or_default().trim().to_owned())
    };
    read().unwrap_or_default()
}

/// A command as one would type it, without its environment.
pub(crate) fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_in_the_output_in_the_order_written() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("a.log");
        let finished = run("test", shell("echo one; echo two >&2; echo three"), &log).unwrap();
        assert!(finished.output.ends_with("one\ntwo\nthree\n"), "{}", finished.output);
        finished.success().unwrap();
    }

    #[test]
    fn a_failure_names_the_command_the_log_and_the_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("a.log");
        let error = run("test", shell("echo 'no such luck'; exit 3"), &log).unwrap().success().unwrap_err().to_string();
        for part in ["sh -c", "exit status: 3", log.to_str().unwrap(), "no such luck"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = run("test", Command::new("no-such-program"), &directory.path().join("a.log")).unwrap_err();
        assert!(error.to_string().contains("no-such-program"));
    }

    #[test]
    fn durations_are_as_people_say_them() {
        assert_eq!(seconds(Duration::from_millis(440)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(12)), "12 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }

    #[test]
    fn a_tail_is_the_end() {
        let text = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert!(tail(&text).starts_with("60\n") && tail(&text).ends_with("\n99"));
        assert_eq!(tail("only\n"), "only");
    }
}
