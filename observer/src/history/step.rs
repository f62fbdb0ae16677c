//! The three resolutions.

use std::{fmt, str::FromStr};

/// How much time a row covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Step {
    /// One window of the agent: a second, or its sample interval where that is longer.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl Step {
    /// All of them, the finest first.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// How many seconds a row covers.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }

    /// How many blocks are kept: ten minutes, a day, forty days.
    pub const fn kept(self) -> u64 {
        match self {
            Self::Second => 600,
            Self::Minute => 24 * 60,
            Self::Hour => 40 * 24,
        }
    }

    /// How many more there may be before the oldest are removed together: a removal costs pages written.
    pub(super) const fn slack(self) -> u64 {
        match self {
            Self::Second => 60,
            Self::Minute => 30,
            Self::Hour => 12,
        }
    }

    /// The finest that covers so many seconds.
    pub fn covering(seconds: u64) -> Self {
        let covers = |step: &Self| step.kept() * step.seconds() >= seconds;
        Self::ALL.into_iter().find(covers).unwrap_or(Self::Hour)
    }

    /// When the row begins in which a moment lies.
    pub const fn start_of(self, time: u64) -> u64 {
        time - time % self.seconds()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "1s",
            Self::Minute => "1m",
            Self::Hour => "1h",
        })
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|step| step.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is no step; wanted: 1s, 1m or 1h"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_step_that_reaches_back_is_chosen() {
        assert_eq!(Step::covering(600), Step::Second);
        assert_eq!(Step::covering(601), Step::Minute);
        assert_eq!(Step::covering(24 * 3600), Step::Minute);
        assert_eq!(Step::covering(30 * 24 * 3600), Step::Hour);
        assert_eq!(Step::covering(u64::MAX), Step::Hour);
        for step in Step::ALL {
            assert_eq!(step.to_string().parse(), Ok(step));
        }
    }
}
