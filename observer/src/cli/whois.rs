//! `observer whois`: who has an address, and who had it then. It asks the API of the debug listener and nothing else.

use super::{FAILED, Output, client, complain, exit_code, reach::Reach, time};
use crate::server::{BehindRow, FarEnd, LookedUpRow, WhoisAnswer, address_of, moment_of};
use crate::top::far_end;
use clap::Args;
use std::{fmt::Write as _, process::ExitCode};

const AFTER_HELP: &str = "\
The agent knows the pods of its own node as they come and go, and asks the API server about addresses elsewhere in the
cluster. Who is gone is known if the agent saw it, or was asked for it, while it was there. Times are UTC.

In a cluster, installed as kubectl-observer:
  kubectl observer whois 10.244.0.7 --node NODE --at 2026-11-26T10:00:00Z";

/// Of whom, and when.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The address, or ADDRESS:PORT, which tells a pod in a node's network
    #[arg(value_name = "ADDRESS", value_parser = written)]
    address: String,
    /// When: a time such as 2026-11-26T10:00:00Z or "2026-11-26 10:00" (UTC), or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment_of)]
    at: Option<u64>,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    reach: Reach,
}

fn written(text: &str) -> Result<String, String> {
    address_of(text).map(|_| text.to_owned())
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let reached = arguments.reach.one();
    let answer = reached.and_then(|reached| client::ask::<WhoisAnswer>(&reached.address, &target(arguments)));
    let shown = answer.and_then(|answer| match arguments.output {
        Output::Text => Ok(line(&answer)),
        Output::Json => Ok(serde_json::to_string_pretty(&answer)? + "\n"),
    });
    match shown {
        Ok(text) => super::print(&text),
        Err(error) => {
            complain(&format!("{error:#}").replace('\n', " "));
            exit_code(FAILED)
        }
    }
}

/// The path and query of the request.
fn target(arguments: &Arguments) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("address", &arguments.address);
    if let Some(at) = arguments.at {
        query.append_pair("at", &at.to_string());
    }
    format!("/api/v1/whois?{}", query.finish())
}

/// All in one line.
fn line(answer: &WhoisAnswer) -> String {
    let WhoisAnswer { node, address, port, at_unix_seconds, scope, holder, others, looked_up, missing, .. } = answer;
    let port = port.map(|port| format!(" port {port}")).unwrap_or_default();
    let mut text = format!("{address}{port} ({scope}): ");
    match holder {
        Some(holder) => text.push_str(&described(holder)),
        // A name is who it is to those who looked it up.
        None if !looked_up.is_empty() => text.push_str("known by its names"),
        None => {
            let _ = write!(text, "nobody that the agent of {node} knows of at {} UTC", time::second(*at_unix_seconds));
        }
    }
    for (at, other) in others.iter().enumerate() {
        text.push_str(if at == 0 { "; it was or is also " } else { ", and " });
        text.push_str(&described(other));
    }
    for (at, BehindRow { address, port, connections, remote }) in answer.behind.iter().enumerate() {
        text.push_str(if at == 0 { "; behind it, for this node, " } else { ", and " });
        let end = far_end::endpoint(Some(address), Some(*port));
        let who = remote.as_ref().map_or_else(|| "nobody that is known".into(), described);
        let plural = if *connections == 1 { "" } else { "s" };
        let _ = write!(text, "{who} at {end} ({connections} connection{plural})");
    }
    if answer.behind_more > 0 {
        let _ = write!(text, ", and {} more connections", answer.behind_more);
    }
    for (at, LookedUpRow { name, entity, as_of_unix_seconds }) in looked_up.iter().enumerate() {
        text.push_str(if at == 0 { "; looked up as " } else { ", and as " });
        let _ = write!(text, "{name} by {entity}, as of {}", time::second(*as_of_unix_seconds));
    }
    if let Some(missing) = missing {
        let _ = write!(text, "; not all may be known: {missing}");
    }
    text.push('\n');
    text
}

/// `pod shop/web-1 (deployment web) on worker-1, since … until …`.
fn described(end: &FarEnd) -> String {
    let mut text = far_end::full_name(end);
    if end.by_port {
        text.push_str(", by its port of the node,");
    }
    let FarEnd { since_unix_seconds, until_unix_seconds, as_of_unix_seconds, .. } = end;
    if let Some(since) = since_unix_seconds {
        let _ = write!(text, " since {}", time::second(*since));
    }
    match (until_unix_seconds, as_of_unix_seconds) {
        (Some(until), _) => {
            let _ = write!(text, " until {}, gone", time::second(*until));
        }
        (None, Some(as_of)) => {
            let _ = write!(text, ", as of {}", time::second(*as_of));
        }
        (None, None) => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line() {
        let text = |text: &str| Some(text.to_owned());
        let pod = |name: &str, since, until| FarEnd {
            kind: "pod".into(),
            namespace: text("shop"),
            name: name.into(),
            workload: text("web"),
            workload_type: text("deployment"),
            node: text("worker-1"),
            since_unix_seconds: since,
            until_unix_seconds: until,
            ..FarEnd::default()
        };
        let answer = WhoisAnswer {
            node: "worker-1".into(),
            address: "10.244.0.7".into(),
            scope: "node".into(),
            at_unix_seconds: 86_400,
            holder: Some(pod("web-1", Some(86_400), None)),
            others: vec![pod("web-0", None, Some(86_000))],
            ..WhoisAnswer::default()
        };
        assert_eq!(
            line(&answer),
            "10.244.0.7 (node): pod shop/web-1 (deployment web) on worker-1 since 1970-01-02 00:00:00; it was or is also pod \
             shop/web-0 (deployment web) on worker-1 until 1970-01-01 23:53:20, gone\n"
        );
        let nobody =
            WhoisAnswer { holder: None, others: Vec::new(), missing: text("no API server"), port: Some(53), ..answer };
        assert_eq!(
            line(&nobody),
            "10.244.0.7 port 53 (node): nobody that the agent of worker-1 knows of at 1970-01-02 00:00:00 UTC; not all may be \
             known: no API server\n"
        );
        let service = FarEnd {
            kind: "service".into(),
            namespace: text("shop"),
            name: "db".into(),
            as_of_unix_seconds: Some(0),
            ..FarEnd::default()
        };
        assert_eq!(described(&service), "service shop/db, as of 1970-01-01 00:00:00");
        let behind =
            |address: &str, connections, remote| BehindRow { address: address.into(), port: 5432, connections, remote };
        let one = FarEnd { workload: None, node: None, ..pod("db-0", None, None) };
        let with_pods = WhoisAnswer {
            address: "10.96.0.7".into(),
            scope: "service".into(),
            holder: Some(service),
            behind: vec![behind("10.244.0.9", 2, Some(one)), behind("fd00::9", 1, None)],
            behind_more: 3,
            missing: None,
            port: None,
            ..nobody
        };
        assert_eq!(
            line(&with_pods),
            "10.96.0.7 (service): service shop/db, as of 1970-01-01 00:00:00; behind it, for this node, pod shop/db-0 at \
             10.244.0.9:5432 (2 connections), and nobody that is known at [fd00::9]:5432 (1 connection), and 3 more connections\n"
        );
    }

    #[test]
    fn the_target_says_when_if_that_was_said() {
        let arguments =
            |at| Arguments { address: "[fd00::5]:443".into(), at, output: Output::Text, reach: Reach::default() };
        assert_eq!(target(&arguments(None)), "/api/v1/whois?address=%5Bfd00%3A%3A5%5D%3A443");
        assert_eq!(target(&arguments(Some(5))), "/api/v1/whois?address=%5Bfd00%3A%3A5%5D%3A443&at=5");
        assert!(written("web-1").is_err());
    }
}
