//! The kernel's load averages.

use super::file::{number, unexpected, words};
use crate::ledger::LoadAverages;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The load averages of ROOT/loadavg.
///
/// # Errors
/// When the file cannot be read or does not begin with three numbers.
pub fn loadavg(root: &Path) -> io::Result<LoadAverages> {
    let path = root.join("loadavg");
    // A load below a million million, three times.
    let mut content = [0; 128];
    let length = File::open(&path)?.read(&mut content)?;
    parse(&content[..length]).ok_or_else(|| unexpected(&path, "no three load averages"))
}

fn parse(content: &[u8]) -> Option<LoadAverages> {
    let mut averages = words(content).map(number);
    Some(LoadAverages { one: averages.next()??, five: averages.next()??, fifteen: averages.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_averages_are_read() {
        let expected = LoadAverages { one: 0.52, five: 12.0, fifteen: 1300.59 };
        assert_eq!(parse(b"0.52 12.00 1300.59 3/1234 98765\n"), Some(expected));
        assert_eq!(parse(b"0.52 12.00\n"), None);
        assert_eq!(parse(b"a b c\n"), None);
    }

    #[test]
    fn the_running_kernels_averages_are_read() {
        let averages = loadavg(Path::new("/proc")).unwrap();
        assert!(averages.one >= 0.0 && averages.fifteen >= 0.0);
    }

    #[test]
    fn an_unexpected_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("loadavg"), "nonsense").unwrap();
        let error = loadavg(root.path()).unwrap_err().to_string();
        assert!(error.contains("loadavg: no three load averages"), "{error}");
    }
}
