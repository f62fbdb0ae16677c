//! All of one entity, line by line.

use super::{
    View, far_end,
    figures::{bytes, rate, seconds, tasks},
};
use crate::server::{Carried, EntityRow, FlowRow, Pair};
use std::fmt::Write as _;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Head,
    Plain,
    Trouble,
}

/// A line, which may be longer than the window is wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) kind: Kind,
    /// Where its rest begins on the lines below.
    pub(super) hang: usize,
    pub(super) text: String,
}

/// What is no table.
const SENTENCE: usize = 2;
/// Three figures and the spaces after them.
const FLOW: usize = 34;
/// One.
const PAIR: usize = 12;

/// The lines of the entity that is shown.
pub(super) fn lines(view: &View) -> Vec<Told> {
    let Some(one) = view.one() else { return Vec::new() };
    let mut lines = Vec::new();
    match view.row_of_one() {
        Some(row) => facts(row, &mut lines),
        None => lines.push(told(Kind::Trouble, SENTENCE, format!("{one} is not, or no longer, on this node"))),
    }
    flows(view, &mut lines);
    pairs(view, one, &mut lines);
    lines
}

fn told(kind: Kind, hang: usize, text: impl Into<String>) -> Told {
    Told { kind, hang, text: text.into() }
}

fn facts(row: &EntityRow, lines: &mut Vec<Told>) {
    let mut say = |text: String| lines.push(told(Kind::Plain, SENTENCE, text));
    let EntityRow { entity, now, .. } = row;
    if let (Some(workload), Some(kind)) = (&entity.workload, &entity.workload_type) {
        say(format!("of {kind} {workload}"));
    }
    let load = now.load;
    say(format!(
        "load {} {} {}, {} tasks now, {} at most in the last minute",
        tasks(load.load1),
        tasks(load.load5),
        tasks(load.load15),
        tasks(now.active_tasks),
        tasks(now.load_peak)
    ));
    let mut waits = format!("waited {} for a CPU", seconds(row.wait_seconds));
    for (by, spent) in &row.caused_wait_seconds {
        let _ = write!(waits, ", {} for {}", seconds(*spent), by.replace('_', " "));
    }
    if let Some(throttled) = row.throttled_seconds {
        let _ = write!(waits, "; stopped by its own limit for {}", seconds(throttled));
    }
    say(waits);
    if let Some(memory) = row.memory_working_set_bytes {
        let limit =
            row.memory_limit_bytes.map_or_else(|| "no limit".into(), |limit| format!("of {}", bytes(limit as f64)));
        let kills = row.oom_kills.unwrap_or(0);
        say(format!("memory {} ({limit}), {kills} processes killed for want of it", bytes(memory as f64)));
    }
    say(format!(
        "sends {} ({} in a second at most), receives {}; {} segments sent again, {} connections failed",
        rate(now.transmit_bytes_per_second),
        rate(now.transmit_peak_bytes_per_second),
        rate(now.receive_bytes_per_second),
        row.retransmits,
        row.failed_connections
    ));
    lines.push(told(Kind::Head, SENTENCE, format!("{:<12} {:>12} {:>12}", "SCOPE", "SENT", "RECEIVED")));
    let scopes: std::collections::BTreeSet<_> = row.transmit_bytes.keys().chain(row.receive_bytes.keys()).collect();
    for scope in scopes {
        let of = |all: &std::collections::BTreeMap<String, u64>| bytes(all.get(scope).copied().unwrap_or(0) as f64);
        let (sent, received) = (of(&row.transmit_bytes), of(&row.receive_bytes));
        lines.push(told(Kind::Plain, SENTENCE, format!("{scope:<12} {sent:>12} {received:>12}")));
    }
}

fn flows(view: &View, lines: &mut Vec<Told>) {
    lines.push(told(Kind::Head, FLOW, format!("{:>10} {:>10} {:>10}  {}", "SENDS", "RECEIVES", "SENT", "FLOW")));
    if let Some(trouble) = &view.trouble_of_one {
        lines.push(told(Kind::Trouble, SENTENCE, trouble));
    }
    let Some(answer) = &view.flows else {
        if view.trouble_of_one.is_none() {
            lines.push(told(Kind::Plain, SENTENCE, "asking ..."));
        }
        return;
    };
    for missing in &answer.missing {
        let text = format!("not whole: {} does not run ({})", missing.program, missing.reason);
        lines.push(told(Kind::Trouble, SENTENCE, text));
    }
    if let Some(Carried { transmit_bytes, receive_bytes }) = answer.in_no_flow {
        let [sent, received] = [transmit_bytes, receive_bytes].map(|sum| bytes(sum as f64));
        lines.push(told(
            Kind::Trouble,
            SENTENCE,
            format!("in no flow until they close: open sockets, {sent} sent, {received} received"),
        ));
    }
    for flow in &answer.flows {
        lines.push(told(
            Kind::Plain,
            FLOW,
            format!(
                "{:>10} {:>10} {:>10}  {}",
                rate(flow.transmit_bytes_per_second),
                rate(flow.receive_bytes_per_second),
                bytes(flow.transmit_bytes as f64),
                described(flow)
            ),
        ));
    }
    if answer.flows.is_empty() {
        lines.push(told(Kind::Plain, SENTENCE, "nothing was carried"));
    }
}

/// `to pod shop/db-0 10.244.3.7:5432 tcp, cluster`.
fn described(flow: &FlowRow) -> String {
    let end = far_end::endpoint(flow.remote_address.as_deref(), flow.remote_port);
    let way = if flow.direction == "outbound" { "to" } else { "from" };
    let name = flow.remote.as_ref().map(|remote| format!("{} ", far_end::name(remote))).unwrap_or_default();
    let behind = far_end::behind(&flow.behind, far_end::name);
    format!("{way} {name}{end} {}, {}{behind}", flow.protocol, flow.scope)
}

fn pairs(view: &View, one: &str, lines: &mut Vec<Told>) {
    let Some(answer) = &view.pairs else { return };
    lines.push(told(Kind::Head, PAIR, format!("{:>10}  {}", "WAITED", "WHO FOR WHOM")));
    let before = lines.len();
    for Pair { victim, cause, culprit, wait_seconds } in &answer.pairs {
        let is_one = |who: &crate::server::Who| who.to_string() == one;
        if !is_one(victim) && !culprit.as_ref().is_some_and(is_one) {
            continue;
        }
        let whom = match (culprit, cause.as_str()) {
            (Some(culprit), _) => culprit.to_string(),
            (None, "throttled") => "its own limit".into(),
            (None, _) => "nobody: the CPU was idle".into(),
        };
        lines.push(told(Kind::Plain, PAIR, format!("{:>10}  {victim} for {whom}", seconds(*wait_seconds))));
    }
    if lines.len() == before {
        lines.push(told(Kind::Plain, SENTENCE, "nobody waited long"));
    }
}
