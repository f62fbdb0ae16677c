//! Which kernel runs here, where what it does depends on that and cannot be tried.

use std::fs;

/// Major and minor number.
pub type Version = (u32, u32);

/// `uname -r`; empty where /proc is not to be seen.
pub fn running() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// `uname -v`; empty where /proc is not to be seen.
pub fn build() -> String {
    fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default().trim().to_owned()
}

/// Whether a build preempts softirqs, too. Nobody knows of one that does not say what it is: then it is taken to.
pub fn is_realtime(build: &str) -> bool {
    build.is_empty() || build.contains("PREEMPT_RT") || build.contains("PREEMPT RT")
}

/// The numbers that a release begins with.
pub fn version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("5.9.16-amd64"), Some((5, 9)));
        assert_eq!(version("6.18.0-rc3+"), Some((6, 18)));
        assert!(version("5.9") < version("5.10"));
        assert_eq!(version("next"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn a_realtime_kernel_says_so() {
        assert!(is_realtime("#1 SMP PREEMPT_RT Debian 6.1.158-1 (2025-11-09)"));
        assert!(is_realtime("#1 SMP PREEMPT RT Mon May 3 10:00:00 UTC 2021"), "the patches for older kernels");
        assert!(!is_realtime("#1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1 (2025-11-09)"));
        assert!(is_realtime(""));
    }

    #[test]
    fn the_kernel_that_runs_here_has_a_version() {
        assert!(version(&running()).is_some());
    }
}
