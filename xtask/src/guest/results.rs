//! Reads what libtest, and harnesses that speak like it, say about tests.

use crate::test::skipped::Skipped;
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;

/// Of a reason, as much is told in a summary.
const REASON_CHARS: usize = 400;

/// What the lines so far said.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// The names of those that failed.
    pub(crate) failed: Vec<String>,
    /// Those left out.
    pub(crate) skipped: Vec<Skipped>,
    /// A test whose result did not follow on its own line, because something was printed meanwhile.
    open: Option<String>,
    /// What those that failed said, by their place among them.
    reasons: BTreeMap<usize, String>,
    /// Whose words follow, and whether the next line is what a panic said.
    explained: Option<(usize, bool)>,
    /// The harness's own count of passed, failed and ignored ones.
    total: Option<[usize; 3]>,
}

impl Results {
    /// Takes one line: `test NAME ... ok`, or the result alone after other output, or the closing `test result: …`.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(total) = line.strip_prefix("test result: ") {
            self.total = counts(total);
        } else if let Some((name, rest)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            self.open = Some(name.trim_end().to_owned());
            self.close(rest);
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            let name = name.trim_end_matches(" stdout");
            self.explained = self.failed.iter().position(|failed| failed == name).map(|place| (place, false));
        } else if line == "failures:" {
            self.explained = None;
        } else {
            self.explain(line);
            self.close(line);
        }
    }

    /// Of what a panic said, its first line; of other words, the last.
    fn explain(&mut self, line: &str) {
        let Some((place, panicked)) = self.explained else { return };
        if line.contains("panicked at ") {
            self.explained = Some((place, true));
        } else if !line.trim().is_empty() {
            self.reasons.insert(place, line.chars().take(REASON_CHARS).collect());
            self.explained = (!panicked).then_some((place, false));
        }
    }

    /// A line for each that failed, with its reason where it gave one.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.failed.iter().enumerate().map(|(place, name)| match self.reasons.get(&place) {
            Some(reason) => format!("{name}: {reason}"),
            None => name.clone(),
        })
    }

    fn close(&mut self, result: &str) {
        let word = result.split([',', ' ']).next().unwrap_or_default();
        if !["ok", "FAILED", "ignored"].contains(&word) {
            return;
        }
        let Some(name) = self.open.take() else { return };
        match word {
            "ok" => self.passed += 1,
            "FAILED" => self.failed.push(name),
            _ => {
                // libtest writes `ignored, REASON`, libtest-mimic `ignored (REASON)`.
                let reason = result[word.len()..].trim_start_matches([',', ' ', '(']).trim_end_matches(')');
                self.skipped.push(Skipped::test(name, reason));
            }
        }
    }

    /// Whether the harness came to its end and counted what was read here.
    ///
    /// # Errors
    /// When it did not.
    pub(crate) fn complete(&self, exit_code: i32) -> Result<()> {
        let Some(total) = self.total else { bail!("the tests broke off with exit code {exit_code}") };
        let read = [self.passed, self.failed.len(), self.skipped.len()];
        ensure!(total == read, "the harness counts {total:?} passed, failed and ignored tests, and said {read:?}");
        ensure!((exit_code == 0) == self.failed.is_empty(), "the tests ended with exit code {exit_code}");
        Ok(())
    }
}

/// Reads `ok. 3 passed; 0 failed; 1 ignored; …`.
fn counts(text: &str) -> Option<[usize; 3]> {
    let (_, text) = text.split_once(". ")?;
    let mut parts = text.split("; ");
    let mut count = |name: &str| parts.next()?.strip_suffix(name)?.trim_end().parse().ok();
    Some([count("passed")?, count("failed")?, count("ignored")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Results {
        let mut results = Results::default();
        text.lines().for_each(|line| results.read(line));
        results
    }

    const MIXED: &str = "\nrunning 6 tests\ntest bytes::tcp    ... ok\ntest wait         ... FAILED\n\
        test prometheus   ... ignored (runs on hosts only)\ntest long         ... ignored\ntest other        ... ignored, why\ntest storm ... observer-live: waiting\nok\n\nfailures:\n\n---- wait ----\nok\n";

    #[test]
    fn every_result_is_read_and_nothing_else_is() {
        let results =
            read(&format!("{MIXED}test result: FAILED. 2 passed; 1 failed; 3 ignored; 0 measured; 3 filtered out\n"));
        assert_eq!(results.passed, 2);
        assert_eq!(results.failed, ["wait"]);
        let skipped = [("prometheus", "runs on hosts only"), ("long", ""), ("other", "why")];
        assert_eq!(results.skipped, skipped.map(|(name, reason)| Skipped::test(name, reason)));
        results.complete(101).unwrap();
        assert!(results.complete(0).is_err());
    }

    #[test]
    fn a_failure_is_told_with_what_its_test_said() {
        let results = read(
            "test a ... FAILED\ntest b ... FAILED\ntest c ... FAILED\n\nfailures:\n\n---- a stdout ----\n\n\
            thread 'a' panicked at x.rs:1:\nno such file\nstack backtrace:\n   0: main\n\n---- b ----\n(the agent said last:\n\
            counting): 2 is not 3\n\n\nfailures:\n    a\n    b\n    c\n",
        );
        assert_eq!(results.failures().collect::<Vec<_>>(), ["a: no such file", "b: counting): 2 is not 3", "c"]);
    }

    #[test]
    fn a_harness_that_broke_off_or_counts_otherwise_is_an_error() {
        assert!(read(MIXED).complete(101).unwrap_err().to_string().contains("broke off"));
        let other = read(&format!("{MIXED}test result: FAILED. 5 passed; 1 failed; 1 ignored; 0 measured\n"));
        assert!(other.complete(101).unwrap_err().to_string().contains("[5, 1, 1]"));
        assert!(read("").complete(0).is_err());
    }
}
