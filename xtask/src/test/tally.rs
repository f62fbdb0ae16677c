//! Results of a level: how many tests passed, which failed, which were left out.

use super::skipped::Skipped;
use crate::guest::results::Results;

/// Counts and names. A failed test is a line, with the reason where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Those that failed.
    pub(crate) failed: Vec<String>,
    /// Those that were left out.
    pub(crate) skipped: Vec<Skipped>,
}

impl Tally {
    /// A single test that passed.
    pub(crate) fn one_passed() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// A single test that failed.
    pub(crate) fn one_failed(line: impl Into<String>) -> Self {
        Self { failed: vec![line.into()], ..Self::default() }
    }

    /// A level that was left out as a whole.
    pub(crate) fn left_out(reason: impl Into<String>) -> Self {
        Self { skipped: vec![Skipped::all_of("all of it", reason)], ..Self::default() }
    }

    /// Reads what `cargo test`, or a harness by itself, printed. One that broke off, and an exit status that no line
    /// explains, are failures too.
    pub(crate) fn of_output(output: &str, succeeded: bool) -> Self {
        let mut tally = Self::default();
        for (name, lines) in harnesses(output) {
            let mut results = Results::default();
            for line in lines {
                results.read(line);
            }
            // The status of one harness of several is not known; what it has to be is.
            let status = if results.failed.is_empty() { 0 } else { 101 };
            let complete = results.complete(status);
            tally.passed += results.passed;
            tally.failed.extend(results.failures());
            tally.skipped.extend(results.skipped);
            tally.failed.extend(complete.err().map(|error| format!("{name}: {error:#}")));
        }
        if !succeeded && tally.failed.is_empty() {
            tally.failed.push("ended with an error before or after its tests".into());
        }
        tally
    }

    /// Adds the results of another part.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { passed, failed, skipped } = other;
        self.passed += passed;
        self.failed.extend(failed);
        self.skipped.extend(skipped);
    }

    /// Nothing ran and nothing was left out.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { passed, failed, skipped } = self;
        *passed == 0 && failed.is_empty() && skipped.is_empty()
    }
}

/// The output of each harness, with its name: cargo announces each of its own; without an announcement it is one.
fn harnesses(output: &str) -> Vec<(&str, Vec<&str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    let announced = output.lines().any(|line| announcement(line).is_some());
    if !announced && output.lines().any(|line| line.starts_with("running ")) {
        all.push(("the tests", Vec::new()));
    }
    for line in output.lines() {
        if let Some(name) = announcement(line) {
            all.push((name, Vec::new()));
        } else if let Some((_, lines)) = all.last_mut() {
            lines.push(line);
        }
    }
    all
}

/// `     Running unittests src/lib.rs (target/debug/deps/observer-0123)`, `   Doc-tests observer`.
fn announcement(line: &str) -> Option<&str> {
    let announced = line.strip_prefix(' ')?.trim_start();
    announced.strip_prefix("Running ").or_else(|| announced.strip_prefix("Doc-tests "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
   Compiling observer v0.1.0
     Running unittests src/lib.rs (target/debug/deps/observer-01)

running 3 tests
test ledger::a ... ok
test ledger::b ... ignored, needs root
test ledger::c ... ok

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests observer

running 1 test
test src/lib.rs - scope (line 3) ... FAILED

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: 1 target failed:
";

    #[test]
    fn every_harness_of_a_workspace_is_counted() {
        let tally = Tally::of_output(TWO, false);
        assert_eq!(tally.passed, 2);
        assert_eq!(tally.failed, ["src/lib.rs - scope (line 3)"]);
        assert_eq!(tally.skipped, [Skipped::test("ledger::b", "needs root")]);
    }

    #[test]
    fn a_harness_by_itself_is_counted() {
        let output = "\nrunning 2 tests\ntest a ... ok\ntest b ... ignored (no veth)\n\n\
                      test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(
            Tally::of_output(output, true),
            Tally { passed: 1, failed: vec![], skipped: vec![Skipped::test("b", "no veth")] }
        );
    }

    #[test]
    fn a_harness_that_broke_off_has_failed() {
        let broken = &TWO[..TWO.find("test result").unwrap()];
        let tally = Tally::of_output(broken, false);
        assert_eq!(tally.failed.len(), 1, "{tally:?}");
        assert!(
            tally.failed[0].starts_with("unittests src/lib.rs") && tally.failed[0].contains("broke off"),
            "{tally:?}"
        );
    }

    #[test]
    fn an_error_that_no_test_explains_is_a_failure() {
        assert_eq!(Tally::of_output("error[E0308]: mismatched types\n", false).failed.len(), 1);
        assert!(Tally::of_output("", true).is_empty());
    }
}
