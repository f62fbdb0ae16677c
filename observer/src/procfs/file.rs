//! Reading files of /proc into a kept buffer, and what is in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Replaces `content` by the file's.
pub(super) fn read(path: &Path, content: &mut Vec<u8>) -> io::Result<()> {
    content.clear();
    File::open(path)?.read_to_end(content)?;
    Ok(())
}

/// An error that says which file does not look as expected.
pub(super) fn unexpected(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

/// A line's words.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A word as a number.
pub(super) fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    str::from_utf8(word).ok()?.parse().ok()
}
