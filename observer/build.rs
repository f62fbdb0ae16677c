//! Embeds the eBPF object where it has been built, and names the revision. Without the object everything still builds:
//! the agent then says at run time what is missing.

use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=OBSERVER_BPF_OBJECT");
    println!("cargo::rerun-if-changed=build.rs");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let object = env::var_os("OBSERVER_BPF_OBJECT")
        .map_or_else(|| manifest.join("../target/ebpf/observer.bpf.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    let embedded = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("observer.bpf.o");
    fs::write(embedded, fs::read(object).unwrap_or_default()).expect("cargo's output directory is writable");
    let revision = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(manifest).output();
    let revision = revision.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    println!("cargo::rustc-env=OBSERVER_REVISION={}", String::from_utf8_lossy(&revision).trim());
}
