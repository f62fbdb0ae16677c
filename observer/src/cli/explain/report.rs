//! The text.

use crate::{
    cli::time,
    explain::{Destination, Explanation, Grown, Sufferer, Suspect},
    server::FarEnd,
    top::{
        far_end,
        figures::{bytes, rate, seconds, tasks},
    },
};
use std::fmt::Write as _;

/// Containers that are named.
const MOST_ENTITIES: usize = 3;
/// Shorter waits than this, in seconds, are nobody's worry.
const LEAST_WAIT: f64 = 1.0;

/// How the same agent is asked for more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The program, as it is called.
    pub(super) called: &'a str,
    /// The flags that mean the agent.
    pub(super) reach: &'a str,
    /// How far back.
    pub(super) since: &'a str,
}

/// What is known, and how, for people.
pub(super) fn report(explanation: &Explanation, asked: &Asked<'_>) -> String {
    let Explanation { node, time_unix_seconds, load, all, egress, active_tasks, suspects, .. } = explanation;
    let mut text = format!("{node} at {} UTC", time::second(*time_unix_seconds));
    if let Some(load) = load {
        let _ = write!(text, ": load {} {} {}", tasks(load.load1), tasks(load.load5), tasks(load.load15));
    }
    if let Some(rest) = explanation.load1_unattributed {
        let _ = write!(text, " ({} nobody's)", tasks(rest));
    }
    let _ = writeln!(
        text,
        "; sends {}, {} in the busiest second of the last minute",
        rate(all.transmit_bytes_per_second),
        rate(all.transmit_peak_bytes_per_second)
    );
    let _ = writeln!(text, "  {:<13} {}", "egress", grown(egress, rate));
    let _ = writeln!(text, "  {:<13} {}", "load", grown(active_tasks, tasks_told));
    if suspects.is_empty() {
        text.push_str("\nNobody does anything.\n");
    }
    let load1 = load.map(|load| load.load1);
    for (at, one) in suspects.iter().enumerate() {
        suspect(&mut text, at + 1, one, load1, asked);
    }
    text
}

fn tasks_told(value: f64) -> String {
    format!("{} tasks", tasks(value))
}

fn suspect(text: &mut String, number: usize, suspect: &Suspect, load1: Option<f64>, asked: &Asked<'_>) {
    let Suspect { name, workload_type, entities, now, egress, active_tasks, .. } = suspect;
    let kind = workload_type.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let kind = if name == "/" { " (the root cgroup)".to_owned() } else { kind };
    let _ = writeln!(text, "\n{number}. {name}{kind}");
    let mut line = |what: &str, told: String| {
        let _ = writeln!(text, "   {what:<13} {told}");
    };
    // What is in no pod has no history.
    let is_known = workload_type.is_some();
    if is_known {
        line("egress", grown(egress, rate));
    }
    line(
        if is_known { "" } else { "egress" },
        format!(
            "now {}, {} in the busiest second of the last minute",
            rate(now.transmit_bytes_per_second),
            rate(now.transmit_peak_bytes_per_second)
        ),
    );
    for (at, end) in suspect.destinations.iter().enumerate() {
        let (share, so_far) = (end.share * 100.0, bytes(end.transmit_bytes as f64));
        line(if at == 0 { "goes to" } else { "" }, format!("{share:.0} % {}, {so_far} so far", described(end)));
    }
    if suspect.other_destinations_bytes > 0 {
        line("", format!("and {} elsewhere", bytes(suspect.other_destinations_bytes as f64)));
    }
    if is_known {
        line("load", grown(active_tasks, tasks_told));
    }
    let of = load1
        .filter(|load1| *load1 > 0.0)
        .map(|load1| format!(" of the node's {} ({:.0} %)", tasks(load1), 100.0 * now.load.load1 / load1));
    line(if is_known { "" } else { "load" }, format!("now {}{}", tasks(now.load.load1), of.unwrap_or_default()));
    if let Some(Sufferer { name, wait_seconds }) = &suspect.sufferer
        && suspect.caused_wait_seconds >= LEAST_WAIT
    {
        line(
            "in the way",
            format!(
                "others waited {} for CPUs that it had, {name} the longest: {}",
                seconds(suspect.caused_wait_seconds),
                seconds(*wait_seconds)
            ),
        );
    }
    if entities.is_empty() {
        line("here", "no more: none of its pods is on this node".into());
    } else {
        let more = entities.len().saturating_sub(MOST_ENTITIES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        line("here", entities[..entities.len().min(MOST_ENTITIES)].join(", ") + &more);
    }
    for (at, source) in sources(suspect, asked).iter().enumerate() {
        line(if at == 0 { "seen by" } else { "" }, source.clone());
    }
}

/// How it grows, since when, and from what.
fn grown(grown: &Grown, unit: fn(f64) -> String) -> String {
    // Without a sign where there is nothing to tell of.
    let percent = |share: f64| format!("{:.1} %", share * 100.0).replace("-0.0 %", "0.0 %");
    let Some(growth) = grown.peak_growth_per_day else {
        return match grown.days {
            0 => "no whole day is known yet: growth is told from five days on".into(),
            1 => "one day is known: growth is told from five days on".into(),
            days => format!("{days} days are known: growth is told from five days on"),
        };
    };
    let mean = grown.mean_growth_per_day.map(|mean| format!("; the mean {} a day", percent(mean))).unwrap_or_default();
    let peak = |value: Option<f64>| value.map(unit).unwrap_or_default();
    if !grown.grows {
        return format!(
            "level over {} days: the newest day has {} in its largest second{mean}",
            grown.days,
            peak(grown.peak_now)
        );
    }
    let day = grown.since_unix_seconds.map(time::day).unwrap_or_default();
    let since =
        if grown.is_onset_seen { format!("since {day}") } else { format!("since {day} at least, as far as is known") };
    format!(
        "the largest second of a day grows by {} a day {since}: {} then, {} now{mean}",
        percent(growth),
        peak(grown.peak_then),
        peak(grown.peak_now)
    )
}

/// `pod db/gateway-0 (statefulset gateway) on worker-3, 10.244.3.7:9335 tcp, cluster`.
fn described(to: &Destination) -> String {
    let end = far_end::endpoint(to.remote_address.as_deref(), to.remote_port);
    let name = to.remote.as_ref().map(|remote| format!("{}, ", named(remote))).unwrap_or_default();
    let asked = to.local_port.map(|port| format!(", which asked at port {port}")).unwrap_or_default();
    let behind = far_end::behind(&to.behind, named);
    format!("{name}{end} {}, {}{asked}{behind}", to.protocol, to.scope)
}

fn named(end: &FarEnd) -> String {
    let gone = if end.until_unix_seconds.is_some() { ", gone" } else { "" };
    far_end::full_name(end) + gone
}

/// What to ask for more: each is what the lines above are made of.
fn sources(suspect: &Suspect, Asked { called, reach, since }: &Asked<'_>) -> Vec<String> {
    let mut all = Vec::new();
    if suspect.workload_type.is_some() {
        let name = &suspect.name;
        all.push(format!("{called} history --workload {name} --metric egress_peak --since {since}{reach}"));
        if suspect.active_tasks.grows {
            all.push(format!("{called} history --workload {name} --metric load_peak --since {since}{reach}"));
        }
    }
    if let Some(address) = suspect.destinations.iter().find_map(|one| one.remote_address.as_ref()) {
        all.push(format!("{called} whois {address}{reach}"));
    }
    if let Some(entity) = suspect.entities.first() {
        all.push(format!("/api/v1/flows?entity={entity}, /api/v1/pairs"));
    }
    all
}
