//! The files of an image: a layer, as a tar whose bytes depend on nothing but what is in it.

use anyhow::{Context, Result};
use std::{collections::BTreeMap, io};
use tar::{Builder, EntryType, Header};

/// A file of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory { mode: u32 },
    File { mode: u32, bytes: Vec<u8>, capabilities: Capabilities },
    Link { target: String },
}

/// What a program may do when it is started by who is not root: bits of capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// These, by their numbers in `<linux/capability.h>`.
    pub(crate) const fn of(numbers: &[u8]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < numbers.len() {
            bits |= 1 << numbers[index];
            index += 1;
        }
        Self(bits)
    }

    /// The extended attribute `security.capability`, second revision, little-endian on every machine: permitted, and in effect
    /// from the start (`struct vfs_cap_data` in `<linux/capability.h>`).
    fn attribute(self) -> [u8; 20] {
        const REVISION_2: u32 = 0x0200_0000;
        const EFFECTIVE: u32 = 1;
        let (low, high) = (self.0 as u32, (self.0 >> 32) as u32);
        let words = [REVISION_2 | EFFECTIVE, low, 0, high, 0];
        let mut bytes = [0; 20];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Files by their paths. All belong to root and have the same time: what differs between two machines, or between two
/// builds, is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Paths without a slash in front; sorted, so that a directory comes before what is in it.
    entries: BTreeMap<String, Entry>,
}

impl Layer {
    /// Adds a file, and the directories above it.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.add(path, Entry::File { mode, bytes, capabilities: Capabilities::default() });
    }

    /// Adds a program that has these capabilities whoever starts it, and the directories above it.
    pub(crate) fn program(&mut self, path: &str, bytes: Vec<u8>, capabilities: Capabilities) {
        self.add(path, Entry::File { mode: 0o755, bytes, capabilities });
    }

    /// Adds a directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.add(path, Entry::Directory { mode });
    }

    /// Adds a symbolic link, and the directories above it.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.add(path, Entry::Link { target: target.to_owned() });
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// The tar, every file of the time `modified` (seconds since 1970).
    ///
    /// # Errors
    /// When a path is longer than a tar can hold.
    pub(crate) fn tar(&self, modified: u64) -> Result<Vec<u8>> {
        let mut builder = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            append(&mut builder, path, entry, modified).with_context(|| format!("put {path} into the layer"))?;
        }
        builder.into_inner().context("end the layer")
    }
}

fn append(builder: &mut Builder<Vec<u8>>, path: &str, entry: &Entry, modified: u64) -> io::Result<()> {
    match entry {
        Entry::Directory { mode } => {
            let mut header = header(EntryType::Directory, *mode, 0, modified);
            builder.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Entry::File { mode, bytes, capabilities } => {
            if *capabilities != Capabilities::default() {
                // Where tars have extended attributes: every runtime's unpacker and GNU tar read it there.
                builder.append_pax_extensions([("SCHILY.xattr.security.capability", &capabilities.attribute()[..])])?;
            }
            let mut header = header(EntryType::Regular, *mode, bytes.len() as u64, modified);
            builder.append_data(&mut header, path, bytes.as_slice())
        }
        Entry::Link { target } => {
            let mut header = header(EntryType::Symlink, 0o777, 0, modified);
            builder.append_link(&mut header, path, target)
        }
    }
}

/// A header without a name: owner 0, group 0, and no name of either.
pub(super) fn header(kind: EntryType, mode: u32, size: u64, modified: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(modified);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_in_which_files_are_added_does_not_show() {
        let (mut one, mut other) = (Layer::default(), Layer::default());
        one.file("/bin/a", 0o755, vec![1]);
        one.file("etc/passwd", 0o644, vec![2]);
        other.file("etc/passwd", 0o644, vec![2]);
        other.file("bin/a", 0o755, vec![1]);
        assert_eq!(one.tar(7).unwrap(), other.tar(7).unwrap());
        assert_ne!(one.tar(7).unwrap(), one.tar(8).unwrap());
    }

    #[test]
    fn capabilities_are_the_attribute_that_setcap_would_set() {
        // `setcap cap_net_admin,cap_perfmon,cap_bpf+ep FILE; getfattr -e hex -n security.capability FILE`
        let set = [1, 0, 0, 2, 0, 0x10, 0, 0, 0, 0, 0, 0, 0xC0, 0, 0, 0, 0, 0, 0, 0];
        let capabilities = Capabilities::of(&[12, 38, 39]);
        assert_eq!(capabilities.attribute(), set);
        let mut layer = Layer::default();
        layer.program("observer", vec![1], capabilities);
        layer.file("etc/passwd", 0o644, vec![2]);
        let tar = layer.tar(7).unwrap();
        let mut archive = tar::Archive::new(&*tar);
        let mut with = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let records = entry.pax_extensions().unwrap().into_iter().flatten();
            let values: Vec<_> = records.map(|record| record.unwrap().value_bytes().to_vec()).collect();
            with.insert(path, values);
        }
        assert_eq!(with["observer"], [set.to_vec()]);
        assert!(with["etc/passwd"].is_empty() && with["etc/"].is_empty());
    }

    #[test]
    fn every_file_comes_after_the_directories_above_it() {
        let mut layer = Layer::default();
        layer.file("usr/share/observer/a", 0o644, Vec::new());
        layer.directory("usr/share", 0o700);
        layer.link("usr/bin", "../bin");
        let paths: Vec<_> = layer.entries.keys().map(String::as_str).collect();
        assert_eq!(paths, ["usr", "usr/bin", "usr/share", "usr/share/observer", "usr/share/observer/a"]);
        assert_eq!(layer.entries["usr/share"], Entry::Directory { mode: 0o700 });
    }
}
