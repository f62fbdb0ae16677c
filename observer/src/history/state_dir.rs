//! The directory of `--state-dir` and the file in it: made, locked and given to the agent's user while there are privileges.

use nix::{
    errno::Errno,
    unistd::{Gid, Uid, fchown},
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The file.
pub(super) const FILE: &str = "history.redb";
/// The first bytes of every redb database.
const MAGIC: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1a, 0x0a, 0xa9, 0x0d, 0x0a];
/// Files of others that were moved aside and are still there; then the operator has to look.
const MOST_ASIDE: u32 = 100;
/// A database that was damaged, the last one.
const DAMAGED: &str = "aside-damaged";

/// Why there is no history on the disk.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Something with the directory or the file.
    #[error("cannot {what} {path}: {error}; {advice}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
        /// What to do.
        advice: String,
    },
    /// Another process has the file.
    #[error("{path} is in use by another agent; give each a --state-dir of its own, or stop the other")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was put there while the agent ran.
    #[error("{path} is another file than the one that was opened; start the agent again, and it goes on with that")]
    Another {
        /// The file.
        path: PathBuf,
    },
    /// To give it away would be dangerous.
    #[error("{path} is not given to the agent's user: {why}; give --state-dir a directory of its own")]
    NotGiven {
        /// The directory.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
}

/// A directory with a locked file in it.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    file: File,
    moved_aside: u64,
}

impl StateDir {
    /// Opens the directory, and makes it if only the last part of its path is missing. `user` is who the agent becomes, by uid
    /// and gid: they are given the file, and the directory if there is nothing of others in it.
    ///
    /// # Errors
    /// With what to do.
    pub fn open(path: &Path, user: Option<(u32, u32)>) -> Result<Self, StateError> {
        make(path)?;
        let gift = user.map_or(Ok(None), |user| to_be_given(path, user))?;
        let file = open_file(path, user)?;
        if let Some((directory, user)) = gift.zip(user) {
            give(&directory, user).map_err(|error| io_error("give away", path, error))?;
        }
        let mut directory = Self { path: path.to_owned(), file, moved_aside: 0 };
        if !has_magic(&directory.file) {
            directory.set_aside("it is no database of an agent")?;
            if let Some(user) = user {
                give(&directory.file, user).map_err(|error| io_error("give away", &path.join(FILE), error))?;
            }
        }
        Ok(directory)
    }

    /// Moves the file aside, and begins another. What is no database is never removed; of damaged ones the last is kept.
    ///
    /// # Errors
    /// With what to do.
    pub fn set_aside(&mut self, why: &str) -> Result<(), StateError> {
        let from = self.path.join(FILE);
        let beside = |end: String| self.path.join(format!("{FILE}.{end}"));
        let to = if has_magic(&self.file) {
            beside(DAMAGED.into())
        } else {
            let mut free = (1..=MOST_ASIDE).map(|number| beside(format!("aside-{number}")));
            free.find(|path| fs::symlink_metadata(path).is_err()).ok_or_else(|| {
                io_error("move aside", &from, io::Error::other("a hundred files were moved aside already"))
            })?
        };
        fs::rename(&from, &to).map_err(|error| io_error("move aside", &from, error))?;
        self.moved_aside += 1;
        tracing::warn!(file = %from.display(), moved_to = %to.display(), why, "the history's file cannot be used: it is moved aside, and the history begins anew");
        self.file = open_file(&self.path, None)?;
        Ok(())
    }

    /// Whether the file is where it was opened, and has not been removed or covered.
    pub(super) fn is_in_place(&self) -> bool {
        let place = |facts: fs::Metadata| (facts.dev(), facts.ino());
        let (Ok(ours), there) = (self.file.metadata().map(place), fs::symlink_metadata(self.file_path()).map(place))
        else {
            return true;
        };
        // Where nobody can look nobody can tell.
        there.map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |there| there == ours)
    }

    /// Begins another file, since the one that was opened is not in its place any more. One that holds something already is left alone:
    /// what is in memory does not go with it.
    ///
    /// # Errors
    /// With what to do.
    pub(super) fn begin_anew(&mut self) -> Result<(), StateError> {
        let (file, path) = (open_file(&self.path, None)?, self.file_path());
        if file.metadata().map_or(true, |facts| facts.len() > 0) {
            return Err(StateError::Another { path });
        }
        self.file = file;
        tracing::warn!(file = %self.file_path().display(), "the history's file was removed, or something else was put in its place: what it held is gone, and the history begins anew");
        Ok(())
    }

    /// The file; its lock is held as long as any handle of it is open.
    ///
    /// # Errors
    /// When the process may open no more.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The path of the file.
    pub fn file_path(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// Files that were moved aside.
    pub(super) fn moved_aside(&self) -> u64 {
        self.moved_aside
    }
}

fn make(path: &Path) -> Result<(), StateError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error("make", path, error)),
        _ => Ok(()),
    }
}

/// The directory, if it is to be given away: it is root's, nobody else can write to it and nothing but ours is in it.
fn to_be_given(path: &Path, user: (u32, u32)) -> Result<Option<File>, StateError> {
    let directory = File::open(path).map_err(|error| io_error("open", path, error))?;
    let facts = directory.metadata().map_err(|error| io_error("look at", path, error))?;
    if facts.uid() == user.0 || facts.mode() & 0o002 != 0 {
        return Ok(None);
    }
    let not_given = |why| StateError::NotGiven { path: path.to_owned(), why };
    if facts.uid() != 0 {
        return Err(not_given("it belongs to another user"));
    }
    let entries = fs::read_dir(path).map_err(|error| io_error("read", path, error))?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    if names.any(|name| !name.to_string_lossy().starts_with(FILE)) {
        return Err(not_given("it holds files of others"));
    }
    Ok(Some(directory))
}

fn give(file: &File, (uid, gid): (u32, u32)) -> io::Result<()> {
    Ok(fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

/// Opens and locks the file; one that is made is given to `user`, and so is root's, if nobody else could have put it there.
fn open_file(directory: &Path, user: Option<(u32, u32)>) -> Result<File, StateError> {
    let path = directory.join(FILE);
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK);
    let (file, is_new) = match options.clone().create_new(true).open(&path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            (options.open(&path).map_err(|error| io_error("open", &path, error))?, false)
        }
        Err(error) => return Err(io_error("make", &path, error)),
    };
    let facts = file.metadata().map_err(|error| io_error("look at", &path, error))?;
    if !facts.is_file() {
        return Err(io_error("use", &path, io::Error::other("it is no regular file")));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StateError::InUse { path }),
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &path, error)),
    }
    if let Some(user) = user.filter(|user| facts.uid() != user.0) {
        let others_may_write = fs::metadata(directory).map_or(true, |facts| facts.mode() & 0o022 != 0);
        if !is_new && (facts.uid() != 0 || facts.nlink() != 1 || others_may_write) {
            return Err(StateError::NotGiven { path, why: "others could have put the file there" });
        }
        give(&file, user).map_err(|error| io_error("give away", &path, error))?;
    }
    Ok(file)
}

/// Whether the file is empty or a redb database at first sight.
fn has_magic(file: &File) -> bool {
    let mut begin = [0; MAGIC.len()];
    matches!(file.read_at(&mut begin, 0), Ok(0)) || begin == MAGIC
}

fn io_error(what: &'static str, path: &Path, error: io::Error) -> StateError {
    let advice = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EROFS) => "mount it writable and start the agent again, or give another --state-dir".into(),
        Some(Errno::EACCES | Errno::EPERM) => {
            format!("make {} writable for uid {}, by chown for instance", path.display(), Uid::effective())
        }
        Some(Errno::ENOENT) => "make the directory above it".into(),
        Some(Errno::ENOTDIR) => "give --state-dir a directory".into(),
        Some(Errno::ENOSPC | Errno::EDQUOT) => "make room on its disk".into(),
        _ => "give another --state-dir, or mend this one".into(),
    };
    StateError::Io { what, path: path.to_owned(), error, advice }
}
