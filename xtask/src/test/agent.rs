//! The levels that drive the real agent: on this machine's kernel, and on those of the guests.

use super::{Circumstances, Context, Level, Tally, level};
use crate::{driven, guest, page, progress, setup::privilege::Privilege};
use anyhow::{Context as _, Result};
use std::{
    ffi::OsStr,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// `observer-live` on this machine's kernel, as root.
///
/// # Errors
/// When it does not build or root is not to be had.
pub(super) fn live(context: &Context<'_>) -> Result<Tally> {
    driven::build(context.workspace)?;
    page::tests(context.workspace)?;
    let privilege = Privilege::of_this_process();
    let harness = driven::program(context.workspace, driven::LIVE);
    let agent = driven::program(context.workspace, driven::AGENT);
    let words = words(&context.path(), &agent, &harness, context.circumstances, context.arguments);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let command = match privilege {
        Privilege::None => return Ok(Tally::left_out("it needs root, and there is no sudo")),
        Privilege::Sudo => {
            println!("  not root, so it runs through sudo");
            privilege.command(&words)?
        }
        Privilege::Root => privilege.command(&words)?,
    };
    let finished = progress::run("live", command, &context.log(Level::Live)?)?;
    Ok(level::read(&finished))
}

/// The harness's command line. Through `env`, since sudo forgets the environment.
fn words(
    path: &OsStr,
    agent: &Path,
    harness: &Path,
    circumstances: Circumstances,
    arguments: &[String],
) -> Vec<String> {
    let setting = |name: &str, value: &OsStr| format!("{name}={}", value.to_string_lossy());
    let settings = [setting("PATH", path), setting("OBSERVER_BIN", agent.as_os_str())];
    let words = ["env".to_owned()].into_iter().chain(settings).chain(circumstances.settings());
    words.chain([harness.to_string_lossy().into_owned()]).chain(arguments.iter().cloned()).collect()
}

/// `observer-live` in guests.
///
/// # Errors
/// When it does not build or the log cannot be written.
pub(super) fn kernels(context: &Context<'_>) -> Result<Tally> {
    let path = context.log(Level::Kernels)?;
    let log = Mutex::new(File::create(&path).with_context(|| format!("write {}", path.display()))?);
    let on_line = |line: &str| {
        // A log that cannot be written does not end the tests.
        let _ = writeln!(log.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        if is_news(line) {
            println!("  {line}");
        }
    };
    let guest::suite::Summary { passed, failed, skipped } =
        guest::suite::run(context.workspace, context.arguments, context.circumstances, &on_line)?;
    Ok(Tally { passed, failed, skipped })
}

/// True for what a reader waits for. What passed and what is blank is for the log alone, and what was skipped is summed up.
fn is_news(line: &str) -> bool {
    let said = line.split_once(": ").map_or(line, |(_kernel, said)| said);
    let result = said.strip_prefix("test ").and_then(|test| test.split_once(" ... ")).map(|(_name, result)| result);
    !said.trim().is_empty() && !result.is_some_and(|result| result == "ok" || result.starts_with("ignored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_tests_in_guests_only_failures_are_shown_as_they_come() {
        for news in
            ["6.1: test a ... FAILED", "6.1: test a ... observer-live: waiting", "fetching a: b", "6.1: ---- a ----"]
        {
            assert!(is_news(news), "{news}");
        }
        for known in ["6.1: ", "6.1: test a   ... ok", "6.1: test a   ... ignored (takes minutes: long)"] {
            assert!(!is_news(known), "{known}");
        }
    }

    #[test]
    fn what_the_harness_has_to_know_reaches_it_through_sudo() {
        let words = |circumstances| {
            words(
                OsStr::new("/tools:/bin"),
                Path::new("/t/observer"),
                Path::new("/t/observer-live"),
                circumstances,
                &["veth".into()],
            )
            .join(" ")
        };
        let short = Circumstances::default();
        assert_eq!(words(short), "env PATH=/tools:/bin OBSERVER_BIN=/t/observer /t/observer-live veth");
        let long = "env PATH=/tools:/bin OBSERVER_BIN=/t/observer OBSERVER_LONG=1 /t/observer-live veth";
        assert_eq!(words(Circumstances { long: true, ..short }), long);
    }
}
