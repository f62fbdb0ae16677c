//! Kernel modules for a guest: those asked for and what they depend on, in an order in which they can be inserted.
//!
//! The packages carry no `modules.dep` (it is made on installation), so dependencies are read from the modules themselves.

use super::kernels::Kernel;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A module as the guest inserts it: uncompressed.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its name with underscores, as in /proc/modules.
    pub(crate) name: String,
    /// The ELF object.
    pub(crate) object: Vec<u8>,
}

/// `names` and all they depend on, dependencies first. What the kernel has built in is left out.
///
/// # Errors
/// When the kernel has a module neither on disk nor built in, or it cannot be read.
pub(crate) fn in_order(kernel: &Kernel, names: &[String]) -> Result<Vec<Module>> {
    let mut tree = Tree::open(kernel)?;
    for name in names {
        tree.add(&underscored(name))?;
    }
    Ok(tree.chosen)
}

struct Tree<'a> {
    kernel: &'a Kernel,
    on_disk: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    visited: BTreeSet<String>,
    chosen: Vec<Module>,
}

impl<'a> Tree<'a> {
    fn open(kernel: &'a Kernel) -> Result<Self> {
        let mut on_disk = BTreeMap::new();
        index(&kernel.modules.join("kernel"), &mut on_disk)?;
        let list = kernel.modules.join("modules.builtin");
        let list = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
        let built_in = list.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { kernel, on_disk, built_in, visited: BTreeSet::new(), chosen: Vec::new() })
    }

    fn add(&mut self, name: &str) -> Result<()> {
        if self.built_in.contains(name) || !self.visited.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.on_disk.get(name);
        let object = read(path.with_context(|| format!("kernel {} has no module {name}", self.kernel.release))?)?;
        for dependency in dependencies(&object) {
            self.add(&underscored(&dependency))?;
        }
        self.chosen.push(Module { name: name.to_owned(), object });
        Ok(())
    }
}

fn index(directory: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, found)?;
        } else if let Some(name) = module_name(&path) {
            found.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/drivers/net/veth.ko.xz` is the module `veth`.
fn module_name(path: &Path) -> Option<String> {
    let (name, suffix) = path.file_name()?.to_str()?.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"].contains(&suffix).then(|| underscored(name))
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("read {}", path.display())),
    };
    let output = Command::new(program).arg("-dc").arg(path).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("run {program} to read {}", path.display()))?;
    ensure!(output.status.success(), "{program} could not read {}", path.display());
    Ok(output.stdout)
}

/// The entry `depends=a,b` of the module's `.modinfo`, a section of NUL-terminated `key=value` strings.
fn dependencies(object: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = object.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = object[start + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_before_what_needs_them_and_built_in_ones_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let net = directory.path().join("kernel/net");
        fs::create_dir_all(&net).unwrap();
        fs::write(directory.path().join("modules.builtin"), "kernel/lib/crc32c.ko\n").unwrap();
        fs::write(net.join("bridge.ko"), b"ELF\0license=GPL\0depends=stp,llc,crc32c\0name=bridge\0").unwrap();
        fs::write(net.join("stp.ko"), b"ELF\0depends=llc\0").unwrap();
        fs::write(net.join("llc.ko"), b"ELF\0depends=\0").unwrap();
        let kernel = Kernel {
            label: "6.1".into(),
            suite: "s".into(),
            release: "6.1.0".into(),
            image: PathBuf::new(),
            modules: directory.path().to_owned(),
        };
        let names = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
            in_order(&kernel, &wanted).map(|modules| modules.into_iter().map(|module| module.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["bridge", "llc"]).unwrap(), ["llc", "stp", "bridge"]);
        assert!(names(&["crc32c"]).unwrap().is_empty());
        assert_eq!(names(&["veth"]).unwrap_err().to_string(), "kernel 6.1.0 has no module veth");
    }

    #[test]
    fn a_module_is_named_by_its_file_whatever_its_compression() {
        for file in ["a/act-bpf.ko", "a/act-bpf.ko.xz", "a/act_bpf.ko.zst"] {
            assert_eq!(module_name(Path::new(file)).as_deref(), Some("act_bpf"));
        }
        assert_eq!(module_name(Path::new("a/modules.order")), None);
    }
}
