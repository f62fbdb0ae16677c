//! `observer history`: what an agent remembers, as a table and a plot. It asks the API of the debug listener and nothing else.

mod number;
mod plot;
mod table;
#[cfg(test)]
mod tests;

use super::{FAILED, Output, WRONG_USE, client, complain, exit_code, reach::Reach, time};
use crate::history::{
    HistoryAnswer, KnownWorkload, Metric, Selection, Statistic, Step, Subject, Trend, daily_maxima, daily_means,
    duration_of,
};
use clap::Args;
use std::{fmt::Write as _, io::IsTerminal as _, process::ExitCode};

/// Where nobody says how wide a line may be.
const COLUMNS: usize = 80;
/// A wider plot is no clearer.
const MOST_COLUMNS: usize = 160;

const AFTER_HELP: &str = "\
Rows of a second are kept for ten minutes, of a minute for a day, of an hour for forty days. Times are UTC.

In a cluster, installed as kubectl-observer:
  kubectl observer history --node NODE --workload shop/web --metric egress_peak --since 30d";

/// What to show.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Whose history [default: that of the whole node]
    #[arg(long, value_name = "NAMESPACE/NAME")]
    workload: Option<String>,
    /// The workload's kind, where two have the same name: deployment, cronjob
    #[arg(long, value_name = "TYPE", requires = "workload")]
    workload_type: Option<String>,
    /// egress, ingress, load, wait or memory, with _mean or _peak
    #[arg(long, value_name = "METRIC")]
    metric: Selection,
    /// How far back: a whole number with s, m, h or d
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = duration_of)]
    since: u64,
    /// How much time a row is of: 1s, 1m or 1h [default: the finest that reaches back so far]
    #[arg(long, value_name = "STEP")]
    step: Option<Step>,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let subject = match subject(arguments) {
        Ok(subject) => subject,
        Err(message) => {
            complain(&message);
            return exit_code(WRONG_USE);
        }
    };
    match shown(arguments, &subject) {
        Ok(text) => super::print(&text),
        Err(error) => {
            complain(&format!("{error:#}").replace('\n', " "));
            exit_code(FAILED)
        }
    }
}

fn subject(arguments: &Arguments) -> Result<String, String> {
    let Some(workload) = &arguments.workload else { return Ok("node".into()) };
    workload.parse::<Subject>()?;
    Ok(workload.clone())
}

fn shown(arguments: &Arguments, subject: &str) -> anyhow::Result<String> {
    let reached = arguments.reach.one()?;
    let ask =
        |selection: Selection| client::ask::<HistoryAnswer>(&reached.address, &target(arguments, subject, selection));
    let asked = ask(arguments.metric)?;
    if arguments.output == Output::Json {
        return Ok(serde_json::to_string_pretty(&asked)? + "\n");
    }
    // Mean and peak explain each other: one is the table's other column.
    let statistic = match arguments.metric.statistic {
        Statistic::Mean => Statistic::Peak,
        Statistic::Peak => Statistic::Mean,
    };
    let other = ask(Selection { statistic, ..arguments.metric })?;
    let columns = terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| usize::from(width.0));
    // Blocks are no ASCII: a terminal that cannot show them says so by its language.
    let columns = if std::io::stdout().is_terminal() { columns.clamp(40, MOST_COLUMNS) } else { COLUMNS };
    Ok(report(&asked, &other, arguments.metric.metric, columns))
}

/// The path and query of a request.
fn target(arguments: &Arguments, subject: &str, selection: Selection) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("workload", subject);
    query.append_pair("metric", &selection.to_string());
    query.append_pair("since", &format!("{}s", arguments.since));
    if let Some(kind) = &arguments.workload_type {
        query.append_pair("workload_type", kind);
    }
    if let Some(step) = arguments.step {
        query.append_pair("step", &step.to_string());
    }
    format!("/api/v1/history?{}", query.finish())
}

/// The whole text.
fn report(asked: &HistoryAnswer, other: &HistoryAnswer, metric: Metric, columns: usize) -> String {
    let mut text = heading(asked);
    if asked.rows.is_empty() {
        let _ = writeln!(text, "no rows: {}", why_empty(metric));
        return text;
    }
    let (mean, peak) = if asked.metric.ends_with("_mean") { (asked, other) } else { (other, asked) };
    text.push_str(&table::render(mean, peak, metric));
    text.push('\n');
    text.push_str(&plot::render(asked, metric, columns));
    text.push('\n');
    text.push_str(&trend_line(asked, other));
    text
}

fn heading(answer: &HistoryAnswer) -> String {
    let node = &answer.node;
    let of = match &answer.workload {
        Some(KnownWorkload { namespace, workload, workload_type, .. }) => {
            format!("{workload_type} {namespace}/{workload} on {node}")
        }
        None if answer.of == "other" => format!("the workloads without a place of their own on {node}"),
        None => format!("the node {node}"),
    };
    let (from, to) = (time::minute(answer.since_unix_seconds), time::minute(answer.until_unix_seconds));
    let mut text = format!("{} of {of}, {from} to {to} UTC\n", answer.metric);
    if answer.kept_in == "memory" {
        text.push_str("this agent keeps its history in memory only, as far back as half a megabyte holds; --state-dir keeps forty days\n");
    }
    if let Some((step, kept)) = cut(answer) {
        let _ = writeln!(text, "rows of {step} are kept for {kept} only; ask for --step {}", coarser(answer));
    }
    text
}

const DAY: u64 = 24 * 3600;

/// The step of an answer, and how long its rows are kept, where more was asked for.
fn cut(answer: &HistoryAnswer) -> Option<(Step, &'static str)> {
    let step = Step::ALL.into_iter().find(|step| step.seconds() == answer.step_seconds)?;
    let kept = match step {
        Step::Second => "ten minutes",
        Step::Minute => "a day",
        Step::Hour => "forty days",
    };
    (step < coarser(answer)).then_some((step, kept))
}

/// The step that reaches as far back as an answer was to.
fn coarser(answer: &HistoryAnswer) -> Step {
    Step::covering(answer.until_unix_seconds.saturating_sub(answer.since_unix_seconds))
}

fn why_empty(metric: Metric) -> &'static str {
    if metric == Metric::Memory {
        return "this agent does not read the memory of workloads, or did not then";
    }
    "nothing was remembered in that time"
}

/// What each of both grows by, from day to day.
fn trend_line(asked: &HistoryAnswer, other: &HistoryAnswer) -> String {
    let (one, two) = (trend(asked), trend(other));
    let Some(one_trend) = one else {
        let days = daily_maxima(&triples(asked)).len();
        let is_short = asked.until_unix_seconds.saturating_sub(asked.since_unix_seconds) < 3 * DAY;
        let advice = if is_short { "; ask for --since 30d" } else { "" };
        return format!("no trend: it takes three days with a value, and there are {days}{advice}\n");
    };
    let days = one_trend.days;
    let mut text = format!("{} {} over {days} days", asked.metric, grown(one_trend));
    if let Some(two) = two {
        let _ = write!(text, "; {} {}", other.metric, grown(two));
    }
    text.push_str("\n(the median of the slopes between any two days, in logarithms: each day's largest row for a peak, its mean for a mean)\n");
    text
}

fn trend(answer: &HistoryAnswer) -> Option<Trend> {
    let rows = triples(answer);
    let days = if answer.metric.ends_with("_peak") { daily_maxima(&rows) } else { daily_means(&rows) };
    Trend::of(&days)
}

fn triples(answer: &HistoryAnswer) -> Vec<(u64, u64, f64)> {
    answer.rows.iter().map(|row| (row.time_unix_seconds, row.covered_seconds.round() as u64, row.value)).collect()
}

fn grown(Trend { growth_per_day, .. }: Trend) -> String {
    let percent = growth_per_day * 100.0;
    // What rounds to nothing is nothing.
    if percent <= -0.05 {
        format!("shrank {:.1} % a day", -percent)
    } else if percent < 0.05 {
        "grew 0.0 % a day".into()
    } else {
        format!("grew {percent:.1} % a day")
    }
}
