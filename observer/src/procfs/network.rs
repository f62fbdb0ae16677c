//! Files of the node's network namespace, where they can be seen.

use super::{file, vantage::is_the_hosts};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Whose network namespace was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// The node's: that of process 1, or the one that was named.
    Node,
    /// Only our own, because process 1 cannot be seen: the node's devices and addresses are missing if it is another.
    Own,
}

/// Where those files are.
#[derive(Clone, Debug)]
pub struct Network {
    proc_path: PathBuf,
    /// Their directory, if it was named (`--net-path`).
    named: Option<PathBuf>,
}

impl Network {
    /// In a directory that was named, or else in PROC/1/net, or PROC/self/net where that cannot be read.
    pub fn new(proc_path: PathBuf, named: Option<PathBuf>) -> Self {
        Self { proc_path, named }
    }

    /// The directory that is to be read.
    pub fn directory(&self) -> PathBuf {
        self.named.clone().unwrap_or_else(|| self.proc_path.join("1/net"))
    }

    /// Opens a file of the node's. Of no other: what it tells would be taken for the node's.
    ///
    /// # Errors
    /// When it cannot be opened, or process 1 is not the node's.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        if self.named.is_none() && !is_the_hosts(&self.proc_path) {
            return Err(io::Error::other("process 1 is not the node's; --net-path names another directory"));
        }
        File::open(self.directory().join(name))
    }

    /// Replaces `content` by a file's, and says whose it is; the error is that of the node's. A container's process 1 is not
    /// the node's.
    pub(super) fn read(&self, name: &str, content: &mut Vec<u8>) -> io::Result<Vantage> {
        let is_nodes = self.named.is_some() || is_the_hosts(&self.proc_path);
        let whose = if is_nodes { Vantage::Node } else { Vantage::Own };
        let Err(error) = file::read(&self.directory().join(name), content) else { return Ok(whose) };
        if self.named.is_some() {
            return Err(error);
        }
        match file::read(&self.proc_path.join("self/net").join(name), content) {
            Ok(()) => Ok(Vantage::Own),
            Err(_) => Err(error),
        }
    }
}

impl From<&Path> for Network {
    /// That of a /proc.
    fn from(proc_path: &Path) -> Self {
        Self::new(proc_path.to_owned(), None)
    }
}
