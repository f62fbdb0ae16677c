//! Reading files of /proc: into a kept buffer, and from the node's network namespace where it can be seen.

use super::vantage::is_the_hosts;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Whose network namespace was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// The node's: that of process 1.
    Node,
    /// Only our own, because process 1 cannot be seen: the node's devices and addresses are missing if it is another.
    Own,
}

/// Replaces `content` by the file's.
pub(super) fn read(path: &Path, content: &mut Vec<u8>) -> io::Result<()> {
    content.clear();
    File::open(path)?.read_to_end(content)?;
    Ok(())
}

/// Reads ROOT/1/net/NAME, or ROOT/self/net/NAME if that fails; the error is that of the former. A container's process 1 is
/// not the node's.
pub(super) fn read_net(root: &Path, name: &str, content: &mut Vec<u8>) -> io::Result<Vantage> {
    let whose = if is_the_hosts(root) { Vantage::Node } else { Vantage::Own };
    let Err(error) = read(&root.join("1/net").join(name), content) else { return Ok(whose) };
    match read(&root.join("self/net").join(name), content) {
        Ok(()) => Ok(Vantage::Own),
        Err(_) => Err(error),
    }
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
