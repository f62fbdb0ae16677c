//! Root: had, had through sudo, or not to be had.

use anyhow::{Result, bail, ensure};
use std::{
    fs,
    io::IsTerminal as _,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

/// How this process can do what only root may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// It is root.
    Root,
    /// By sudo.
    Sudo,
    /// Not at all.
    None,
}

impl Privilege {
    /// Of this process.
    pub(crate) fn of_this_process() -> Self {
        // The owner of /proc/self is the effective user.
        if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            Self::Root
        } else if super::find("sudo").is_some() {
            Self::Sudo
        } else {
            Self::None
        }
    }

    /// A command that runs as root without asking anything: what sudo wants to know it is told now, in the foreground.
    ///
    /// # Errors
    /// When root is not to be had.
    pub(crate) fn command(self, words: &[&str]) -> Result<Command> {
        let command = words.iter().skip_while(|word| **word == "env" || word.contains('='));
        let line = command.copied().collect::<Vec<_>>().join(" ");
        match self {
            Self::Root => {
                let mut command = Command::new(words[0]);
                command.args(&words[1..]);
                Ok(command)
            }
            Self::Sudo => {
                authenticate(&line)?;
                let mut command = Command::new("sudo");
                command.arg("--non-interactive").args(words);
                Ok(command)
            }
            Self::None => bail!("`{line}` needs root: run it yourself as root, or install sudo, then try again"),
        }
    }
}

/// Has sudo ask for the password, if it wants one. Everything of this program that needs root says so first.
fn authenticate(line: &str) -> Result<()> {
    let free = Command::new("sudo").args(["--non-interactive", "true"]).stderr(Stdio::null()).status();
    if free.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    ensure!(
        std::io::stdin().is_terminal(),
        "`{line}` needs root, and sudo would ask for a password, which nobody could type here: run it yourself as root, then try again"
    );
    println!("  sudo asks for your password, for: {line}");
    let status = Command::new("sudo").arg("--validate").status();
    ensure!(status.is_ok_and(|status| status.success()), "sudo refused; `{line}` needs root");
    Ok(())
}
