//! Embeds the eBPF object, the web page, and the revision it all was built from.
//!
//! The object is target/ebpf/observer.bpf.o, which `cargo xtask build` makes, or the file named by `OBSERVER_BPF_OBJECT`. Without
//! one the crate builds all the same, with an empty object, and the agent says so when it is to load it: the host
//! crates are built, tested and linted where no eBPF tool-chain is. The page is what `cargo xtask build` puts into target/web, and
//! likewise is not needed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a directory for what is generated"));
    let object = object();
    fs::write(output.join("observer.bpf.o"), object).expect("cargo's directory for what is generated is writable");
    fs::write(output.join("page.rs"), page()).expect("cargo's directory for what is generated is writable");
    println!("cargo::rustc-env=OBSERVER_REVISION={}", revision().unwrap_or_default());
}

/// The object's bytes; none when there is no object.
fn object() -> Vec<u8> {
    println!("cargo::rerun-if-env-changed=OBSERVER_BPF_OBJECT");
    if let Some(path) = env::var_os("OBSERVER_BPF_OBJECT").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        println!("cargo::rerun-if-changed={}", path.display());
        match fs::read(&path) {
            Ok(bytes) => return bytes,
            Err(error) => {
                println!("cargo::error=OBSERVER_BPF_OBJECT names {}, which cannot be read: {error}", path.display());
                return Vec::new();
            }
        }
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf");
    let path = directory.join("observer.bpf.o");
    if let Ok(bytes) = fs::read(&path) {
        println!("cargo::rerun-if-changed={}", path.display());
        return bytes;
    }
    // To watch a file that is not there means to build at every call; an empty directory can be watched.
    if fs::create_dir_all(&directory).is_ok() {
        println!("cargo::rerun-if-changed={}", directory.display());
    }
    Vec::new()
}

/// The web page's files as a Rust expression: names and contents; none when the page was not built.
fn page() -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/web");
    // As for the object: one that is not there cannot be watched.
    if fs::create_dir_all(&directory).is_ok() {
        println!("cargo::rerun-if-changed={}", directory.display());
    }
    let files = ["index.html", "page.js", "page.css", "licences.txt"].map(|name| (name, directory.join(name)));
    if files.iter().any(|(_, path)| !path.is_file()) {
        return "&[]".into();
    }
    for (_, path) in &files {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let one = |(name, path): &(&str, PathBuf)| {
        let path = path.to_str().expect("cargo names the package's directory in UTF-8");
        format!("({name:?}, include_bytes!({path:?}).as_slice()),")
    };
    format!("&[{}]", files.iter().map(one).collect::<String>())
}

/// The commit that is checked out, in short; `None` outside a repository.
fn revision() -> Option<String> {
    let git = |arguments: &[&str]| -> Option<String> {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Every commit, checkout and reset adds a line to it.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).is_file() {
        println!("cargo::rerun-if-changed={log}");
    }
    Some(revision)
}
