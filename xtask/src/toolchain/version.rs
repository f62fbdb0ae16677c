//! Version numbers as compilers, LLVM and Debian write them.

use std::fmt;

/// Major, minor and patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version {
    /// The first number.
    pub(crate) major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// A version from its numbers.
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `22.1.8`, `1.97.0-nightly` and Debian's `1:22.1.8-1~deb12u1`; what is left out at the end is 0.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().split_once(':').map_or(text.trim(), |(_epoch, version)| version);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|number| number.parse().ok());
        let major = numbers.next()??;
        let minor = numbers.next().flatten().unwrap_or(0);
        let patch = numbers.next().flatten().unwrap_or(0);
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_everyone_writes_them() {
        for (text, version) in [
            ("22.1.8", Version::new(22, 1, 8)),
            ("1.97.0-nightly", Version::new(1, 97, 0)),
            ("1.96.0+dfsg1-1~deb12u2", Version::new(1, 96, 0)),
            ("1:22.1.8-1~deb12u1", Version::new(22, 1, 8)),
            ("1:23~++20260101-1", Version::new(23, 0, 0)),
            ("22.1\n", Version::new(22, 1, 0)),
        ] {
            assert_eq!(Version::parse(text), Some(version), "{text}");
        }
        assert_eq!(Version::parse("git"), None);
    }

    #[test]
    fn the_patch_level_counts() {
        assert!(Version::new(22, 1, 8) > Version::new(22, 1, 2));
        assert!(Version::new(22, 1, 2) > Version::new(21, 9, 9));
    }
}
