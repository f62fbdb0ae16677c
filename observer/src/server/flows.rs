//! `/api/v1/flows`: where an entity's bytes go and come from.

use super::{
    FarEnd, FlowRow, FlowsQuery, SpokenTo, Who, behind,
    flow_row::{Candidate, WITH_PORTS, names, protocol_name, row},
};
use crate::{
    kernel::program,
    ledger::{
        BehindAll, Entity, EntityId, Flow, FlowBooks, FlowView, Identity, Ledger, OpenConnections, OwnAddresses,
        ProgramFacts, Speech, Translated,
    },
};
use observer_ebpf::{Scope, Traffic};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
};

/// The flows that carry the most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowsAnswer {
    /// The node.
    pub node: String,
    /// Over how long the rates are.
    pub interval_seconds: f64,
    /// The fastest first, and those that carry nothing now by what they carried.
    pub flows: Vec<FlowRow>,
    /// How many flows there are beyond those that were asked for.
    pub more: usize,
    /// What those carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_carried: Option<Carried>,
    /// Flows whose far ends were forgotten since the agent started, since there were more than it keeps.
    pub forgotten: u64,
    /// Programs that do not run, without which some of this is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingProgram>,
    /// What sockets carried that are still open, where those cannot be read: it is in no flow until they close.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_no_flow: Option<Carried>,
    /// Why it is not told, or not wholly, who stands behind the services that are spoken to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_missing: Option<String>,
}

/// What flows are told from.
#[derive(Clone, Copy, Debug)]
pub struct FlowsSource<'a> {
    /// The node.
    pub node: &'a str,
    /// The books.
    pub ledger: &'a Ledger,
    /// The flows before, and now.
    pub views: [&'a FlowView; 2],
    /// The programs and why some do not run.
    pub programs: &'a [ProgramFacts],
    /// Connections to services, and where they go.
    pub translated: &'a [Translated],
    /// Why those may not be all.
    pub translated_missing: Option<&'a str>,
    /// The node's own addresses.
    pub own: OwnAddresses<'a>,
    /// Now.
    pub now_unix_seconds: u64,
}

/// L3 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Sent.
    pub transmit_bytes: u64,
    /// Received.
    pub receive_bytes: u64,
}

/// A program that does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingProgram {
    /// Its name.
    pub program: String,
    /// Why.
    pub reason: String,
}

/// Flows as they are shown: what is yet to be told apart by who has an address is together.
fn shown(ledger: &Ledger, wants: impl Fn(&Flow) -> bool) -> HashMap<Flow, Cow<'_, FlowBooks>> {
    let mut all = HashMap::new();
    for (flow, books) in ledger.flows().filter(|(flow, _)| wants(flow)) {
        match all.entry(ledger.as_shown(flow)) {
            Entry::Vacant(place) => _ = place.insert(Cow::Borrowed(books)),
            Entry::Occupied(mut known) => known.get_mut().to_mut().merge(books),
        }
    }
    all
}

/// The last tenancy of each flow's far end: what is known of now is of that.
fn latest(flows: &HashMap<Flow, Cow<'_, FlowBooks>>) -> HashMap<Flow, u32> {
    let mut latest = HashMap::new();
    for flow in flows.keys().filter(|flow| flow.tenancy != 0) {
        let last: &mut u32 = latest.entry(flow.of_anyone()).or_default();
        *last = flow.tenancy.max(*last);
    }
    latest
}

impl FlowsAnswer {
    /// What the books say, and what happened between two views.
    pub fn of(source: FlowsSource<'_>, query: &FlowsQuery) -> Self {
        let FlowsSource { node, ledger, views: [before, now], programs, translated, now_unix_seconds, .. } = source;
        let identities: HashMap<EntityId, &Identity> =
            ledger.entities().iter().map(|entity| (entity.id, &entity.identity)).collect();
        let wanted = query.entity.as_deref().map(|wanted| -> Vec<EntityId> {
            let is_meant = |identity: &Identity| Who::from(identity).is_meant_by(wanted);
            identities.iter().filter(|(_, identity)| is_meant(identity)).map(|(id, _)| *id).collect()
        });
        let interval = now.at_ns.saturating_sub(before.at_ns) as f64 / 1e9;
        let rate = |bytes: u64| if interval > 0.0 { bytes as f64 / interval } else { 0.0 };
        let is_wanted = |flow: &Flow| wanted.as_ref().is_none_or(|wanted| wanted.contains(&flow.entity));
        let flows = shown(ledger, is_wanted);
        let (latest, last) = (latest(&flows), last_of_each(&flows));
        let sees_open_sockets = !missing(programs).iter().any(|missing| missing.program == program::SOCKETS);
        let in_no_flow =
            if sees_open_sockets { None } else { in_no_flow(ledger, &flows, wanted.as_deref(), query.scope) };
        let mut all: Vec<_> = flows
            .into_iter()
            .filter(|(flow, books)| query.wants(flow, books, now.at_ns))
            .map(|(flow, books)| {
                let is_latest = latest.get(&flow.of_anyone()).is_none_or(|latest| *latest == flow.tenancy);
                let rates = if is_latest { now.bytes_since(before, &flow).map(rate) } else { [0.0; 2] };
                let open = if is_latest { now.open(&flow) } else { OpenConnections::default() };
                let open = sees_open_sockets.then_some(open);
                Candidate { flow, books, open, rates }
            })
            .collect();
        all.sort_unstable_by(|one, other| {
            let key = |candidate: &Candidate<'_>| candidate.rates.iter().sum::<f64>();
            let by_rate = key(other).total_cmp(&key(one));
            by_rate.then(other.books.bytes().cmp(&one.books.bytes())).then_with(|| one.flow.cmp(&other.flow))
        });
        let BehindAll { of: behind, unclear } = ledger.behind(now, translated, source.own, now_unix_seconds);
        let shown = all.iter().take(query.top).filter_map(|candidate| Speech::of(&candidate.flow)).collect();
        let rows = all.iter().take(query.top).filter_map(|candidate| {
            let speech = Speech::of(&candidate.flow).filter(|speech| last.get(speech) == Some(&candidate.flow));
            let behind = speech.and_then(|speech| Some((speech.protocol, behind.get(&speech)?)));
            let (behind, behind_more) = behind.map_or((Vec::new(), 0), |(protocol, behind)| {
                behind::rows(ledger, behind, Some(protocol), now_unix_seconds)
            });
            let quiet_seconds = now.at_ns.saturating_sub(candidate.books.active_ns) / 1_000_000_000;
            let active = now_unix_seconds.saturating_sub(quiet_seconds);
            let held = ledger.far_end(&candidate.flow, active).map(FarEnd::of);
            let remote = held.or_else(|| ledger.looked_up_name(&candidate.flow, active).map(FarEnd::looked_up));
            let names = names(ledger, &candidate.flow);
            let entity = identities.get(&candidate.flow.entity)?;
            Some(FlowRow { behind, behind_more, names, ..row(Who::from(*entity), remote, candidate) })
        });
        Self {
            node: node.to_owned(),
            interval_seconds: interval,
            flows: rows.collect(),
            more: all.len().saturating_sub(query.top),
            more_carried: all.get(query.top..).filter(|more| !more.is_empty()).map(carried),
            forgotten: ledger.flows_forgotten(),
            missing: missing(programs),
            in_no_flow,
            behind_missing: behind_missing(source.translated_missing, unclear_of(&shown, &unclear)),
        }
    }

    /// The services that are spoken to.
    pub fn services(&self) -> HashSet<SpokenTo> {
        let is_service = |row: &&FlowRow| {
            row.scope == Scope::Service.label() || row.remote.as_ref().is_some_and(|remote| remote.kind == "service")
        };
        let spoken_to = |row: &FlowRow| {
            let protocol = WITH_PORTS.into_iter().find(|protocol| protocol_name(*protocol) == row.protocol)?;
            let address = row.remote_address.as_ref()?.parse().ok()?;
            Some(SpokenTo { address, port: Some(row.remote_port?), protocol: Some(protocol) })
        };
        self.flows.iter().filter(is_service).filter_map(spoken_to).collect()
    }
}

/// Of the flows that speak to the same, at different times, the one that carried something last: what is known of now is of that.
fn last_of_each(flows: &HashMap<Flow, Cow<'_, FlowBooks>>) -> HashMap<Speech, Flow> {
    let mut last: HashMap<Speech, (u64, Flow)> = HashMap::new();
    for (flow, books) in flows {
        let Some(speech) = Speech::of(flow) else { continue };
        let this = (books.active_ns, *flow);
        let known = last.entry(speech).or_insert(this);
        *known = this.max(*known);
    }
    last.into_iter().map(|(speech, (_, flow))| (speech, flow)).collect()
}

/// What flows carried together. Some may be less than nothing, and all of them for a moment, too: see `row`.
fn carried(flows: &[Candidate<'_>]) -> Carried {
    let sum = |bytes: fn(&Traffic) -> u64| {
        let sum = flows.iter().fold(0u64, |sum, flow| sum.wrapping_add(bytes(&flow.books.traffic)));
        u64::try_from(sum.cast_signed()).unwrap_or_default()
    };
    Carried {
        transmit_bytes: sum(|traffic| traffic.transmit_bytes),
        receive_bytes: sum(|traffic| traffic.receive_bytes),
    }
}

/// How many connections may be one of those flows', and may be another's.
fn unclear_of(shown: &HashSet<Speech>, unclear: &HashMap<BTreeSet<Speech>, u64>) -> u64 {
    let of_these = unclear.iter().filter(|(candidates, _)| candidates.iter().any(|speech| shown.contains(speech)));
    of_these.map(|(_, connections)| connections).sum()
}

fn behind_missing(why: Option<&str>, unclear: u64) -> Option<String> {
    let unclear = (unclear > 0).then(|| {
        format!(
            "of {unclear} connections to services it cannot be told whose they are: several containers or programs have the \
             address, or it was another's just now"
        )
    });
    let all: Vec<_> = why.map(str::to_owned).into_iter().chain(unclear).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What the entities have on their books beyond what the flows have. What is hidden in a namespace's `other` has flows of its own, and no
/// books: only for all together can it be told.
fn in_no_flow(
    ledger: &Ledger,
    flows: &HashMap<Flow, Cow<'_, FlowBooks>>,
    wanted: Option<&[EntityId]>,
    scope: Option<Scope>,
) -> Option<Carried> {
    let is_meant = |entity: &&Entity| wanted.is_none_or(|wanted| wanted.contains(&entity.id));
    let mut all = Carried::default();
    for entity in ledger.entities().iter().filter(is_meant) {
        if wanted.is_some() && (!entity.shown || matches!(entity.identity, Identity::Other { .. })) {
            return None;
        }
        let scopes = entity.books.traffic.iter().enumerate();
        for (_, traffic) in scopes.filter(|(at, _)| scope.is_none_or(|scope| scope as usize == *at)) {
            all.transmit_bytes += traffic.transmit_bytes;
            all.receive_bytes += traffic.receive_bytes;
        }
    }
    let of_scope = flows.iter().filter(|(flow, _)| scope.is_none_or(|scope| scope as u8 == flow.scope));
    // Some may be less than nothing: see `row`.
    let [transmit, receive] = of_scope.fold([0u64; 2], |[transmit, receive], (_, books)| {
        let Traffic { transmit_bytes, receive_bytes, .. } = books.traffic;
        [transmit.wrapping_add(transmit_bytes), receive.wrapping_add(receive_bytes)]
    });
    all.transmit_bytes = all.transmit_bytes.saturating_sub(transmit);
    all.receive_bytes = all.receive_bytes.saturating_sub(receive);
    Some(all)
}

/// Those without which flows are not whole.
fn missing(programs: &[ProgramFacts]) -> Vec<MissingProgram> {
    const NEEDED: [&str; 5] = [program::EGRESS, program::INGRESS, program::ACCEPT, program::RELEASE, program::SOCKETS];
    let needed = programs.iter().filter(|program| NEEDED.contains(&program.name));
    let down = needed.filter_map(|program| Some((program.name, program.down_because.as_ref()?)));
    down.map(|(program, reason)| MissingProgram { program: program.into(), reason: reason.clone() }).collect()
}

#[cfg(test)]
mod tests;
