//! The tests, one file per subject.

mod access;
mod agent;
mod cgroups;
mod parts;

use libtest_mimic::Trial;

/// Every test.
pub(crate) fn all() -> Vec<Trial> {
    let mut all = parts::tests();
    all.extend(cgroups::tests());
    all.extend(access::tests());
    all.extend(agent::tests());
    all
}
