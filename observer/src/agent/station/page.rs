//! A page: what only a scrape needs, and the budget of series.

use super::Station;
use crate::{
    agent::{clock::unix_seconds, pods::Pods},
    kernel::{monotonic_ns, program},
    ledger::{AgentFacts, Ledger, MapFacts, NodeFacts, PodFacts, Snapshot},
    metrics, procfs,
    server::{ProgramsAnswer, SnapshotAnswer, SnapshotQuery},
};
use observer_ebpf::{Drop, MAX_OPEN_SLEEPS, dns::MAX_QUESTIONS};
use std::io;

/// How old a reading may be that several share who ask for a snapshot: all who listen ask when a window ends.
const SHARED_NS: u64 = 300_000_000;

impl Station {
    /// Books, and reads what of entities and node only a reader needs.
    fn read_for_readers(&mut self) -> io::Result<()> {
        self.read()?;
        let waits_are_counted = self.parts.kernel.is_up(program::SWITCH);
        let names = self.parts.directory();
        let now_ns = monotonic_ns();
        let resources = &mut self.resources;
        self.own_cpu.read(names, &mut self.ledger, waits_are_counted, |id| resources.has_quota_alone(id), now_ns);
        resources.scrape(names, &self.parts.proc_path, &mut self.ledger, now_ns);
        self.node.load = procfs::loadavg(&self.parts.proc_path).ok();
        self.read_for_readers_ns = monotonic_ns();
        Ok(())
    }

    /// What the books say now, or just before for others who asked. Open connections are those of the last scrape.
    pub(in crate::agent) fn snapshot_answer(&mut self, query: &SnapshotQuery) -> io::Result<SnapshotAnswer> {
        if monotonic_ns().saturating_sub(self.read_for_readers_ns) > SHARED_NS {
            self.read_for_readers()?;
        }
        self.ledger.share_connections();
        self.note_what_is_left_of_the_load();
        let pods = self.parts.pods.as_mut().map_or(&[][..], Pods::facts);
        Ok(SnapshotAnswer::of(
            &view(&self.parts.node_name, &self.ledger, pods, &self.node, &self.facts),
            &self.ledger,
            query,
            unix_seconds(),
        ))
    }

    /// The kernel programs and the agent, with their costs.
    pub(in crate::agent) fn programs(&self) -> io::Result<ProgramsAnswer> {
        Ok(ProgramsAnswer::of(&self.parts.node_name, &self.parts.kernel.programs(), &procfs::process()?))
    }

    /// Books, and reads what only a scrape needs.
    pub(in crate::agent) fn read_for_scrape(&mut self) -> io::Result<()> {
        self.read_for_readers()?;
        if let Err(error) = self.count_connections() {
            tracing::warn!(%error, "open connections cannot be counted: this page has none");
        }
        if self.devices.read(&self.parts.network, &mut self.node.devices).is_err() {
            self.node.devices.clear();
        }
        let drops = self.parts.kernel.books.drops()?;
        let (questions, unread) = self.parts.kernel.dns_facts()?;
        let facts = &mut self.facts;
        facts.drops.clear();
        facts.drops.extend(Drop::ALL.iter().map(|reason| (reason.label(), drops[*reason as usize])));
        facts.drops.push(("cgroup_gone", self.ledger.nameless()));
        facts.drops.push(("wait_pair_ledger", self.ledger.pairs_left_out()));
        facts.drops.push(("flow_forgotten", self.ledger.flows_forgotten()));
        facts.drops.push(("address_forgotten", self.ledger.far_ends_left_out()));
        facts.drops.push(("dns_name_forgotten", self.ledger.names_left_out()));
        facts.drops.push(("dns_answer_unread", unread));
        facts.drops.push(("sleep_unconfirmed", self.parts.kernel.sleeps.given_up()));
        facts.programs = self.parts.kernel.programs();
        let (slots, max_slots) = self.parts.kernel.books.usage();
        facts.maps.clear();
        facts.maps.push(MapFacts { name: "CGROUP_SLOTS", entries: slots, max_entries: max_slots });
        facts.maps.push(MapFacts { name: "SLEEPS", entries: self.open_sleeps, max_entries: MAX_OPEN_SLEEPS.into() });
        let max_questions = MAX_QUESTIONS.into();
        facts.maps.push(MapFacts { name: "DNS_QUESTIONS", entries: questions, max_entries: max_questions });
        facts.history = self.parts.history.facts();
        facts.kube = self.parts.pods.as_ref().map(Pods::kube_facts);
        facts.process = procfs::process()?;
        // What was just read may be of entities that have no series of their own.
        self.keep_within_budget();
        self.ledger.share_connections();
        Ok(())
    }

    /// Notes how long the last scrape took.
    pub(in crate::agent) fn scraped(&mut self, seconds: f64) {
        self.facts.scrape_seconds = seconds;
    }

    /// Notes how many series a page has. Returns true when they are too many, and fewer now: it is to be rendered again.
    pub(in crate::agent) fn exceeds_budget(&mut self, series: u64) -> bool {
        let of_entities = |ledger: &Ledger| -> u64 {
            ledger.entities().iter().filter(|entity| entity.shown).map(metrics::series_of).sum::<usize>() as u64
        };
        let before = of_entities(&self.ledger);
        // Those of pods and workloads come and go, and cannot be known before.
        self.fixed_series = series.saturating_sub(before);
        if series <= self.parts.series_limit {
            return false;
        }
        self.keep_within_budget();
        self.ledger.share_connections();
        of_entities(&self.ledger) < before
    }

    pub(super) fn keep_within_budget(&mut self) {
        let budget = self.parts.series_limit.saturating_sub(self.fixed_series);
        let shares = |ledger: &Ledger| ledger.entities().iter().any(|entity| !entity.shown);
        // As a rule there is room for all that so many can have: no need to count each second what they do have.
        let fits = self.ledger.entities().len() as u64 * metrics::MOST_SERIES <= budget;
        if !fits || shares(&self.ledger) {
            self.ledger.keep_within(usize::try_from(budget).unwrap_or(usize::MAX), metrics::series_of);
        }
        let shares = shares(&self.ledger);
        if shares != self.is_sharing {
            self.is_sharing = shares;
            let limit = self.parts.series_limit;
            if shares {
                tracing::warn!(limit, "more series than --series-limit: the smallest entities share one, as `other`");
            } else {
                tracing::info!(limit, "every entity has series of its own again");
            }
        }
    }

    /// The books as they are.
    pub(in crate::agent) fn snapshot(&mut self) -> Snapshot<'_> {
        self.note_what_is_left_of_the_load();
        let pods = self.parts.pods.as_mut().map_or(&[][..], Pods::facts);
        view(&self.parts.node_name, &self.ledger, pods, &self.node, &self.facts)
    }

    fn note_what_is_left_of_the_load(&mut self) {
        let follows_tasks = self.parts.kernel.is_up(program::SWITCH);
        self.node.unattributed_load = self.node.load.filter(|_| follows_tasks).map(|load| {
            let shown = self.ledger.entities().iter().filter(|entity| entity.shown);
            load.one - shown.map(|entity| entity.recent.load.rounded().one).sum::<f64>()
        });
        let looks_at_queues = self.parts.kernel.is_up(program::LASTING);
        self.node.sleeping_load = looks_at_queues.then(|| self.ledger.asleep().rounded().one);
    }
}

fn view<'a>(
    node_name: &'a str,
    ledger: &'a Ledger,
    pods: &'a [PodFacts],
    node: &'a NodeFacts,
    agent: &'a AgentFacts,
) -> Snapshot<'a> {
    Snapshot {
        window_ended_ns: ledger.window_ended_ns(),
        node_name,
        workloads: ledger.workloads(),
        pods,
        entities: ledger.entities(),
        node,
        agent,
    }
}
