//! Where things are: the workspace, what is built in it, and the cargo that builds it.

use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Variables with which the cargo that runs this program tells it about itself, or with which someone steers a build
/// for the host. A cargo of another tool-chain must not see them.
const OF_THE_OUTER_CARGO: [&str; 11] = [
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    // Names the libraries of rustup's compiler; another compiler must load its own.
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// The checked-out workspace.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

/// How a host binary is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// What is released: link-time optimisation, stripped.
    #[default]
    Release,
    /// What the tests drive: nearly as fast, built in a third of the time.
    TestRelease,
}

impl Profile {
    /// Its name for cargo, and its directory under target/.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::TestRelease => "test-release",
        }
    }
}

impl Workspace {
    /// The workspace that this program was compiled in.
    pub(crate) fn this() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace");
        Self { root: root.to_owned() }
    }

    /// Its top directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Everything that is built. Always here, whatever `CARGO_TARGET_DIR` says: paths in it are promised to others.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Programs that cargo installs for this workspace alone.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target().join("tools")
    }

    /// A program under [`Self::tools`].
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.tools().join("bin").join(name)
    }

    /// A host binary of a profile.
    pub(crate) fn binary(&self, profile: Profile, name: &str) -> PathBuf {
        self.target().join(profile.name()).join(name)
    }

    /// An eBPF object.
    pub(crate) fn object(&self, name: &str) -> PathBuf {
        self.target().join("ebpf").join(name)
    }

    /// The log of a step, in a directory that exists.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub(crate) fn log(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let directory = self.target().join(kind);
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(directory.join(format!("{name}.log")))
    }

    /// The host's cargo, building into [`Self::target`].
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.arg(subcommand).current_dir(&self.root).env("CARGO_TARGET_DIR", self.target());
        cargo
    }

    /// Flags for rustc, by which no path of this machine is in what it writes: two checkouts give the same bytes.
    pub(crate) fn path_flags(&self) -> Vec<String> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let flag = |path: &Path, to: &str| format!("--remap-path-prefix={}={to}", path.display());
        home.iter().map(|home| flag(home, "/cargo")).chain([flag(&self.root, "/observer")]).collect()
    }

    /// A program of another tool-chain, free of what the cargo around this program put into the environment.
    pub(crate) fn foreign(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for variable in OF_THE_OUTER_CARGO {
            command.env_remove(variable);
        }
        command
    }
}
