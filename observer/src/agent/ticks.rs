//! When the next reading is due, by a timer of the kernel's. The runtime's own wheel of timers wakes once more on the way to each, and an
//! agent that has nothing else to do would wake up twice as often.

use crate::kernel::Readiness;
use nix::sys::{
    time::TimeSpec,
    timer::{Expiration, TimerSetTimeFlags},
    timerfd::{ClockId, TimerFd, TimerFlags},
};
use std::{io, os::fd::AsFd as _, time::Duration};

/// Ticks that are at least `every` apart: one that comes late moves those that follow.
#[derive(Debug)]
pub(super) struct Ticks {
    timer: TimerFd,
    rings: Readiness,
    every: Duration,
}

impl Ticks {
    /// The first one comes after `every`. Needs a tokio runtime.
    pub(super) fn every(every: Duration) -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let rings = Readiness::new(timer.as_fd().try_clone_to_owned()?)?;
        let ticks = Self { timer, rings, every };
        ticks.wind_up()?;
        Ok(ticks)
    }

    /// Waits for the next tick, and winds the timer up for the one after.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        self.rings.wait().await?;
        self.wind_up()
    }

    /// What the timer has told and nobody has read is forgotten with that.
    fn wind_up(&self) -> io::Result<()> {
        let after = Expiration::OneShot(TimeSpec::from_duration(self.every));
        Ok(self.timer.set(after, TimerSetTimeFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn ticks_are_apart_even_after_one_that_came_late() {
        let every = Duration::from_millis(40);
        let started = Instant::now();
        let mut ticks = Ticks::every(every).unwrap();
        ticks.next().await.unwrap();
        assert!(started.elapsed() >= every);
        std::thread::sleep(every * 3);
        // Winds the timer up for the next.
        let late = Instant::now();
        ticks.next().await.unwrap();
        ticks.next().await.unwrap();
        assert!(late.elapsed() >= every, "{:?}", late.elapsed());
    }
}
