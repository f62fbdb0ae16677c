//! What a guest says on its serial ports, and when it has said all.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Starts the closing line: a control character (record separator) that no test prints.
const CLOSING: u8 = 0x1e;

/// How much of the console an error shows.
const CONSOLE_LINES: usize = 25;

/// The lines that tell most: where a kernel's trouble starts, else the last.
pub(super) fn excerpt(console: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = console.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let trouble = |line: &&str| ["BUG:", "Oops", "int3:", "Kernel panic"].iter().any(|word| line.contains(word));
    let start = lines.iter().position(trouble).unwrap_or(lines.len().saturating_sub(CONSOLE_LINES));
    lines.into_iter().skip(start).take(CONSOLE_LINES)
}

/// The console's lines after the one with the nonce, without the farewell of a kernel that powers off.
pub(super) fn since(console: &str, nonce: &str) -> String {
    let lines = console.split_once(nonce).map_or("", |(_, after)| after).lines();
    let told = lines.filter(|line| !line.is_empty() && !line.ends_with("reboot: Power down"));
    told.collect::<Vec<_>>().join("\n")
}

/// What a port wrote to a file; nothing when there is none.
pub(super) fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\r', "")
}

/// QEMU while it runs, ended when dropped.
pub(super) struct Running {
    child: Child,
    output: Receiver<Vec<u8>>,
    complaints: Receiver<Vec<u8>>,
}

impl Running {
    /// Starts to read what it says.
    pub(super) fn new(mut child: Child) -> Self {
        let output = pieces(child.stdout.take());
        let complaints = pieces(child.stderr.take());
        Self { child, output, complaints }
    }

    /// All that the command's port says until QEMU ends; `on_line` gets each line of the command's output.
    ///
    /// # Errors
    /// When it does not end before the deadline, says nothing for that long, or fails.
    pub(super) fn follow(
        &mut self,
        deadline: Instant,
        silence: Duration,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Vec<u8>> {
        let mut output = Vec::new();
        let mut shown = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left.min(silence)) {
                Ok(piece) => output.extend_from_slice(&piece),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let last = String::from_utf8_lossy(&output[output.len().saturating_sub(2000)..]).into_owned();
                    let what = if left > silence { "it says nothing any more" } else { "its time is up" };
                    bail!("{what}; it last said:\n{last}")
                }
            }
            while let Some(length) = output[shown..].iter().position(|byte| *byte == b'\n') {
                show(&output[shown..shown + length], on_line);
                shown += length + 1;
            }
        }
        let status = self.child.wait().context("wait for QEMU")?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(output)
    }

    /// Ends it; what it said on stderr.
    pub(super) fn complaints(&mut self) -> String {
        self.end();
        let bytes: Vec<u8> = self.complaints.iter().flatten().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn end(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Hands on a line, or what the command wrote before the closing line without ending its own.
fn show(line: &[u8], on_line: &mut dyn FnMut(&str)) {
    let mut parts = line.split(|byte| *byte == CLOSING);
    let said = parts.next().unwrap_or_default();
    if !said.is_empty() || parts.next().is_none() {
        on_line(String::from_utf8_lossy(said).trim_end_matches('\r'));
    }
}

/// Reads a pipe to its end in a thread of its own.
fn pieces(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The last line of the command's port: `<0x1e>NONCE exit=0 archive=0 booted=2.1`.
#[derive(Debug, PartialEq)]
pub(super) struct Closing {
    /// The command's exit status.
    pub(super) exit_code: i32,
    /// Bytes of the archive on the third port.
    pub(super) archive: usize,
    /// Seconds from the kernel's start to the command's.
    pub(super) booted: f64,
}

impl Closing {
    /// Finds the closing line at the end of what the command's port said.
    ///
    /// # Errors
    /// When it is not there or cut short.
    pub(super) fn read(bytes: &[u8], nonce: &str) -> Result<Self> {
        let position = bytes.iter().rposition(|byte| *byte == CLOSING).context("its output has no end")?;
        let line = String::from_utf8_lossy(&bytes[position + 1..]).into_owned();
        let mut words = line.split_whitespace();
        ensure!(words.next() == Some(nonce), "its output has no end");
        let mut field = |name: &str| words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
        let closing = (|| {
            let exit_code = field("exit")?.parse().ok()?;
            Some(Self { exit_code, archive: field("archive")?.parse().ok()?, booted: field("booted")?.parse().ok()? })
        })();
        closing.with_context(|| format!("its closing line is cut short: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_ends_where_the_closing_line_with_this_runs_nonce_starts() {
        let closing = Closing::read(b"one\ntwo\x1en1 exit=3 archive=512 booted=2.25\n", "n1").unwrap();
        assert_eq!(closing, Closing { exit_code: 3, archive: 512, booted: 2.25 });
    }

    #[test]
    fn every_line_is_shown_and_the_closing_one_is_not() {
        let mut lines = Vec::new();
        for line in [&b"one\r"[..], b"", b"no end of line\x1en1 exit=0", b"\x1en1 exit=0"] {
            show(line, &mut |line| lines.push(line.to_owned()));
        }
        assert_eq!(lines, ["one", "", "no end of line"]);
    }

    #[test]
    fn an_excerpt_starts_where_the_trouble_does() {
        let quiet = (0..100).map(|number| format!("line {number}")).collect::<Vec<_>>().join("\n");
        assert_eq!(excerpt(&quiet).next(), Some("line 75"));
        let oops = format!("booting\n[1.0] BUG: kernel NULL pointer\n{quiet}");
        assert_eq!(excerpt(&oops).next(), Some("[1.0] BUG: kernel NULL pointer"));
        assert_eq!(excerpt(&oops).count(), CONSOLE_LINES);
        assert_eq!(excerpt("").count(), 0);
    }

    #[test]
    fn the_console_of_a_run_starts_after_boot() {
        let console = "[0.1] mtrr: odd\nn1\n[2.0] WARNING: here\n[3.0] reboot: Power down\n";
        assert_eq!(since(console, "n1"), "[2.0] WARNING: here");
        assert_eq!(since("[3.0] reboot: Power down\n", "n1"), "");
    }

    #[test]
    fn output_that_was_cut_short_is_an_error() {
        for bytes in [&b"one\n"[..], b"", b"one\n\x1eother exit=0 archive=0 booted=1\n", b"one\n\x1en1 exit=0 arch"] {
            assert!(Closing::read(bytes, "n1").is_err(), "{bytes:?}");
        }
    }
}
