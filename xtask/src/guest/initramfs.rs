//! The root file system of a guest: a cpio archive in the `newc` format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Written here because a device node must be in it, which no archiver makes without being root.

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive under construction. Paths are absolute, as the guest sees them; missing parents are made.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    inodes: u32,
    paths: BTreeSet<String>,
}

impl Initramfs {
    /// A directory that everyone may enter.
    pub(crate) fn directory(&mut self, path: &str) {
        if !self.paths.contains(path.trim_matches('/')) {
            self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
        }
    }

    /// A file with these permission bits.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, FILE | (mode & 0o7777), (0, 0), content);
    }

    /// A symbolic link to `target`.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes());
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, (major, minor): (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// True when something is at `path` already.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.paths.contains(path.trim_matches('/'))
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.header("TRAILER!!!", 0, (0, 0), 0);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let path = path.trim_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.paths.insert(path.to_owned());
        self.header(path, mode, device, content.len());
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn header(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), size: usize) {
        self.inodes += 1;
        let size = u32::try_from(size).expect("no file of a guest is larger than 4 GiB");
        let name_size = name.len() as u32 + 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.inodes, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Initramfs::default();
        archive.file("/bin/run", 0o755, b"hello");
        archive.file("/bin/other", 0o644, b"");
        assert!(archive.contains("/bin/run") && archive.contains("/bin") && !archive.contains("/sbin"));
        let bytes = archive.finish();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(text.matches("070701").count(), 4, "directory, two files, trailer");
        let file = text.find("bin/run\0").unwrap() - 110;
        assert_eq!(file % 4, 0);
        let field = |index: usize| u32::from_str_radix(&text[file + 6 + index * 8..][..8], 16).unwrap();
        assert_eq!((field(1), field(6), field(11)), (0o100_755, 5, 8));
        // Header and name take 118 bytes: the content starts at the next multiple of four.
        assert_eq!(&text[file + 120..file + 125], "hello");
    }
}
