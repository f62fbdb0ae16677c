//! The commit that an image is made of, and its time, which is that of everything in the image.

use crate::{toolchain::probe::said, workspace::Workspace};
use anyhow::{Context, Result};
use std::process::Command;

/// A commit, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// `SOURCE_DATE_EPOCH` where that is set, else the commit's date, in seconds since 1970; 0 outside of a repository.
    pub(crate) seconds: u64,
    /// The same as people write it: `2026-01-31T12:00:00Z`.
    pub(crate) text: String,
    /// Its name, with `-dirty` where the work tree differs from it; none outside of a repository.
    pub(crate) revision: Option<String>,
}

impl Commit {
    /// The one that is checked out.
    ///
    /// # Errors
    /// When `SOURCE_DATE_EPOCH` is not a number.
    pub(crate) fn of(workspace: &Workspace) -> Result<Self> {
        let git = |arguments: &[&str]| said(Command::new("git").current_dir(workspace.root()).args(arguments));
        let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => {
                epoch.parse().with_context(|| format!("SOURCE_DATE_EPOCH is `{epoch}`: not a number of seconds"))?
            }
            Err(_) => git(&["log", "-1", "--format=%ct"]).and_then(|date| date.trim().parse().ok()).unwrap_or(0),
        };
        let revision = git(&["describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]);
        let revision = revision.map(|name| name.trim().to_owned());
        Ok(Self { seconds, text: text(seconds)?, revision })
    }
}

/// The time as RFC 3339 has it, in UTC.
pub(crate) fn text(seconds: u64) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", &format!("--date=@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]);
    Ok(said(&mut date).context("`date` does not say what date it was")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc() {
        assert_eq!(text(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(text(1_767_225_600).unwrap(), "2026-01-01T00:00:00Z");
    }
}
