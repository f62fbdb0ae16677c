//! Waiting for something that is to come about, for a bounded time.

use anyhow::Result;
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// Asks every 20 ms until the answer is yes; false when it did not come in time.
///
/// # Errors
/// Those of the answer.
pub fn wait_until(limit: Duration, mut answer: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        if answer()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        sleep(Duration::from_millis(20));
    }
}
