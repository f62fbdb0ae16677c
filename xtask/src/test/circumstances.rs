//! What the environment says about a run of the tests.

use std::ffi::OsString;

/// Read once, handed to whoever needs it: sudo and guests forget the environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// `OBSERVER_LONG=1`: also what takes minutes, and everything on every kernel.
    pub(crate) long: bool,
    /// `CI` is set, as every service sets it: what should have been tested and could not be is a failure.
    pub(crate) ci: bool,
}

/// The variable that asks for tests that take minutes; the harness reads the same.
const LONG: &str = "OBSERVER_LONG";

impl Circumstances {
    /// From the environment.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let ci = variable("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0");
        Self { long: variable(LONG).is_some_and(|value| value == "1"), ci }
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
    fn the_environment_is_read_as_the_harness_and_the_services_mean_it_and_handed_on_in_their_words() {
        let read = |ci: Option<&str>, long: Option<&str>| {
            Circumstances::read(|name| match name {
                "CI" => ci.map(OsString::from),
                "OBSERVER_LONG" => long.map(OsString::from),
                _ => None,
            })
        };
        assert_eq!(read(None, None), Circumstances::default());
        assert_eq!(read(Some("true"), Some("1")), Circumstances { long: true, ci: true });
        assert_eq!(read(Some("false"), Some("0")), Circumstances::default());
        assert_eq!(read(Some(""), Some("")), Circumstances::default());
        assert_eq!(read(None, Some("1")).settings(), ["OBSERVER_LONG=1"]);
        assert!(read(Some("1"), None).settings().is_empty());
    }
}
