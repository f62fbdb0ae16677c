//! A test: a sentence and what it does. What cannot be tested on this cluster is skipped, with the reason.

use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};

/// What a test came to, unless it failed.
pub(crate) enum Outcome {
    /// It holds.
    Passed,
    /// It cannot be told here.
    Skipped(String),
}

/// A test as the harness takes it.
pub(crate) fn test(sentence: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    perhaps(sentence, || run().map(|()| Outcome::Passed))
}

/// A test that finds out by itself whether it can be told here.
pub(crate) fn perhaps(sentence: &str, run: impl FnOnce() -> Result<Outcome> + Send + 'static) -> Trial {
    Trial::ignorable_test(sentence, move || match run() {
        Ok(Outcome::Passed) => Ok(Completion::Completed),
        Ok(Outcome::Skipped(reason)) => Ok(Completion::ignored_with(reason)),
        Err(error) => Err(Failed::from(format!("{error:#}"))),
    })
}

/// A test that takes parts of the cluster away, so only of an own one.
pub(crate) fn own(sentence: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    perhaps(sentence, || {
        if crate::cluster::xtask().is_none() {
            return Ok(Outcome::Skipped("the cluster is somebody else's".into()));
        }
        run().map(|()| Outcome::Passed)
    })
}
