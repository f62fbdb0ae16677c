//! Where the readings come together: kernel and cgroup tree in, ledger out. One at a time, under the agent's lock.

use super::{directory::Directory, own_cpu::OwnCpu, pods::Pods, remember::remember, resources::Resources};
use crate::{
    cgroup::{Cgroup, Tree, Walked},
    history::History,
    kernel::{Events, Kernel, Lifetime, Presence, TaskState, monotonic_ns, program},
    kube::{Answer, Owner, PodEvent},
    ledger::{AgentFacts, Ledger, MapFacts, NodeFacts, Sample, Snapshot},
    metrics,
    procfs::{self, DeviceReader, TaskVantage},
    server::{PairsAnswer, PairsQuery},
};
use observer_ebpf::{Drop, EVENT_PATH_BYTES, MAX_OPEN_SLEEPS};
use std::{collections::HashMap, io, path::PathBuf, sync::Arc};

/// Walks that heal lost events, when nothing asks for one sooner.
const WALK_EVERY_NS: u64 = 300_000_000_000;
/// Walks when no events come at all.
const WALK_WITHOUT_EVENTS_NS: u64 = 2_000_000_000;
/// How long a cgroup that nobody could name is not looked for again.
const NAMELESS_NS: u64 = 120_000_000_000;
/// How long a window of the peaks is at least. A little less than a second, since ticks are not exact.
const WINDOW_NS: u64 = 950_000_000;

/// How long reading what has ended and what lasts may take together: less than most turns on a CPU.
const HURRY_NS: u64 = 1_000_000;
/// How often it is done again when somebody else had the CPU meanwhile.
const RETRIES: usize = 2;

/// What the station is made of.
pub(super) struct Parts {
    pub(super) kernel: Kernel,
    pub(super) events: Events,
    pub(super) tree: Tree,
    pub(super) node_name: String,
    pub(super) proc_path: PathBuf,
    /// Whether the tree's root is the hierarchy's: else the paths of events are not those of the tree.
    pub(super) true_root: bool,
    /// Descriptors that may be kept open for reading faster.
    pub(super) spare_descriptors: usize,
    /// How the states of other users' tasks can be known.
    pub(super) tasks: TaskVantage,
    /// When the programs began to count.
    pub(super) counting_since_ns: u64,
    /// The pods, where there is an API server.
    pub(super) pods: Option<Pods>,
    /// The budget of series.
    pub(super) series_limit: u64,
    /// Whether pressure is to be read.
    pub(super) pressure: bool,
    /// What is remembered.
    pub(super) history: History,
}

impl Parts {
    fn directory(&self) -> Directory<'_> {
        Directory { tree: &self.tree, pods: self.pods.as_ref().map(|pods| &pods.store) }
    }
}

/// The agent's books and everything that fills them.
pub(super) struct Station {
    parts: Parts,
    ledger: Ledger,
    sample: Sample,
    own_cpu: OwnCpu,
    resources: Resources,
    node: NodeFacts,
    devices: DeviceReader,
    facts: AgentFacts,
    window_started: Moment,
    walked_ns: u64,
    /// A walk is wanted whenever the last one was.
    walk_wanted: bool,
    /// Events lost until the last walk.
    healed_losses: u64,
    /// Directories that the last walk could not read.
    unreadable: usize,
    /// Owners of slots that no walk could find, and since when.
    nameless: HashMap<u64, u64>,
    open_sleeps: u64,
    samples: u64,
    /// Series of the last page that were no entity's.
    fixed_series: u64,
    /// Whether some entities have no series of their own, which was told.
    is_sharing: bool,
}

/// A moment by two clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    agent_ns: u64,
    /// By the clock of the run queues, where they were asked: what lasts is measured by it.
    queues_ns: Option<u64>,
}

impl Moment {
    fn since(self, before: Self) -> u64 {
        match self.queues_ns.zip(before.queues_ns) {
            Some((now_ns, before_ns)) => now_ns.saturating_sub(before_ns),
            None => self.agent_ns - before.agent_ns,
        }
    }
}

impl Station {
    /// Starts with what has been counted since the programs were attached.
    pub(super) fn new(parts: Parts) -> Self {
        let now_ns = monotonic_ns();
        let mut ledger = Ledger::default();
        let resources =
            Resources::new(&parts.tree, &parts.proc_path, parts.spare_descriptors, parts.pressure, &mut ledger, now_ns);
        Self {
            // The rest is for what the other controllers tell.
            own_cpu: OwnCpu::new(parts.spare_descriptors / 3 * 2),
            window_started: Moment { agent_ns: parts.counting_since_ns, queues_ns: None },
            ledger,
            resources,
            sample: Sample::default(),
            node: NodeFacts::default(),
            devices: DeviceReader::default(),
            facts: AgentFacts { series_limit: parts.series_limit, ..AgentFacts::default() },
            walked_ns: now_ns,
            walk_wanted: false,
            healed_losses: 0,
            unreadable: 0,
            nameless: HashMap::new(),
            open_sleeps: 0,
            samples: 0,
            fixed_series: 0,
            is_sharing: false,
            parts,
        }
    }

    /// Whether a first sample is booked.
    pub(super) fn has_sampled(&self) -> bool {
        self.samples > 0
    }

    /// The kernel programs.
    pub(super) fn kernel(&mut self) -> &mut Kernel {
        &mut self.parts.kernel
    }

    /// Follows the cgroups that came and went.
    pub(super) fn drain_events(&mut self) {
        let now_ns = monotonic_ns();
        let (tree, ledger, walk) = (&mut self.parts.tree, &mut self.ledger, &mut self.walk_wanted);
        let true_root = self.parts.true_root;
        self.parts.events.drain(|event| match event {
            Lifetime::Made { cgroup, path } if true_root && path.len() < EVENT_PATH_BYTES - 1 => {
                tree.made(cgroup, path);
            }
            // Its path is cut, or not the one it has below our root: the next reading looks.
            Lifetime::Made { .. } => *walk = true,
            Lifetime::Removed { cgroup } => {
                tree.removed(cgroup, now_ns);
                ledger.cgroup_gone(cgroup, now_ns);
            }
        });
    }

    /// Books everything up to now. What was read is booked whatever else fails: it cannot be read again.
    pub(super) fn read(&mut self) -> io::Result<()> {
        self.read_all(false).0
    }

    /// Books everything up to now and, if a window ends, takes note of what lasts; returns when that was.
    fn read_all(&mut self, window_ends: bool) -> (io::Result<()>, Moment) {
        self.drain_events();
        let mut now_ns = monotonic_ns();
        self.sample.clear();
        let mut unknown = Vec::new();
        let mut slots = self.read_slots(now_ns, &mut unknown);
        let mut lasting = Ok(None);
        if window_ends {
            lasting = self.parts.kernel.read_lasting(&mut self.sample).map(Some);
            // What ends in between is in neither, and only the next window has it: once more if that was long.
            for _ in 0..RETRIES {
                if monotonic_ns() - now_ns < HURRY_NS || slots.is_err() || lasting.is_err() {
                    break;
                }
                now_ns = monotonic_ns();
                slots = self.read_slots(now_ns, &mut unknown);
                self.sample.lasting.clear();
                lasting = self.parts.kernel.read_lasting(&mut self.sample).map(Some);
            }
        }
        let sleeps = self.read_sleeps(now_ns);
        let pairs = self.parts.kernel.fetch_wait_pairs(&mut self.sample);
        // A cgroup is told of before its first packet: who is unknown still was made since the events were drained, or
        // its event was lost.
        self.drain_events();
        unknown.retain(|cgroup| self.parts.tree.get(*cgroup).is_none());
        let walk = self.name(unknown, now_ns);
        let names = self.parts.directory();
        self.ledger.book(&self.sample, &names, now_ns);
        // What lasts and cannot be read is what it was.
        if let Ok(Some(_)) = lasting {
            self.ledger.note_lasting(&self.sample.lasting);
        }
        let moment = Moment { agent_ns: now_ns, queues_ns: lasting.as_ref().ok().copied().flatten().flatten() };
        let outcome = slots.and(sleeps).and(pairs).and(walk).and(lasting.map(drop));
        self.samples += u64::from(outcome.is_ok());
        (outcome, moment)
    }

    /// The first reading, from which the windows count.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let (read, begun) = self.read_all(true);
        self.ledger.begin_windows();
        // Bytes count from the attach.
        self.window_started.queues_ns = begun.queues_ns;
        read
    }

    /// Walks the tree if there is reason to, `unknown` cgroups for one; remembers those of them that have no name.
    fn name(&mut self, unknown: Vec<u64>, now_ns: u64) -> io::Result<()> {
        // Below a mount that shows a part of the tree, strangers are the rule.
        let walked = if (self.parts.true_root && !unknown.is_empty()) || self.walk_is_due(now_ns) {
            self.walk(now_ns)
        } else {
            Ok(())
        };
        for cgroup in unknown {
            if self.parts.tree.get(cgroup).is_none() {
                self.nameless.insert(cgroup, now_ns);
            }
        }
        walked
    }

    /// Books, ends a window if it is a second old, and lets go what is long gone.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        let window_ends = monotonic_ns() - self.window_started.agent_ns >= WINDOW_NS;
        let (read, ended) = self.read_all(window_ends);
        #[cfg(feature = "kernel-log")]
        self.parts.kernel.flush_log();
        if window_ends {
            let elapsed_ns = ended.since(self.window_started);
            self.ledger.end_window(elapsed_ns);
            remember(&mut self.parts.history, &self.ledger, &self.parts.kernel, elapsed_ns);
            self.window_started = ended;
        }
        let now_ns = ended.agent_ns;
        self.resources.sample(self.parts.directory(), &self.parts.proc_path, &mut self.ledger, now_ns);
        self.ledger.expire(now_ns);
        self.keep_within_budget();
        self.parts.tree.forget(now_ns);
        if let Some(pods) = &mut self.parts.pods {
            pods.store.expire(now_ns);
            pods.look_around(&self.parts.tree, now_ns);
        }
        self.nameless.retain(|_, since| now_ns - *since < NAMELESS_NS);
        read
    }

    /// Books, and reads what only a scrape needs.
    pub(super) fn read_for_scrape(&mut self) -> io::Result<()> {
        self.read()?;
        let waits_are_counted = self.parts.kernel.is_up(program::SWITCH);
        let names = self.parts.directory();
        let now_ns = monotonic_ns();
        let resources = &mut self.resources;
        self.own_cpu.read(names, &mut self.ledger, waits_are_counted, |id| resources.has_quota_alone(id), now_ns);
        resources.scrape(names, &self.parts.proc_path, &mut self.ledger, now_ns);
        self.node.load = procfs::loadavg(&self.parts.proc_path).ok();
        if self.devices.read(&self.parts.proc_path, &mut self.node.devices).is_err() {
            self.node.devices.clear();
        }
        let drops = self.parts.kernel.books.drops()?;
        let facts = &mut self.facts;
        facts.drops.clear();
        facts.drops.extend(Drop::ALL.iter().map(|reason| (reason.label(), drops[*reason as usize])));
        facts.drops.push(("cgroup_gone", self.ledger.nameless()));
        facts.drops.push(("wait_pair_ledger", self.ledger.pairs_left_out()));
        facts.drops.push(("sleep_unconfirmed", self.parts.kernel.sleeps.given_up()));
        facts.programs = self.parts.kernel.programs();
        let (slots, max_slots) = self.parts.kernel.books.usage();
        facts.maps.clear();
        facts.maps.push(MapFacts { name: "CGROUP_SLOTS", entries: slots, max_entries: max_slots });
        facts.maps.push(MapFacts { name: "SLEEPS", entries: self.open_sleeps, max_entries: MAX_OPEN_SLEEPS.into() });
        facts.history = self.parts.history.facts();
        facts.kube = self.parts.pods.as_ref().map(Pods::kube_facts);
        facts.process = procfs::process()?;
        // What was just read may be of entities that have no series of their own.
        self.keep_within_budget();
        Ok(())
    }

    /// Notes how long the last scrape took.
    pub(super) fn scraped(&mut self, seconds: f64) {
        self.facts.scrape_seconds = seconds;
    }

    /// Notes how many series a page has. Returns true when they are too many, and fewer now: it is to be rendered again.
    pub(super) fn exceeds_budget(&mut self, series: u64) -> bool {
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
        of_entities(&self.ledger) < before
    }

    fn keep_within_budget(&mut self) {
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

    /// Follows the pods. Returns the owners that are to be asked for.
    pub(super) fn pod_event(&mut self, event: PodEvent) -> Vec<(Arc<str>, Owner)> {
        let now_ns = monotonic_ns();
        let Some(pods) = &mut self.parts.pods else { return Vec::new() };
        let changed = pods.follow(event, now_ns);
        let unknown = if changed.is_empty() { Vec::new() } else { pods.unknown_owners() };
        self.apply_names(&changed, now_ns);
        unknown
    }

    /// What a pod's owner stands for.
    pub(super) fn owner_known(&mut self, answer: Answer) {
        let Some(pods) = &mut self.parts.pods else { return };
        let changed = pods.owner_known(answer);
        self.apply_names(&changed, monotonic_ns());
    }

    fn apply_names(&mut self, changed: &[Arc<str>], now_ns: u64) {
        if changed.is_empty() {
            return;
        }
        // Who is to be named may have been made since the last reading.
        self.drain_events();
        let names = self.parts.directory();
        for uid in changed {
            self.ledger.pod_changed(uid, &names, now_ns);
        }
    }

    /// What is remembered, and of which node.
    pub(super) fn history(&mut self) -> (&mut History, &str) {
        (&mut self.parts.history, &self.parts.node_name)
    }

    /// Who waits for whom.
    pub(super) fn pairs(&self, query: PairsQuery) -> PairsAnswer {
        PairsAnswer::of(&self.parts.node_name, &self.ledger, query)
    }

    /// The books as they are.
    pub(super) fn snapshot(&mut self) -> Snapshot<'_> {
        let follows_tasks = self.parts.kernel.is_up(program::SWITCH);
        self.node.unattributed_load = self.node.load.filter(|_| follows_tasks).map(|load| {
            let shown = self.ledger.entities().iter().filter(|entity| entity.shown);
            load.one - shown.map(|entity| entity.recent.load.rounded().one).sum::<f64>()
        });
        Snapshot {
            window_ended_ns: self.ledger.window_ended_ns(),
            node_name: &self.parts.node_name,
            workloads: self.ledger.workloads(),
            pods: self.parts.pods.as_mut().map_or(&[], Pods::facts),
            entities: self.ledger.entities(),
            node: &self.node,
            agent: &self.facts,
        }
    }

    /// Reads the slots; adds the owners that the tree does not know to `unknown`.
    fn read_slots(&mut self, now_ns: u64, unknown: &mut Vec<u64>) -> io::Result<()> {
        let Parts { tree, true_root, kernel, .. } = &mut self.parts;
        let nameless = &self.nameless;
        let presence = |cgroup| match tree.get(cgroup) {
            Some(Cgroup { gone_at_ns: Some(_), .. }) => Presence::Gone,
            Some(_) => Presence::Live,
            // Outside the part of the tree that is shown it may well be there.
            None if nameless.contains_key(&cgroup) => {
                if *true_root {
                    Presence::Gone
                } else {
                    Presence::Live
                }
            }
            None => {
                unknown.push(cgroup);
                Presence::Live
            }
        };
        kernel.books.read(now_ns, presence, &mut self.sample)
    }

    fn read_sleeps(&mut self, now_ns: u64) -> io::Result<()> {
        let Parts { proc_path, tasks, kernel, .. } = &mut self.parts;
        let state = |thread| match tasks {
            TaskVantage::States => match procfs::task_state(proc_path, thread) {
                Ok(Some('D')) => TaskState::Uninterruptible,
                Ok(Some(_)) => TaskState::Other,
                Ok(None) => TaskState::Gone,
                Err(_) => TaskState::Unknown,
            },
            TaskVantage::Existence if !procfs::thread_exists(thread) => TaskState::Gone,
            TaskVantage::Existence | TaskVantage::Nothing => TaskState::Unknown,
        };
        self.open_sleeps = kernel.sleeps.read(now_ns, state, &mut self.sample)?;
        Ok(())
    }

    fn walk_is_due(&mut self, now_ns: u64) -> bool {
        let kernel = &mut self.parts.kernel;
        let losses = kernel.books.drops().map_or(0, |drops| drops[Drop::EventRingFull as usize]);
        let lost = losses != self.healed_losses;
        let events = kernel.is_up(program::MKDIR) && kernel.is_up(program::RMDIR);
        let every = if events { WALK_EVERY_NS } else { WALK_WITHOUT_EVENTS_NS };
        lost || self.walk_wanted || now_ns - self.walked_ns >= every
    }

    /// Looks at every directory. Events that are lost from now on want another walk.
    fn walk(&mut self, now_ns: u64) -> io::Result<()> {
        let losses = self.parts.kernel.books.drops()?[Drop::EventRingFull as usize];
        let (tree, ledger) = (&mut self.parts.tree, &mut self.ledger);
        let Walked { unreadable, example } = tree.walk(now_ns)?;
        (self.walked_ns, self.walk_wanted, self.healed_losses) = (now_ns, false, losses);
        if unreadable != std::mem::replace(&mut self.unreadable, unreadable)
            && let Some((path, error)) = example
        {
            tracing::warn!(directories = unreadable, path = %path.display(), %error, "cgroups below directories that cannot be read are known by events alone, and have no CPU time; chmod o+rx shows them");
        }
        for cgroup in tree.gone_since(now_ns) {
            ledger.cgroup_gone(cgroup, now_ns);
        }
        Ok(())
    }
}
