//! `observer top`: who makes this node's load and who sends, in a terminal. It asks the API of the debug listener and nothing else.

mod nodes;
mod own;

use super::{
    FAILED, Output, client, complain, exit_code,
    reach::{Reach, Reached, USUAL},
};
use crate::{
    server::{FlowsAnswer, PairsAnswer, SnapshotAnswer},
    top::{self, Ended, Feed, Sort, Source, View},
};
use anyhow::Context as _;
use clap::Args;
use nodes::Nodes;
use own::OwnAgent;
use serde::de::DeserializeOwned;
use std::{
    io::IsTerminal as _,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

const AFTER_HELP: &str = "\
Keys: l b w m sort, / filters, enter shows all of one, esc goes back, p pauses, ? helps, q ends.

Where no agent listens, and this is root, one is started for as long as it is looked at. Installed as kubectl-observer it is
a plugin of kubectl:
  kubectl observer top --node NODE
  kubectl observer top --all-nodes";

/// What to show, and how.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Print instead of taking the terminal
    #[arg(short, long)]
    batch: bool,
    /// How often to print, and then end [default: until it is ended]
    #[arg(short = 'n', long, value_name = "N", requires = "batch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0, value_parser = delay)]
    delay: f64,
    /// By what to sort
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    sort: Sort,
    /// How many lines of the table; as JSON everybody is printed
    #[arg(long, value_name = "N", default_value_t = 20, requires = "batch")]
    top: usize,
    /// How to print it: a table, or the API's snapshot, one a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text, requires = "batch")]
    output: Output,
    /// All nodes of the cluster at once: a line for each workload
    #[arg(long, conflicts_with_all = ["agent", "node", "pod"])]
    all_nodes: bool,
    #[command(flatten)]
    reach: Reach,
}

fn delay(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "wanted: seconds, 0.1 to 3600".into())
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    match shown(arguments) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}").replace('\n', " "));
            exit_code(FAILED)
        }
    }
}

fn shown(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let has_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !arguments.batch && !has_terminal {
        anyhow::bail!("this is no terminal; `observer top --batch` prints");
    }
    let every = Duration::from_secs_f64(arguments.delay);
    // Dropped, and so ended, after everything else. It would inherit signals that are blocked.
    let is_own = !arguments.all_nodes && !arguments.reach.is_said();
    let own = if is_own { OwnAgent::unless_there_is_one(USUAL)? } else { None };
    // What forwards to a cluster has threads.
    let ended = if arguments.batch { None } else { Some(top::end_by_signal()?) };
    if arguments.all_nodes {
        return show(
            arguments,
            ended,
            Nodes::of(arguments.reach.all()?, if arguments.batch { complain } else { |_| () }),
            every,
        );
    }
    let reached = match &own {
        Some(own) => Reached { address: own.address(), node: None },
        None => arguments.reach.one()?,
    };
    show(arguments, ended, Agent { reached, is_batch: arguments.batch }, every)
}

fn show(arguments: &Arguments, ended: Option<Ended>, source: impl Source, every: Duration) -> anyhow::Result<ExitCode> {
    let Some(ended) = ended else { return print_all(arguments, source, every) };
    top::run(View::new(arguments.sort, is_plain()), &ended, || Feed::start(source, every))?;
    Ok(ExitCode::SUCCESS)
}

/// <https://no-color.org>, and a terminal that has none.
fn is_plain() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_some() || set("TERM").is_none_or(|term| has_no_colours(&term.to_string_lossy()))
}

/// The terminals of old, and what says so of itself.
fn has_no_colours(term: &str) -> bool {
    let model = term.strip_prefix("vt").unwrap_or_default();
    term == "dumb"
        || term.ends_with("-mono")
        || term.ends_with("-m")
        || model.starts_with(|letter: char| letter.is_ascii_digit())
}

fn print_all(arguments: &Arguments, mut source: impl Source, every: Duration) -> anyhow::Result<ExitCode> {
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut next = Instant::now();
    let begun = Instant::now();
    while left > 0 {
        let (answer, missing) = source.snapshot().map_err(anyhow::Error::msg)?;
        // An agent that has just begun has no rates before its first window has ended.
        if answer.window_seconds <= 0.0 && begun.elapsed() < FIRST_WINDOW {
            sleep(Duration::from_millis(50));
            next = Instant::now();
            continue;
        }
        if let Some(missing) = missing {
            complain(&missing);
        }
        let text = match arguments.output {
            Output::Text => top::table(&answer, arguments.sort, arguments.top) + "\n",
            Output::Json => serde_json::to_string(&answer)? + "\n",
        };
        match super::write(&text) {
            // Who reads no more is told no more.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written.context("cannot write to standard output")?,
        }
        left -= 1;
        next += every;
        if left > 0 {
            sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The longest window there is, and a moment.
const FIRST_WINDOW: Duration = Duration::from_secs(61);
const SNAPSHOT: &str = "/api/v1/snapshot?sort=load&top=10000";

/// Answers by requests.
struct Agent {
    reached: Reached,
    is_batch: bool,
}

impl Agent {
    /// The screen tells of the waiting by itself.
    fn ask<T: DeserializeOwned>(&self, target: &str) -> Result<T, String> {
        let Self { reached: Reached { address, node }, is_batch } = self;
        let answer =
            asked(if *is_batch { client::ask(address, target) } else { client::ask_silently(address, target) });
        // Through the API server it has an address of the moment.
        answer.map_err(|trouble| node.iter().fold(trouble, |trouble, node| format!("node {node}: {trouble}")))
    }
}

impl Source for Agent {
    fn snapshot(&mut self) -> Result<(SnapshotAnswer, Option<String>), String> {
        self.ask(SNAPSHOT).map(|answer| (answer, None))
    }

    fn flows(&mut self, entity: &str) -> Result<FlowsAnswer, String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("entity", entity).append_pair("top", "200");
        self.ask(&format!("/api/v1/flows?{}", query.finish()))
    }

    fn pairs(&mut self) -> Result<PairsAnswer, String> {
        self.ask("/api/v1/pairs?top=10000")
    }
}

fn asked<T>(answer: anyhow::Result<T>) -> Result<T, String> {
    answer.map_err(|error| format!("{error:#}").replace('\n', " "))
}
