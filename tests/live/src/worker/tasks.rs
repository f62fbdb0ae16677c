//! Tasks that run, sleep and wait in known ways.

use super::{converse, not_understood};
use crate::{syscalls, truth};
use anyhow::Result;
use nix::sys::wait::waitpid;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

fn busy(length: Duration) {
    let end = Instant::now() + length;
    while Instant::now() < end {
        for step in 0..1000u32 {
            black_box(step);
        }
    }
}

/// Understands `spin MILLISECONDS`.
pub(super) fn spin() -> Result<()> {
    converse("ready", |words| match words {
        ["spin", length] => {
            busy(Duration::from_millis(length.parse()?));
            Ok("done".into())
        }
        other => not_understood(other),
    })
}

/// Understands `nap MILLISECONDS`: two of sleep, a fifth of work, and again.
pub(super) fn nap() -> Result<()> {
    converse("ready", |words| match words {
        ["nap", length] => {
            let end = Instant::now() + Duration::from_millis(length.parse()?);
            while Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
                busy(Duration::from_micros(400));
            }
            Ok("done".into())
        }
        other => not_understood(other),
    })
}

/// Understands `vfork MILLISECONDS`; answers with the nanoseconds it slept.
pub(super) fn vfork() -> Result<()> {
    converse("ready", |words| match words {
        ["vfork", length] => {
            let before = Moment::now()?;
            let child = syscalls::vfork_and_sleep(Duration::from_millis(length.parse()?))?;
            let after = Moment::now()?;
            waitpid(child, None)?;
            Ok(after.slept_since(&before).as_nanos().to_string())
        }
        other => not_understood(other),
    })
}

/// A moment of this task, with how long it had run and waited for a CPU until then.
struct Moment {
    at: Instant,
    active: Duration,
}

impl Moment {
    fn now() -> Result<Self> {
        // Brings the kernel's account of the running task up to date.
        std::thread::yield_now();
        let active = truth::run_and_wait()?;
        Ok(Self { at: Instant::now(), active })
    }

    /// What is neither run nor wait is sleep.
    fn slept_since(&self, before: &Self) -> Duration {
        (self.at - before.at).saturating_sub(self.active.saturating_sub(before.active))
    }
}
