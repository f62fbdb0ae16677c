//! `observer explain`: which workloads make a node's load and egress grow, since when, where their bytes go, and how that is known. It asks the
//! API of the debug listener and nothing else.

mod report;
#[cfg(test)]
mod tests;

use super::{FAILED, Output, called, client, complain, exit_code, reach::Reach};
use crate::{
    explain::{Evidence, Explanation, choose},
    history::{GrowthAnswer, duration_of, span},
    server::{FlowRow, FlowsAnswer, PairsAnswer, SnapshotAnswer},
};
use clap::Args;
use report::{Asked, report};
use std::process::ExitCode;

/// Far ends of each that are told of.
const DESTINATIONS: usize = 3;
/// Containers of each whose flows are asked for.
const ASKED: usize = 8;

const AFTER_HELP: &str = "\
Growth is that of the largest second of each day, from the agent's own history: five days at least have to be known, and a
mean that stays level beside it is what an average hides. Totals and waits are since the agent started. Times are UTC.

In a cluster, installed as kubectl-observer:
  kubectl observer explain --node NODE";

/// Of which node, and how far back.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// How far back growth is looked for: a whole number with s, m, h or d
    #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = duration_of)]
    since: u64,
    /// How many are explained at most
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    top: u16,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let explained = explained(arguments).and_then(|explanation| match arguments.output {
        Output::Text => Ok(report(
            &explanation,
            &Asked { called: called(), reach: &arguments.reach.words(), since: &span(arguments.since) },
        )),
        Output::Json => Ok(serde_json::to_string_pretty(&explanation)? + "\n"),
    });
    match explained {
        Ok(text) => super::print(&text),
        Err(error) => {
            complain(&format!("{error:#}").replace('\n', " "));
            exit_code(FAILED)
        }
    }
}

fn explained(arguments: &Arguments) -> anyhow::Result<Explanation> {
    let reached = arguments.reach.one()?;
    let agent = &reached.address;
    let growth = |metric: &str| {
        client::ask::<GrowthAnswer>(
            agent,
            &format!("/api/v1/growth?metric={metric}&since={}s&top=10000", arguments.since),
        )
    };
    let evidence = Evidence {
        snapshot: client::ask::<SnapshotAnswer>(agent, "/api/v1/snapshot?top=10000")?,
        egress: growth("egress")?,
        load: growth("load")?,
        pairs: client::ask::<PairsAnswer>(agent, "/api/v1/pairs?top=10000")?,
    };
    let mut explanation = evidence.explanation();
    explanation.suspects = choose(&evidence, usize::from(arguments.top));
    for suspect in &mut explanation.suspects {
        let mut flows = Vec::<FlowRow>::new();
        for entity in suspect.entities.iter().take(ASKED) {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("entity", entity).append_pair("top", "10000");
            flows.extend(client::ask::<FlowsAnswer>(agent, &format!("/api/v1/flows?{}", query.finish()))?.flows);
        }
        suspect.sends_by(flows, DESTINATIONS);
    }
    Ok(explanation)
}
