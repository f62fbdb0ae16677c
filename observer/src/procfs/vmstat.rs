//! Kills for want of memory, on the whole node.

use super::file::{number, unexpected, words};
use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

/// What one read of the file brings at most: a page, whatever is asked for. The line is in the first half of it.
const PAGE_BYTES: usize = 4096;

/// Reads `oom_kill` of ROOT/vmstat, which it keeps open.
///
/// The kernel adds all of it up anew for each system call that reads a part, so one is made (16 us), and another only where that
/// was not enough.
#[derive(Debug)]
pub struct OomKillReader {
    file: Option<File>,
    content: Vec<u8>,
}

impl Default for OomKillReader {
    fn default() -> Self {
        Self { file: None, content: vec![0; PAGE_BYTES] }
    }
}

impl OomKillReader {
    /// Processes that the kernel has killed for want of memory since it started.
    ///
    /// # Errors
    /// When the file cannot be read or has no such line, as before 4.13.
    pub fn read(&mut self, root: &Path) -> io::Result<u64> {
        let path = root.join("vmstat");
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&path)?),
        };
        let mut length = 0;
        loop {
            if length == self.content.len() {
                self.content.resize(2 * length, 0);
            }
            let read = file.read_at(&mut self.content[length..], length as u64)?;
            length += read;
            if let Some(count) = parse(&self.content[..length]) {
                return Ok(count);
            }
            if read == 0 {
                return Err(unexpected(&path, "no line oom_kill"));
            }
        }
    }
}

/// A line that is cut off is none.
fn parse(content: &[u8]) -> Option<u64> {
    let whole = &content[..content.iter().rposition(|byte| *byte == b'\n')?];
    let mut lines = whole.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"oom_kill "));
    words(lines.next()?).nth(1).and_then(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_among_those_that_begin_alike() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("vmstat"), "drop_slab 0\noom_kill_x 3\noom_kill 17\nnuma_hit 5\n").unwrap();
        assert_eq!(OomKillReader::default().read(root.path()).unwrap(), 17);
        let far = format!("{}oom_kill 3\nnuma_hit 5\n", "numa_miss 1\n".repeat(1000));
        std::fs::write(root.path().join("vmstat"), far).unwrap();
        assert_eq!(OomKillReader::default().read(root.path()).unwrap(), 3);
        std::fs::write(root.path().join("vmstat"), "drop_slab 0\n").unwrap();
        let error = OomKillReader::default().read(root.path()).unwrap_err().to_string();
        assert!(error.contains("vmstat: no line oom_kill"), "{error}");
    }

    #[test]
    fn the_running_kernel_counts() {
        OomKillReader::default().read(Path::new("/proc")).unwrap();
    }
}
