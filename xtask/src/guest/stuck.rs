//! Where the CPUs of a guest are that says nothing any more: asked of QEMU's monitor, since a kernel whose CPUs all wait with
//! interrupts off cannot tell.

use anyhow::{Context, Result};
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The kernel's handlers of a breakpoint: init writes their addresses to the console. And how far each goes at least: what comes after
/// may be another's.
const HANDLERS: [(&str, u64); 4] =
    [("asm_exc_int3", 0x20), ("exc_int3", 0x80), ("poke_int3_handler", 0x80), ("smp_text_poke_int3_handler", 0x80)];
/// How often a CPU is seen there if it is there for ever: by far the most of its time is in these and what they call.
const OFTEN: usize = 3;

const SAMPLES: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The instruction each CPU is at, a few times over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stuck {
    places: Vec<u64>,
}

impl Stuck {
    /// Asks the monitor on a socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn ask(socket: &Path) -> Result<Self> {
        let mut monitor = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        monitor.set_read_timeout(Some(PAUSE))?;
        let mut answers = Vec::new();
        for _ in 0..SAMPLES {
            monitor.write_all(b"info registers -a\n").context("ask QEMU's monitor")?;
            listen(&mut monitor, &mut answers).context("read from QEMU's monitor")?;
        }
        Ok(Self { places: places(&String::from_utf8_lossy(&answers)) })
    }

    /// Whether a CPU is in a breakpoint's handler again and again; their addresses are on the console.
    pub(super) fn in_a_breakpoint(&self, console: &str) -> bool {
        let handlers: Vec<_> = console.lines().filter_map(handler).collect();
        let seen = self.places.iter().filter(|at| handlers.iter().any(|handler| handler.contains(at)));
        seen.count() >= OFTEN
    }

    /// For whoever looks them up.
    pub(super) fn told(&self) -> String {
        let mut distinct = self.places.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let places: Vec<_> = distinct.iter().map(|place| format!("{place:x}")).collect();
        format!("its CPUs were at {}", places.join(", "))
    }
}

/// Where the handler is that a line of the console tells of: `ffffffff81c00b00 T asm_exc_int3`.
fn handler(line: &str) -> Option<Range<u64>> {
    let mut words = line.split_whitespace();
    let from = u64::from_str_radix(words.next()?, 16).ok()?;
    let name = words.nth(1)?;
    let (_, bytes) = HANDLERS.iter().find(|(known, _)| *known == name)?;
    Some(from..from + bytes)
}

/// What comes within the pause.
fn listen(monitor: &mut UnixStream, answers: &mut Vec<u8>) -> Result<()> {
    let end = Instant::now() + PAUSE;
    let mut piece = [0; 16_384];
    while Instant::now() < end {
        match monitor.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answers.extend_from_slice(&piece[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The values of `RIP=ffffffff81000000`.
fn places(answers: &str) -> Vec<u64> {
    let words = answers.split_whitespace().filter_map(|word| word.strip_prefix("RIP="));
    words.filter_map(|digits| u64::from_str_radix(digits, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "CPU#0\r\nRAX=0000000000000001 RBX=0\r\nRIP=ffffffff81c00b12 RFL=00000002\r\nCPU#1\r\nRIP=ffffffff8110a0c4 RFL=0\r\n";

    #[test]
    fn a_cpu_in_a_breakpoints_handler_is_told_from_one_that_spins_on_a_lock() {
        let stuck = Stuck { places: places(&ANSWER.repeat(OFTEN)) };
        assert_eq!(stuck.places[..2], [0xffff_ffff_81c0_0b12, 0xffff_ffff_8110_a0c4]);
        assert_eq!(stuck.told(), "its CPUs were at ffffffff8110a0c4, ffffffff81c00b12");
        let console = "[1.0] booting\nffffffff81c00b00 T asm_exc_int3\n";
        assert!(stuck.in_a_breakpoint(console));
        assert!(!Stuck { places: places(ANSWER) }.in_a_breakpoint(console), "once is nothing");
        // What lies behind it is the stub of something else.
        assert!(!stuck.in_a_breakpoint("ffffffff81c00ad0 T asm_exc_int3\nffffffff81c00b10 T asm_exc_page_fault\n"));
        assert!(!Stuck::default().in_a_breakpoint(console));
    }
}
