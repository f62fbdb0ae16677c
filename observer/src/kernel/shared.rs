//! Arrays that the programs and user space share as memory: reading them costs no system call and no privilege.
//!
//! Only the part in use is mapped, in chunks, so that a large `--max-cgroups` costs nothing until it is needed.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// The words of an array map, mapped as far as they have been asked for.
#[derive(Debug)]
pub(super) struct SharedArray<T> {
    map: OwnedFd,
    chunks: Vec<Chunk>,
    entries_per_chunk: usize,
    entries: usize,
    kind: PhantomData<T>,
}

#[derive(Debug)]
struct Chunk {
    start: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; all access is by atomics.
unsafe impl Send for Chunk {}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `SharedArray::map_chunk` with this length and is not used after.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Whole pages on every architecture.
const PAGES_BYTES: usize = 64 * 1024;

impl<T> SharedArray<T> {
    /// Bytes of one chunk: whole pages, and whole entries.
    const CHUNK_BYTES: usize = PAGES_BYTES * (size_of::<T>() >> size_of::<T>().trailing_zeros());

    /// Wraps the map `map`, which must be an array of `entries` values of `T`, made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: BorrowedFd<'_>, entries: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>() >= 8 && Self::CHUNK_BYTES.is_multiple_of(size_of::<T>())) };
        let entries_per_chunk = Self::CHUNK_BYTES / size_of::<T>();
        Ok(Self { map: map.try_clone_to_owned()?, chunks: Vec::new(), entries_per_chunk, entries, kind: PhantomData })
    }

    /// The 64-bit words of entry `index`, which the programs go on writing.
    pub(super) fn words(&mut self, index: usize) -> io::Result<&[AtomicU64]> {
        let entry = self.entry(index)?;
        // SAFETY: inside the mapping and aligned, see `entry`; the memory lives as long as `self`, and an `AtomicU64`
        // has the layout of the word it stands for.
        Ok(unsafe { std::slice::from_raw_parts(entry.as_ptr(), size_of::<T>() / 8) })
    }

    /// Entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    fn entry(&mut self, index: usize) -> io::Result<NonNull<AtomicU64>> {
        if index >= self.entries {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let chunk = index / self.entries_per_chunk;
        while self.chunks.len() <= chunk {
            let next = self.map_chunk(self.chunks.len())?;
            self.chunks.push(next);
        }
        let offset = index % self.entries_per_chunk * (size_of::<T>() / size_of::<u64>());
        // SAFETY: the chunk holds `entries_per_chunk` entries, or up to the last one there is.
        Ok(unsafe { self.chunks[chunk].start.add(offset) })
    }

    fn map_chunk(&self, number: usize) -> io::Result<Chunk> {
        let offset = number * Self::CHUNK_BYTES;
        let bytes = (self.entries * size_of::<T>() - offset).min(Self::CHUNK_BYTES);
        // SAFETY: a new mapping of a map's memory, where the kernel likes.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.map.as_raw_fd(),
                libc::off_t::try_from(offset).map_err(io::Error::other)?,
            )
        };
        match NonNull::new(start.cast::<AtomicU64>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Chunk { start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
