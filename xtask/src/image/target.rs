//! The machines that images are made for, and the static binaries in them.

use crate::{
    progress,
    setup::find,
    toolchain::Pair,
    workspace::{Profile, Workspace},
};
use anyhow::{Context, Result, ensure};
use std::{path::PathBuf, process::Command};

/// Flags of their own, so a directory of their own.
const BUILT: &str = "image/build";

/// A kind of machine, by the name that rustc has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// 64-bit x86.
    #[value(name = "x86_64-unknown-linux-gnu")]
    X86,
    /// 64-bit ARM.
    #[value(name = "aarch64-unknown-linux-gnu")]
    Arm,
}

impl Target {
    /// This machine's.
    pub(crate) const fn of_this_machine() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm } else { Self::X86 }
    }

    /// rustc's name.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::X86 => "x86_64-unknown-linux-gnu",
            Self::Arm => "aarch64-unknown-linux-gnu",
        }
    }

    /// Go's name for the processor, which is that of images.
    pub(crate) const fn architecture(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// Debian's cross compiler for it, and the packages that bring it.
    const fn cross_compiler(self) -> (&'static str, &'static str) {
        match self {
            Self::X86 => ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu libc6-dev-amd64-cross"),
            Self::Arm => ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
        }
    }

    /// Builds `packages` without a dynamic linker and returns the directory of the binaries.
    ///
    /// # Errors
    /// When the build fails, or this machine has no compiler for the target.
    pub(crate) fn build(
        self,
        workspace: &Workspace,
        pair: Option<&Pair>,
        profile: Profile,
        packages: &[&str],
    ) -> Result<PathBuf> {
        let directory = workspace.target().join(BUILT);
        let mut cargo = if self == Self::of_this_machine() {
            workspace.cargo("build")
        } else {
            self.cross(workspace, pair.context("no compiler with its sources is set up")?)?
        };
        cargo
            .args(["--locked", "--target", self.triple(), "--profile", profile.name(), "--target-dir"])
            .arg(&directory)
            .args(packages.iter().flat_map(|package| ["--package", package]))
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .env_remove("OBSERVER_BPF_OBJECT")
            .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace));
        let what = packages.join(", ");
        let log = workspace.log("build-logs", &format!("{}-{}", packages.join("-"), self.architecture()))?;
        let finished = progress::run(&format!("building {what} for {}", self.triple()), cargo, &log)?.success()?;
        if finished.output.contains("Compiling") {
            println!("image: built {what} for {} in {}", self.triple(), progress::seconds(finished.elapsed));
        }
        Ok(self.directory(workspace, profile))
    }

    /// Where its binaries are.
    pub(crate) fn directory(self, workspace: &Workspace, profile: Profile) -> PathBuf {
        workspace.target().join(BUILT).join(self.triple()).join(profile.name())
    }

    /// A cargo that builds for another machine: with the compiler of the eBPF programs, which has its sources, so that the
    /// standard library of any target can be built; none has to be fetched.
    fn cross(self, workspace: &Workspace, pair: &Pair) -> Result<Command> {
        let (compiler, packages) = self.cross_compiler();
        ensure!(
            find(compiler).is_some(),
            "an image for {} needs {compiler}, which is not here (Debian: apt-get install {packages})",
            self.triple()
        );
        let program = pair.rust.cargo.as_deref().context("the compiler that is set up has no cargo")?;
        let mut cargo = workspace.foreign(program);
        cargo
            .args(["build", "-Z", "build-std=std,panic_abort"])
            .env("RUSTC", &pair.rust.rustc)
            .env(format!("CARGO_TARGET_{}_LINKER", self.triple().replace('-', "_").to_uppercase()), compiler);
        if !pair.rust.nightly {
            // Building the standard library is unstable; the distribution's compiler is a stable one.
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        Ok(cargo)
    }
}

/// A binary that loads no library and tells nothing of where it was built.
fn flags(workspace: &Workspace) -> String {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(workspace.path_flags());
    flags.join("\x1f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn a_target_is_named_on_the_command_line_as_rustc_names_it() {
        for target in Target::value_variants() {
            assert_eq!(target.to_possible_value().unwrap().get_name(), target.triple());
        }
    }
}
