//! `cargo xtask guest`: a command, or a shell, on one kernel of the matrix.

use super::kernels;
use super::machine::{self, Guest, GuestFile};
use super::programs;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Modules that network tests use and that are not built into the kernels for virtual machines.
pub(crate) const MODULES: [&str; 3] = ["veth", "sch_ingress", "cls_bpf"];

/// Run a command, or without one a shell on this terminal, in a virtual machine with one of the test kernels.
///
/// The guest is a pure cgroup v2 system of busybox and what you add, with every controller enabled, bpffs at /sys/fs/bpf and the
/// modules veth, `sch_ingress` and `cls_bpf`. It starts in about 4 seconds, needs neither root nor KVM, and is gone afterwards. The
/// kernels are Debian's, fetched from this machine's mirror once and kept under target/kernels.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask guest --kernel 6.1 -- uname -a
  cargo xtask guest --kernel newest --observer -- observer check
  cargo xtask guest --kernel 5.10 --observer --program ip -- observer-live --guest loopback
  cargo xtask guest --kernel 6.12 --program ip --program stress-ng")]
pub(crate) struct GuestArgs {
    /// A version (5.10, 6.1, 6.12, …), a Debian suite, or `newest`.
    #[arg(long, value_name = "NAME", default_value = "6.1")]
    kernel: String,
    /// Build observer and its live tests and put them, with their libraries, into /bin.
    #[arg(long)]
    observer: bool,
    /// Also put this program of this machine, with the libraries it needs, at the same path; repeatable.
    #[arg(long, value_name = "NAME")]
    program: Vec<String>,
    /// Also put this file there: HOST-PATH, which goes to /bin, or HOST-PATH:GUEST-PATH; repeatable.
    #[arg(long, value_name = "FILE")]
    file: Vec<String>,
    /// Also insert this kernel module at boot; repeatable.
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// Bring this file or directory of the guest back into the directory of --into; repeatable.
    #[arg(long, value_name = "GUEST-PATH")]
    bring: Vec<String>,
    /// Where what --bring names is unpacked.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/guest")]
    into: PathBuf,
    /// Seconds from power-on to power-off.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// The command and its arguments; each is passed on as it is, so use `sh -c '…'` for a pipeline.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl GuestArgs {
    /// Runs the guest; the exit status is the command's.
    ///
    /// # Errors
    /// When the kernel cannot be had or the guest does not run to its end.
    pub(crate) fn run(self, workspace: &Workspace) -> Result<ExitCode> {
        let kernel = kernels::find(&kernels::directory(workspace), &self.kernel, &mut |line| eprintln!("{line}"))?;
        let files = self.files(workspace)?;
        let guest = Guest {
            kernel,
            busybox: machine::busybox(workspace)?,
            files,
            modules: MODULES.into_iter().map(str::to_owned).chain(self.module).collect(),
            command: self.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            bring: self.bring,
            timeout: Duration::from_secs(self.timeout),
            silence: Duration::from_secs(self.timeout),
        };
        if self.command.is_empty() {
            guest.shell()?;
            return Ok(ExitCode::SUCCESS);
        }
        let run = guest.run(&mut |line| println!("{line}"))?;
        if !run.archive.is_empty() {
            unpack(&run.archive, &self.into)?;
        }
        if !run.console.trim().is_empty() {
            eprintln!("-- the kernel's console --\n{}", run.console.trim_end());
        }
        let release = &guest.kernel.release;
        eprintln!(
            "-- {release}: exit {}, {:.1} s, of which {:.1} s to boot --",
            run.exit_code, run.seconds, run.boot_seconds
        );
        Ok(ExitCode::from(u8::try_from(run.exit_code).unwrap_or(1)))
    }

    fn files(&self, workspace: &Workspace) -> Result<Vec<GuestFile>> {
        let mut files = Vec::new();
        if self.observer {
            files.extend(programs::driven(workspace)?);
        }
        for program in &self.program {
            files.extend(programs::with_libraries(program)?);
        }
        for file in &self.file {
            files.push(file_to_copy(file)?);
        }
        Ok(files)
    }
}

/// `path` goes to /bin under its own name, `path:/there` to where it says.
fn file_to_copy(argument: &str) -> Result<GuestFile> {
    let (host, guest) = match argument.split_once(":/") {
        Some((host, guest)) => (host, format!("/{guest}")),
        None => (argument, format!("/bin/{}", argument.rsplit('/').next().unwrap_or(argument))),
    };
    let host = PathBuf::from(host);
    ensure!(host.is_file(), "{} is not a file", host.display());
    Ok(GuestFile { host, guest, mode: 0o755 })
}

/// A word as the shell takes it unchanged.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn unpack(archive: &[u8], into: &std::path::Path) -> Result<()> {
    use std::io::Write;
    std::fs::create_dir_all(into).with_context(|| format!("create {}", into.display()))?;
    let mut tar = Command::new("tar").arg("-xC").arg(into).stdin(Stdio::piped()).spawn().context("run tar")?;
    if let Some(mut stdin) = tar.stdin.take() {
        stdin.write_all(archive).context("hand the archive to tar")?;
    }
    if !tar.wait()?.success() {
        bail!("tar could not unpack what the guest sent");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_unchanged() {
        let word = "it's $HOME; `x` \"y\"\n";
        let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }

    #[test]
    fn a_file_goes_to_bin_unless_told_otherwise() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(file_to_copy(&format!("{path}:/etc/x")).unwrap().guest, "/etc/x");
        assert_eq!(file_to_copy(path).unwrap().guest, format!("/bin/{}", path.rsplit('/').next().unwrap()));
        assert!(file_to_copy("/nowhere").is_err());
    }
}
