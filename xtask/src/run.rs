//! `cargo xtask run`: builds, then becomes the agent.

use crate::{
    build,
    setup::privilege::Privilege,
    toolchain::Pair,
    workspace::{Profile, Workspace},
};
use anyhow::{Context, Result, bail};
use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

/// Where the agent serves unless told otherwise: who tries it on a laptop opens no port to others.
const LISTEN: &str = "127.0.0.1:9810";

/// Builds the release binary and becomes it, as root. Returns only when that fails.
///
/// # Errors
/// When a build fails, the agent cannot be started, or root is not to be had.
pub(crate) fn run(workspace: &Workspace, pair: &Pair, arguments: &[OsString]) -> Result<()> {
    build::embedded(workspace, pair, build::PROGRAMS)?;
    build::host(workspace, Profile::Release, &["observer"])?;
    let agent = workspace.binary(Profile::Release, "observer");
    let environment = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OBSERVER_"));
    let environment: Vec<_> = environment.collect();
    println!("run: {}", announcement(arguments, std::env::var("OBSERVER_METRICS_LISTEN").ok().as_deref()));
    let mut command = match Privilege::of_this_process() {
        Privilege::Root => Command::new(&agent),
        Privilege::Sudo => through_sudo(&agent, &environment),
        Privilege::None => bail!(
            "the agent starts as root (it drops every privilege once it is attached), and there is no sudo here: run as root `{} agent \
             --summary-interval 5s`",
            agent.display()
        ),
    };
    command.arg("agent");
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if wants(arguments, ("--summary-interval", "OBSERVER_SUMMARY_INTERVAL"), is_set) {
        command.args(["--summary-interval", "5s"]);
    }
    if wants(arguments, ("--metrics-listen", "OBSERVER_METRICS_LISTEN"), is_set) {
        command.args(["--metrics-listen", LISTEN]);
    }
    command.args(arguments);
    Err(command.exec()).with_context(|| format!("start {}", agent.display()))
}

/// sudo forgets the environment; what configures the agent is passed by value.
fn through_sudo(agent: &Path, environment: &[(OsString, OsString)]) -> Command {
    println!("run: not root, so the agent is started through sudo; once attached it drops every privilege");
    let mut command = Command::new("sudo");
    command.arg("env");
    for (name, value) in environment {
        let mut setting = name.clone();
        setting.push("=");
        setting.push(value);
        command.arg(setting);
    }
    command.arg(agent);
    command
}

/// True unless the user may have an own idea of a setting, by its flag and its variable: said so, or named a file that may. A
/// flag of ours would overrule it.
fn wants(arguments: &[OsString], setting: (&str, &str), is_set: impl Fn(&str) -> bool) -> bool {
    let given = |(option, variable): (&str, &str)| has_option(arguments, option) || is_set(variable);
    !given(setting) && !given(("--config", "OBSERVER_CONFIG"))
}

/// True when an option is among the arguments, in either spelling.
fn has_option(arguments: &[OsString], name: &str) -> bool {
    let mut words = arguments.iter().map(|argument| argument.to_string_lossy());
    words.any(|word| word == name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
}

/// The value of an option, given as `--name value` or `--name=value`.
fn option(arguments: &[OsString], name: &str) -> Option<String> {
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let at = arguments.iter().position(|argument| argument == name || argument.starts_with(&format!("{name}=")))?;
    match arguments[at].split_once('=') {
        Some((_, value)) => Some(value.to_owned()),
        None => arguments.get(at + 1).map(ToString::to_string),
    }
}

/// Where the metrics will be, as far as it is known before the agent has read its configuration.
fn announcement(arguments: &[OsString], environment: Option<&str>) -> String {
    let given = option(arguments, "--metrics-listen").or_else(|| environment.map(ToOwned::to_owned));
    let configured = has_option(arguments, "--config") || std::env::var_os("OBSERVER_CONFIG").is_some();
    let listen = given.unwrap_or_else(|| LISTEN.to_owned());
    let known = !configured && !listen.ends_with(":0");
    let address = listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
    if known {
        format!(
            "metrics will be at http://{address}/metrics, and the agent says where its web page is; Ctrl-C ends it and detaches everything"
        )
    } else {
        "the agent says where its metrics are; Ctrl-C ends it and detaches everything".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn an_option_is_found_in_both_spellings() {
        assert_eq!(
            option(&words(&["--metrics-listen", "1.2.3.4:5"]), "--metrics-listen").as_deref(),
            Some("1.2.3.4:5")
        );
        assert_eq!(option(&words(&["-v", "--metrics-listen=[::]:5"]), "--metrics-listen").as_deref(), Some("[::]:5"));
        assert_eq!(option(&words(&["--metrics-listener=x"]), "--metrics-listen"), None);
        assert_eq!(option(&words(&["--metrics-listen"]), "--metrics-listen"), None);
    }

    #[test]
    fn a_setting_is_ours_only_where_the_user_cannot_have_an_own_idea_of_it() {
        const SETTING: (&str, &str) = ("--summary-interval", "OBSERVER_SUMMARY_INTERVAL");
        assert!(wants(&words(&["--max-cgroups", "512", "--configure"]), SETTING, |_| false));
        for given in
            [&["--summary-interval", "1m"][..], &["--summary-interval=1m"], &["--config", "a.toml"], &["--config=a"]]
        {
            assert!(!wants(&words(given), SETTING, |_| false), "{given:?}");
        }
        for variable in ["OBSERVER_SUMMARY_INTERVAL", "OBSERVER_CONFIG"] {
            assert!(!wants(&[], SETTING, |name| name == variable), "{variable}");
        }
    }

    #[test]
    fn the_announced_address_is_one_that_can_be_opened() {
        assert!(announcement(&[], None).contains("http://127.0.0.1:9810/metrics"));
        assert!(announcement(&words(&["--metrics-listen=[::]:99"]), None).contains("http://[::1]:99/metrics"));
        assert!(announcement(&[], Some("10.0.0.1:7")).contains("http://10.0.0.1:7/metrics"));
        for unknown in [&["--metrics-listen", "127.0.0.1:0"], &["--config", "observer.toml"]] {
            assert!(announcement(&words(unknown), None).contains("the agent says"), "{unknown:?}");
        }
    }
}
