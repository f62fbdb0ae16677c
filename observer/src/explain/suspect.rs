//! Who is to be explained, and what is known of each.

use super::onset::{LEAST_COVERED, onset};
use crate::{
    history::{Growth, GrowthAnswer, Trend, WorkloadGrowth},
    server::{Averages, BehindRow, Doings, EntityRow, FarEnd, FlowRow, PairsAnswer, SnapshotAnswer, Who},
};
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Of each list so many are explained, if nothing else is said for all of them together.
const OF_EACH: usize = 2;
/// Who does less of what all do together than this is none that makes it.
const MATTERS: f64 = 0.05;
/// A far end that took less than this part is not told of.
const LEAST_SHARE: f64 = 0.005;

/// What the API told.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Everybody, now.
    pub snapshot: SnapshotAnswer,
    /// How everybody's egress grows.
    pub egress: GrowthAnswer,
    /// How everybody's load grows.
    pub load: GrowthAnswer,
    /// Who waits for whom.
    pub pairs: PairsAnswer,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The node.
    pub node: String,
    /// When.
    pub time_unix_seconds: u64,
    /// How far back growth was looked for.
    pub since_unix_seconds: u64,
    /// The kernel's load averages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Averages>,
    /// What of the first of them is no entity's: while an agent is young, most of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load1_unattributed: Option<f64>,
    /// What all of them do.
    pub all: Doings,
    /// The node's own growth of what is sent.
    pub egress: Grown,
    /// The node's own growth of load.
    pub active_tasks: Grown,
    /// Those that make it, the first the most.
    pub suspects: Vec<Suspect>,
}

/// How something grows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Grown {
    /// Days of which enough is known.
    pub days: usize,
    /// Whether it does grow: by half a per cent a day at least, and by a tenth in all.
    pub grows: bool,
    /// The peak's growth a day, as a share; not there for fewer than five days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_growth_per_day: Option<f64>,
    /// The same of the mean, over the same days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_growth_per_day: Option<f64>,
    /// The first day of the peak's growth, if it grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_unix_seconds: Option<u64>,
    /// True when there are level days before that, so that it did begin then.
    pub is_onset_seen: bool,
    /// The peak of that day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_then: Option<f64>,
    /// The peak of the newest day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_now: Option<f64>,
}

/// A workload, or what is in no pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Suspect {
    /// Its namespace and name, or the cgroup's path.
    pub name: String,
    /// The workload's kind; not there of what is no pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_type: Option<String>,
    /// Its containers on this node, or cgroups, those that send most first.
    pub entities: Vec<String>,
    /// What they do together. A peak is the largest of one of them.
    pub now: Doings,
    /// How its egress grows.
    pub egress: Grown,
    /// How its load grows.
    pub active_tasks: Grown,
    /// Where its bytes go, the most first.
    pub destinations: Vec<Destination>,
    /// L3 bytes that went elsewhere.
    pub other_destinations_bytes: u64,
    /// Task-seconds that others waited for a CPU that it had, since the agent started.
    pub caused_wait_seconds: f64,
    /// Who waited for it the longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sufferer: Option<Sufferer>,
}

/// Somebody that waits for a suspect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sufferer {
    /// Who.
    pub name: String,
    /// Task-seconds.
    pub wait_seconds: f64,
}

/// A far end, and what all of a suspect's containers sent to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Destination {
    /// Its address; not there if it was forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<String>,
    /// Whose address that is, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<FarEnd>,
    /// Who stands behind it, if it is a service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<BehindRow>,
    /// Its port, if this end asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// This end's port, if the far end asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// `tcp` and so on.
    pub protocol: String,
    /// Where it is.
    pub scope: String,
    /// L3 bytes sent to it since the agent started.
    pub transmit_bytes: u64,
    /// The part of all that the suspect's flows sent.
    pub share: f64,
}

impl Destination {
    fn of(flow: FlowRow) -> Self {
        let FlowRow {
            remote_address, remote, behind, remote_port, local_port, protocol, scope, transmit_bytes, ..
        } = flow;
        Self { remote_address, remote, behind, remote_port, local_port, protocol, scope, transmit_bytes, share: 0.0 }
    }

    /// Whether both are the same far end, asked in the same way.
    fn is_that_of(&self, flow: &FlowRow) -> bool {
        let name =
            |end: &Option<FarEnd>| end.as_ref().map(|end| (end.kind.clone(), end.namespace.clone(), end.name.clone()));
        (&self.remote_address, self.remote_port, self.local_port, &self.protocol, name(&self.remote))
            == (&flow.remote_address, flow.remote_port, flow.local_port, &flow.protocol, name(&flow.remote))
    }
}

impl Evidence {
    /// The node's part of an explanation, without suspects.
    pub fn explanation(&self) -> Explanation {
        Explanation {
            node: self.snapshot.node.clone(),
            time_unix_seconds: self.snapshot.time_unix_seconds,
            since_unix_seconds: self.egress.since_unix_seconds,
            load: self.snapshot.load,
            load1_unattributed: self.snapshot.load1_unattributed,
            all: self.snapshot.all,
            egress: Grown::of(&self.egress.all),
            active_tasks: Grown::of(&self.load.all),
            suspects: Vec::new(),
        }
    }
}

/// Those that grow the most, and those that do the most now; `top` of them at most.
pub fn choose(evidence: &Evidence, top: usize) -> Vec<Suspect> {
    let mut all = BTreeMap::<(String, Option<String>), Suspect>::new();
    let mut rows: Vec<&EntityRow> = evidence.snapshot.entities.iter().collect();
    rows.sort_by(|a, b| b.now.transmit_bytes_per_second.total_cmp(&a.now.transmit_bytes_per_second));
    for row in rows {
        let suspect = all.entry(key(&row.entity)).or_default();
        // A pod's sandbox only holds it together.
        if !row.transmit_bytes.is_empty() || row.now.load.load1 >= 0.001 || row.entity.workload.is_none() {
            suspect.entities.push(row.entity.to_string());
        }
        suspect.now += row.now;
    }
    for (growth, of) in [
        (&evidence.egress, (|suspect| &mut suspect.egress) as fn(&mut Suspect) -> &mut Grown),
        (&evidence.load, |suspect| &mut suspect.active_tasks),
    ] {
        for WorkloadGrowth { workload, growth } in &growth.workloads {
            let Some(workload) = workload else { continue };
            let name = format!("{}/{}", workload.namespace, workload.workload);
            *of(all.entry((name, Some(workload.workload_type.clone()))).or_default()) = Grown::of(growth);
        }
    }
    for ((name, workload_type), suspect) in &mut all {
        (suspect.name, suspect.workload_type) = (name.clone(), workload_type.clone());
        blame(suspect, (name, workload_type.as_deref()), &evidence.pairs);
    }
    let mut all: Vec<Suspect> = all.into_values().collect();
    for Suspect { now, .. } in &mut all {
        // What all send in this second, one second has had.
        now.transmit_peak_bytes_per_second = now.transmit_peak_bytes_per_second.max(now.transmit_bytes_per_second);
        now.receive_peak_bytes_per_second = now.receive_peak_bytes_per_second.max(now.receive_bytes_per_second);
    }
    let chosen = chosen(&all, top);
    chosen.into_iter().map(|at| all[at].clone()).collect()
}

/// By how much somebody comes before others.
type Rank = fn(&Suspect) -> f64;

/// By what each adds a day, then by what each does now: a list after the other in turns, so that none crowds out another.
fn chosen(all: &[Suspect], top: usize) -> Vec<usize> {
    let lists: [(Rank, f64); 4] = [
        (|suspect| suspect.egress.added_a_day(), 0.0),
        (|suspect| suspect.active_tasks.added_a_day(), 0.0),
        (|suspect| suspect.now.transmit_peak_bytes_per_second, MATTERS),
        (|suspect| suspect.now.load.load1, MATTERS),
    ];
    let lists = lists.map(|(rank, part)| {
        let least = part * all.iter().map(rank).sum::<f64>();
        let mut list: Vec<_> = (0..all.len()).filter(|at| rank(&all[*at]) > least).collect();
        list.sort_by(|a, b| rank(&all[*b]).total_cmp(&rank(&all[*a])));
        list.truncate(OF_EACH.max(top));
        list
    });
    let mut chosen = Vec::new();
    // What grows comes first, whoever does more now.
    for pair in lists.chunks(2) {
        for place in 0..OF_EACH {
            let next = pair.iter().filter_map(|list| list.get(place));
            for at in next {
                if !chosen.contains(at) {
                    chosen.push(*at);
                }
            }
        }
    }
    chosen.truncate(top);
    chosen
}

fn key(who: &Who) -> (String, Option<String>) {
    match (&who.namespace, &who.workload, &who.workload_type) {
        (Some(namespace), Some(workload), Some(kind)) => (format!("{namespace}/{workload}"), Some(kind.clone())),
        _ => (who.to_string(), None),
    }
}

/// What others waited for it.
fn blame(suspect: &mut Suspect, of: (&str, Option<&str>), pairs: &PairsAnswer) {
    let is_it = |who: &Who| {
        let (name, kind) = key(who);
        (name.as_str(), kind.as_deref()) == of
    };
    let mut by_victim = BTreeMap::<String, f64>::new();
    for pair in &pairs.pairs {
        if pair.culprit.as_ref().is_some_and(is_it) && !is_it(&pair.victim) {
            *by_victim.entry(pair.victim.to_string()).or_default() += pair.wait_seconds;
        }
    }
    suspect.caused_wait_seconds = by_victim.values().sum();
    let longest = by_victim.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
    suspect.sufferer = longest.map(|(name, wait_seconds)| Sufferer { name, wait_seconds });
}

impl Suspect {
    /// Notes where its bytes go: of all its flows, the `top` that sent most.
    pub fn sends_by(&mut self, mut flows: Vec<FlowRow>, top: usize) {
        let entities: BTreeSet<_> = self.entities.iter().cloned().collect();
        flows.retain(|flow| entities.contains(&flow.entity.to_string()) && flow.transmit_bytes > 0);
        let all: u64 = flows.iter().map(|flow| flow.transmit_bytes).sum();
        let mut ends = Vec::<Destination>::new();
        for flow in flows {
            match ends.iter_mut().find(|end| end.is_that_of(&flow)) {
                Some(end) => end.transmit_bytes += flow.transmit_bytes,
                None => ends.push(Destination::of(flow)),
            }
        }
        ends.sort_by_key(|end| Reverse(end.transmit_bytes));
        for end in &mut ends {
            end.share = end.transmit_bytes as f64 / all as f64;
        }
        ends.truncate(top);
        ends.retain(|end| end.share >= LEAST_SHARE);
        self.other_destinations_bytes = all - ends.iter().map(|end| end.transmit_bytes).sum::<u64>();
        self.destinations = ends;
    }
}

impl Grown {
    fn of(growth: &Growth) -> Self {
        let known = || growth.days.iter().filter(|day| day.covered_seconds >= LEAST_COVERED);
        let days = known().count();
        let peak_now = growth.days.last().map(|day| day.peak);
        let Some(onset) = onset(&growth.days, |day| day.peak) else {
            return Self { days, peak_now, ..Self::default() };
        };
        let means: Vec<_> = known()
            .filter(|day| day.time_unix_seconds >= onset.since_unix_seconds)
            .map(|day| (day.time_unix_seconds / 86_400, day.mean))
            .collect();
        let grows = onset.is_growth();
        Self {
            days,
            grows,
            peak_growth_per_day: Some(onset.growth_per_day),
            mean_growth_per_day: Trend::of(&means).map(|trend| trend.growth_per_day),
            since_unix_seconds: grows.then_some(onset.since_unix_seconds),
            is_onset_seen: grows && onset.is_seen,
            peak_then: grows.then_some(onset.then),
            peak_now,
        }
    }

    fn added_a_day(&self) -> f64 {
        if !self.grows {
            return 0.0;
        }
        self.peak_growth_per_day.unwrap_or(0.0) * self.peak_now.unwrap_or(0.0)
    }
}
