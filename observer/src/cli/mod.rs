//! The command line: one file per subcommand. Exit codes: 0, 1 failed, 2 wrong use.

mod agent;
mod check;
mod client;
mod explain;
mod history;
mod metrics_docs;
mod reach;
mod time;
mod top;
mod whois;

use crate::metrics::{REVISION, UNKNOWN, VERSION};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

const FAILED: u8 = 1;
const WRONG_USE: u8 = 2;

/// Books every byte and every task-second of a node to the cgroup it belongs to.
#[derive(Debug, Parser)]
#[command(name = "observer", disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count, and serve the books at /metrics.
    Agent(Box<agent::Arguments>),
    /// Can this kernel and these privileges do it? One line per need, with the fix.
    Check(check::Arguments),
    /// Which workloads make this node's load and egress grow, since when, where their bytes go, and how that is known.
    Explain(explain::Arguments),
    /// What an agent remembers of a workload or of its node: a table, a plot, and how much it grows a day.
    History(history::Arguments),
    /// Who makes this node's load and who sends, live in the terminal.
    Top(top::Arguments),
    /// Who has an address, and who had it then: one line.
    Whois(whois::Arguments),
    /// Print docs/metrics.md.
    #[command(hide = true)]
    MetricsDocs,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// The API's own answer.
    Json,
}

/// Parses the arguments and runs the subcommand.
pub fn main() -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(Command::Agent(arguments)) => agent::main(&arguments),
        Ok(Command::Check(arguments)) => check::main(&arguments),
        Ok(Command::Explain(arguments)) => explain::main(&arguments),
        Ok(Command::History(arguments)) => history::main(&arguments),
        Ok(Command::Top(arguments)) => top::main(&arguments),
        Ok(Command::Whois(arguments)) => whois::main(&arguments),
        Ok(Command::MetricsDocs) => metrics_docs::main(),
        Err(answer) => {
            // Help and the version come this way too. Nobody is left to tell when the terminal is gone.
            let _ = answer.print();
            exit_code(u8::try_from(answer.exit_code()).unwrap_or(WRONG_USE))
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let matches = CommandLine::command().version(VERSION_LINE.as_str()).try_get_matches_from(arguments)?;
    Ok(CommandLine::from_arg_matches(&matches)?.command)
}

/// How this program is called: as a plugin of kubectl it is a command of that.
fn called() -> &'static str {
    let name = std::env::args_os().next().and_then(|path| Path::new(&path).file_name().map(OsString::from));
    called_by(name.as_deref())
}

fn called_by(name: Option<&OsStr>) -> &'static str {
    if name.is_some_and(|name| name == "kubectl-observer") { "kubectl observer" } else { "observer" }
}

/// The version, and the revision where the build knew one.
static VERSION_LINE: LazyLock<String> =
    LazyLock::new(|| if REVISION == UNKNOWN { VERSION.to_owned() } else { format!("{VERSION} ({REVISION})") });

fn exit_code(code: u8) -> ExitCode {
    ExitCode::from(code)
}

fn write(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush())
}

/// Prints a subcommand's result. A reader that went away, such as `head`, is no failure.
fn print(text: &str) -> ExitCode {
    match write(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {error}"));
            exit_code(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says what went wrong, where standard error still has a reader.
fn complain(message: &str) {
    for line in message.lines() {
        let _ = writeln!(io::stderr(), "observer: {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn commands_are_told_as_the_user_calls_this_program() {
        assert_eq!(called_by(Some(OsStr::new("kubectl-observer"))), "kubectl observer");
        assert_eq!(called_by(Some(OsStr::new("observer"))), "observer");
        assert_eq!(called_by(None), "observer");
    }

    #[test]
    fn wrong_use_ends_with_2_and_help_with_0() {
        for wrong in
            ["observer", "observer agent --no-such-flag", "observer agent --user", "observer check x", "observer fly"]
        {
            assert_eq!(parsed(wrong).unwrap_err().exit_code(), i32::from(WRONG_USE), "{wrong}");
        }
        for fine in ["observer --help", "observer agent --help", "observer --version"] {
            assert_eq!(parsed(fine).unwrap_err().exit_code(), 0, "{fine}");
        }
    }

    #[test]
    fn the_version_has_the_revision_and_the_help_hides_what_is_for_builders() {
        let version = parsed("observer --version").unwrap_err().to_string();
        assert_eq!(version.trim(), format!("observer {}", *VERSION_LINE));
        let help = parsed("observer --help").unwrap_err().to_string();
        assert!(help.contains("agent") && help.contains("check") && !help.contains("metrics-docs"), "{help}");
        assert!(matches!(parsed("observer metrics-docs"), Ok(Command::MetricsDocs)));
    }
}
