//! A real browser over the web page: tests/page/page.mjs drives it, with what npm brought for that.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where it is: below target/, in which the running program is, too, and where `cargo xtask test` had npm put it. `None` if it is not there.
pub fn directory() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let mut places = own.ancestors().map(|above| above.join("page-tests"));
    places.find(|place| place.join("node_modules/puppeteer-core").is_dir())
}

/// Has a browser do all that a user would; what it saw.
///
/// # Errors
/// With what was not as `wanted`, in a sentence.
pub fn drive(wanted: &Value) -> Result<Value> {
    let directory = directory().context("npm brought nothing for the tests of the page")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../page/page.mjs");
    // It finds what it needs beside itself.
    fs::copy(&script, directory.join("page.mjs")).with_context(|| format!("copy {}", script.display()))?;
    let mut node = Command::new("node");
    node.arg(directory.join("page.mjs")).arg(wanted.to_string()).stdin(Stdio::null());
    let output = node.output().context("run node")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.trim()).with_context(|| said.into_owned())
}
