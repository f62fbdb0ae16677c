//! Tasks that run, sleep and wait in known ways.

use super::{converse, not_understood};
use crate::syscalls;
use anyhow::Result;
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

/// Understands `vfork MILLISECONDS`; answers with the nanoseconds it took.
pub(super) fn vfork() -> Result<()> {
    converse("ready", |words| match words {
        ["vfork", length] => {
            let start = Instant::now();
            syscalls::vfork_and_sleep(Duration::from_millis(length.parse()?))?;
            Ok(start.elapsed().as_nanos().to_string())
        }
        other => not_understood(other),
    })
}
