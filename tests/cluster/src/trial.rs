//! A test: a sentence and what it does. What cannot be tested on this cluster is skipped, with the reason.

use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};
use observer_test_kit::slowest;

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
    let name = sentence.to_owned();
    Trial::ignorable_test(sentence, move || match slowest::timed(&name, run) {
        Ok(Outcome::Passed) => Ok(Completion::Completed),
        Ok(Outcome::Skipped(reason)) => Ok(Completion::ignored_with(reason)),
        Err(error) => Err(Failed::from(format!("{error:#}"))),
    })
}

/// True when the tests have run in another mode of the cluster just before.
pub(crate) fn is_again() -> bool {
    std::env::var_os("OBSERVER_CLUSTER_AGAIN").is_some()
}

/// Whether tests may take longer than they need to.
pub(crate) fn has_time() -> bool {
    std::env::var_os("OBSERVER_LONG").is_some_and(|value| value == "1")
}

/// A test that takes parts of the cluster away, so only of an own one.
pub(crate) fn own(sentence: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    own_perhaps(sentence, || run().map(|()| Outcome::Passed))
}

/// Such a test that finds out by itself whether it can be told here.
pub(crate) fn own_perhaps(sentence: &str, run: impl FnOnce() -> Result<Outcome> + Send + 'static) -> Trial {
    perhaps(sentence, || {
        if crate::cluster::xtask().is_none() {
            return Ok(Outcome::Skipped("the cluster is somebody else's".into()));
        }
        run()
    })
}

/// A test in which nothing depends on the node's hierarchy of cgroups: of several modes, it runs in the first, unless there is time.
pub(crate) fn once(trial: Trial) -> Trial {
    if !is_again() || has_time() {
        return trial;
    }
    let sentence = trial.name().to_owned();
    perhaps(&sentence, || {
        Ok(Outcome::Skipped("does not depend on the mode: ran in the other (in both with OBSERVER_LONG=1)".into()))
    })
}
