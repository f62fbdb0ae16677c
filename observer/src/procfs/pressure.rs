//! Whether the kernel keeps pressure stall information at all.

use super::file::unexpected;
use std::{fs, io, path::Path};

/// Whether ROOT/pressure is there and can be read: not on a kernel without it, nor on one that was booted with `psi=0`.
///
/// # Errors
/// What stands in the way, with the file's path.
pub fn has_pressure(root: &Path) -> io::Result<()> {
    let path = root.join("pressure/cpu");
    let text = fs::read(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    if text.starts_with(b"some ") { Ok(()) } else { Err(unexpected(&path, "no line some")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_says_which_file_is_missing() {
        let root = tempfile::tempdir().unwrap();
        assert!(has_pressure(root.path()).unwrap_err().to_string().contains("pressure/cpu"));
        fs::create_dir(root.path().join("pressure")).unwrap();
        fs::write(root.path().join("pressure/cpu"), "").unwrap();
        assert!(has_pressure(root.path()).is_err());
        fs::write(root.path().join("pressure/cpu"), "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n").unwrap();
        has_pressure(root.path()).unwrap();
    }
}
