//! The file under the database: blocks of the disk are claimed before they are written to.
//!
//! A write that fails for want of space would leave the database unreadable until it is opened anew, for which it wants to
//! write. So the whole of the file and some more is allocated (fallocate(2)) before each commit: a full disk is found there,
//! nothing of the database is touched, and what is in it stays readable.

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use redb::StorageBackend;
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Beyond the end of the file: more than a commit can add.
const HEADROOM: u64 = 2 * 1024 * 1024;

/// The file, shared between a database and the one that is opened after it.
#[derive(Debug)]
pub(super) struct Backing {
    file: File,
    /// What is allocated, from the start.
    claimed: AtomicU64,
    written: AtomicU64,
    syncs: AtomicU64,
}

impl Backing {
    pub(super) fn new(file: File) -> Self {
        Self { file, claimed: AtomicU64::new(0), written: AtomicU64::new(0), syncs: AtomicU64::new(0) }
    }

    /// Claims what the next commit may write to.
    pub(super) fn claim(&self) -> io::Result<()> {
        let wanted = self.file.metadata()?.len() + HEADROOM;
        if self.claimed.load(Relaxed) >= wanted {
            return Ok(());
        }
        let length = i64::try_from(wanted).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
            // A file system that cannot promise has to be taken as it is.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.claimed.store(wanted, Relaxed),
            Err(Errno::ENOSPC) => {
                let why = format!("{} (it takes {} MiB of room more)", io::Error::from(Errno::ENOSPC), HEADROOM >> 20);
                return Err(io::Error::new(io::ErrorKind::StorageFull, why));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether nothing was ever written to it.
    pub(super) fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|facts| facts.len() == 0)
    }

    /// What the file takes of the disk, in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |facts| facts.blocks() * 512)
    }

    /// Bytes written since it was opened.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// How often the disk was told to keep them.
    #[cfg(test)]
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }
}

/// A handle for a database. Locks are not its business: the file is locked as long as it is open.
#[derive(Debug)]
pub(super) struct Handle(pub(super) Arc<Backing>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.claimed.fetch_min(length, Relaxed);
        self.0.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.syncs.fetch_add(1, Relaxed);
        self.0.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.written.fetch_add(data.len() as u64, Relaxed);
        self.0.file.write_all_at(data, offset)
    }
}
