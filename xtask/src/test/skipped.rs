//! Tests that were left out, and a list of them that stays short.

use std::fmt;

/// A reason that more tests share than this is said once for all of them.
const HANDFUL: usize = 5;

/// A test that was left out, or all that would have run somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// The kernel, where tests run on several.
    kernel: Option<String>,
    what: String,
    /// Empty when none was given.
    reason: String,
    /// True when it stands for more than a test.
    whole: bool,
}

impl Skipped {
    /// A test.
    pub(crate) fn test(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kernel: None, what: name.into(), reason: reason.into(), whole: false }
    }

    /// All that would have run: said louder.
    pub(crate) fn all_of(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kernel: None, what: what.into(), reason: reason.into(), whole: true }
    }

    /// The same, on one of several kernels.
    pub(crate) fn on(self, kernel: &str) -> Self {
        Self { kernel: Some(kernel.to_owned()), ..self }
    }

    fn shares(&self, other: &Self) -> bool {
        !self.whole && !self.reason.is_empty() && (&self.kernel, &self.reason) == (&other.kernel, &other.reason)
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.whole { "NOT TESTED: " } else { "skipped: " })?;
        let parts = [self.kernel.as_deref().unwrap_or_default(), &self.what, &self.reason];
        f.write_str(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": "))
    }
}

/// A line for each, in their order; those that share a kernel and a reason are one line when they are many.
pub(crate) fn lines(skipped: &[Skipped]) -> Vec<String> {
    let mut lines = Vec::new();
    for (position, one) in skipped.iter().enumerate() {
        let count = skipped.iter().filter(|other| one.shares(other)).count();
        if count <= HANDFUL {
            lines.push(one.to_string());
        } else if !skipped[..position].iter().any(|other| one.shares(other)) {
            lines.push(Skipped { what: format!("{count} tests"), ..one.clone() }.to_string());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tests_of_one_reason_are_one_line_for_each_kernel_and_a_handful_are_not() {
        let many = |kernel: &str| (0..81).map(|n| Skipped::test(format!("t{n}"), "takes minutes").on(kernel)).collect();
        let few = (0..HANDFUL).map(|n| Skipped::test(format!("few{n}"), "needs root"));
        let all: Vec<Skipped> = [many("5.10"), few.collect(), many("6.1"), vec![Skipped::test("alone", "")]].concat();
        let lines = lines(&all);
        assert_eq!(lines.len(), 2 + HANDFUL + 1);
        assert_eq!(lines[0], "skipped: 5.10: 81 tests: takes minutes");
        assert_eq!(lines[1], "skipped: few0: needs root");
        assert_eq!(lines[1 + HANDFUL], "skipped: 6.1: 81 tests: takes minutes");
        assert_eq!(lines[2 + HANDFUL], "skipped: alone");
    }

    #[test]
    fn what_stands_for_many_tests_is_never_one_of_many_lines() {
        let kernels: Vec<_> = (0..9).map(|n| Skipped::all_of(format!("the kernel of {n}"), "no network")).collect();
        let lines = lines(&kernels);
        assert_eq!((lines.len(), &*lines[0]), (9, "NOT TESTED: the kernel of 0: no network"));
    }
}
