//! Storms of forks, vforks and switches, bounded in time and in processes: what stress-ng does where it is installed.

use super::converse;
use crate::syscalls;
use anyhow::{Context as _, Result, bail};
use nix::sys::wait::waitpid;
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// Understands `storm fork|vfork|switch MILLISECONDS`; answers with the number of rounds.
pub(super) fn storm() -> Result<()> {
    converse("ready", |words| {
        let ["storm", kind, length] = words else { return super::not_understood(words) };
        let end = Instant::now() + Duration::from_millis(length.parse()?);
        let mut rounds = 0u64;
        match *kind {
            "fork" => {
                while Instant::now() < end {
                    for _ in 0..8 {
                        syscalls::fork_and_exit()?;
                    }
                    while !syscalls::reap_all() {
                        std::thread::yield_now();
                    }
                    rounds += 8;
                }
            }
            "vfork" => {
                while Instant::now() < end {
                    waitpid(syscalls::vfork_and_sleep(Duration::ZERO)?, None)?;
                    rounds += 1;
                }
            }
            "switch" => rounds = switch_until(end)?,
            other => bail!("{other} is no storm"),
        }
        Ok(rounds.to_string())
    })
}

/// Two threads pass a byte to and fro.
fn switch_until(end: Instant) -> Result<u64> {
    let (mut here, mut there) = UnixStream::pair()?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while there.read_exact(&mut byte).is_ok() && there.write_all(&byte).is_ok() {}
    });
    let mut rounds = 0;
    while Instant::now() < end {
        here.write_all(b".")?;
        here.read_exact(&mut [0])?;
        rounds += 1;
    }
    drop(here);
    echo.join().ok().context("the echo thread")?;
    Ok(rounds)
}
