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

/// Understands `vfork MILLISECONDS`; answers with the least and the most nanoseconds that it can have slept.
pub(super) fn vfork() -> Result<()> {
    converse("ready", |words| match words {
        ["vfork", length] => {
            let before = Moment::now()?;
            let child = syscalls::vfork_and_sleep(Duration::from_millis(length.parse()?))?;
            let after = Moment::now()?;
            waitpid(child, None)?;
            let (least, most) = after.slept_since(&before);
            Ok(format!("{} {}", least.as_nanos(), most.as_nanos()))
        }
        other => not_understood(other),
    })
}

/// How long this task had run and waited for a CPU at a moment between two others.
struct Moment {
    not_before: Instant,
    active: Duration,
    not_after: Instant,
}

impl Moment {
    fn now() -> Result<Self> {
        let not_before = Instant::now();
        // Brings the kernel's account of the running task up to date.
        std::thread::yield_now();
        let active = truth::run_and_wait()?;
        Ok(Self { not_before, active, not_after: Instant::now() })
    }

    /// What is neither run nor wait is sleep: at least, and at most.
    fn slept_since(&self, before: &Self) -> (Duration, Duration) {
        let active = self.active.saturating_sub(before.active);
        let least = self.not_before - before.not_after;
        let most = self.not_after - before.not_before;
        (least.saturating_sub(active), most.saturating_sub(active))
    }
}
