//! What the environment says about a run of the tests.

use std::ffi::OsString;

/// Read once, handed to whoever needs it: sudo and guests forget the environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// `OBSERVER_LONG=1`: also what takes minutes, and everything on every kernel.
    pub(crate) long: bool,
}

/// The variable that asks for tests that take minutes; the harness reads the same.
const LONG: &str = "OBSERVER_LONG";

impl Circumstances {
    /// From the environment.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Self { long: variable(LONG).is_some_and(|value| value == "1") }
    }

    /// The settings that the harness is started with, as `NAME=value`.
    pub(crate) fn settings(self) -> Vec<String> {
        if self.long { vec![format!("{LONG}=1")] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_the_harness_means_it_and_handed_on_in_its_words() {
        let read = |long: Option<&str>| {
            Circumstances::read(|name| long.filter(|_| name == "OBSERVER_LONG").map(OsString::from))
        };
        for short in [None, Some(""), Some("0"), Some("yes")] {
            assert!(read(short).settings().is_empty(), "{short:?}");
        }
        assert_eq!(read(Some("1")).settings(), ["OBSERVER_LONG=1"]);
    }
}
