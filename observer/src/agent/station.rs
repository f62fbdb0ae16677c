//! Where the readings come together: kernel and cgroup tree in, ledger out. One at a time, under the agent's lock.

use super::own_cpu::OwnCpu;
use crate::{
    cgroup::{Cgroup, Tree},
    kernel::{Events, Kernel, Lifetime, Presence, TaskState, monotonic_ns, program},
    ledger::{AgentFacts, Ledger, MapFacts, Name, NodeFacts, Sample, Snapshot},
    procfs::{self, DeviceReader},
};
use observer_ebpf::{Drop, MAX_OPEN_SLEEPS};
use std::{collections::HashMap, io, path::PathBuf};

/// Walks that heal lost events, when nothing asks for one sooner.
const WALK_EVERY_NS: u64 = 300_000_000_000;
/// Walks when no events come at all.
const WALK_WITHOUT_EVENTS_NS: u64 = 2_000_000_000;
/// How long a cgroup that nobody could name is not looked for again.
const NAMELESS_NS: u64 = 120_000_000_000;

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
    /// Whether the states of other users' tasks can be read.
    pub(super) tasks_visible: bool,
}

/// The agent's books and everything that fills them.
pub(super) struct Station {
    parts: Parts,
    ledger: Ledger,
    sample: Sample,
    own_cpu: OwnCpu,
    node: NodeFacts,
    devices: DeviceReader,
    facts: AgentFacts,
    window_started_ns: u64,
    walked_ns: u64,
    /// Events lost until the last walk.
    healed_losses: u64,
    /// Owners of slots that no walk could find, and since when.
    nameless: HashMap<u64, u64>,
    open_sleeps: u64,
    samples: u64,
}

impl Station {
    /// Starts with what has been counted since the programs were attached.
    pub(super) fn new(parts: Parts) -> Self {
        let now_ns = monotonic_ns();
        Self {
            own_cpu: OwnCpu::new(parts.spare_descriptors),
            parts,
            ledger: Ledger::default(),
            sample: Sample::default(),
            node: NodeFacts::default(),
            devices: DeviceReader::default(),
            facts: AgentFacts::default(),
            window_started_ns: now_ns,
            walked_ns: now_ns,
            healed_losses: 0,
            nameless: HashMap::new(),
            open_sleeps: 0,
            samples: 0,
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
        let (tree, ledger, walk) = (&mut self.parts.tree, &mut self.ledger, &mut self.walked_ns);
        let true_root = self.parts.true_root;
        self.parts.events.drain(|event| match event {
            Lifetime::Made { cgroup, path } if true_root => tree.made(cgroup, path),
            // Its path is not the one it has below our root: the next reading looks.
            Lifetime::Made { .. } => *walk = 0,
            Lifetime::Removed { cgroup } => {
                tree.removed(cgroup, now_ns);
                ledger.cgroup_gone(cgroup, now_ns);
            }
        });
    }

    /// Books everything up to now.
    pub(super) fn read(&mut self) -> io::Result<()> {
        self.drain_events();
        let now_ns = monotonic_ns();
        self.sample.added.clear();
        let unknown = self.read_slots(now_ns)?;
        self.read_sleeps(now_ns)?;
        if !unknown.is_empty() || self.walk_is_due(now_ns) {
            self.walk(now_ns)?;
            for cgroup in unknown {
                if self.parts.tree.get(cgroup).is_none() {
                    self.nameless.insert(cgroup, now_ns);
                }
            }
        }
        let tree = &self.parts.tree;
        self.ledger.book(&self.sample, |cgroup| tree.get(cgroup).map(Name::from));
        self.samples += 1;
        Ok(())
    }

    /// Books, ends a window, and lets go what is long gone.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        self.read()?;
        #[cfg(feature = "kernel-log")]
        self.parts.kernel.flush_log();
        let now_ns = monotonic_ns();
        self.ledger.end_window(now_ns - self.window_started_ns);
        self.window_started_ns = now_ns;
        self.ledger.expire(now_ns);
        self.parts.tree.forget(now_ns);
        self.nameless.retain(|_, since| now_ns - *since < NAMELESS_NS);
        Ok(())
    }

    /// Books, and reads what only a scrape needs.
    pub(super) fn read_for_scrape(&mut self) -> io::Result<()> {
        self.read()?;
        self.own_cpu.read(&self.parts.tree, &mut self.ledger);
        self.node.load = procfs::loadavg(&self.parts.proc_path).ok();
        if self.devices.read(&self.parts.proc_path, &mut self.node.devices).is_err() {
            self.node.devices.clear();
        }
        let drops = self.parts.kernel.books.drops()?;
        let facts = &mut self.facts;
        facts.drops.clear();
        facts.drops.extend(Drop::ALL.iter().map(|reason| (reason.label(), drops[*reason as usize])));
        facts.drops.push(("cgroup_gone", self.ledger.nameless()));
        facts.programs = self.parts.kernel.programs();
        let (slots, max_slots) = self.parts.kernel.books.usage();
        facts.maps.clear();
        facts.maps.push(MapFacts { name: "CGROUP_SLOTS", entries: slots, max_entries: max_slots });
        facts.maps.push(MapFacts { name: "SLEEPS", entries: self.open_sleeps, max_entries: MAX_OPEN_SLEEPS.into() });
        facts.process = procfs::process()?;
        Ok(())
    }

    /// Notes how long the last scrape took.
    pub(super) fn scraped(&mut self, seconds: f64) {
        self.facts.scrape_seconds = seconds;
    }

    /// The books as they are.
    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            window: self.ledger.window(),
            node_name: &self.parts.node_name,
            entities: self.ledger.entities(),
            node: &self.node,
            agent: &self.facts,
        }
    }

    /// Reads the slots; returns owners that the tree does not know.
    fn read_slots(&mut self, now_ns: u64) -> io::Result<Vec<u64>> {
        let (tree, nameless) = (&self.parts.tree, &self.nameless);
        let mut unknown = Vec::new();
        let presence = |cgroup| match tree.get(cgroup) {
            Some(Cgroup { gone_at_ns: Some(_), .. }) => Presence::Gone,
            Some(_) => Presence::Live,
            None if nameless.contains_key(&cgroup) => Presence::Gone,
            None => {
                unknown.push(cgroup);
                Presence::Live
            }
        };
        self.parts.kernel.books.read(now_ns, presence, &mut self.sample)?;
        Ok(unknown)
    }

    fn read_sleeps(&mut self, now_ns: u64) -> io::Result<()> {
        let Parts { proc_path, tasks_visible, kernel, .. } = &mut self.parts;
        let state = |thread| {
            if !*tasks_visible {
                return TaskState::Unknown;
            }
            match procfs::task_state(proc_path, thread) {
                Ok(Some('D')) => TaskState::Uninterruptible,
                Ok(_) => TaskState::Other,
                Err(_) => TaskState::Unknown,
            }
        };
        self.open_sleeps = kernel.sleeps.read(now_ns, state, &mut self.sample)?;
        Ok(())
    }

    fn walk_is_due(&mut self, now_ns: u64) -> bool {
        let kernel = &mut self.parts.kernel;
        let losses = kernel.books.drops().map_or(0, |drops| drops[Drop::EventRingFull as usize]);
        let lost = losses != std::mem::replace(&mut self.healed_losses, losses);
        let events = kernel.is_up(program::MKDIR) && kernel.is_up(program::RMDIR);
        let every = if events { WALK_EVERY_NS } else { WALK_WITHOUT_EVENTS_NS };
        lost || now_ns - self.walked_ns >= every
    }

    fn walk(&mut self, now_ns: u64) -> io::Result<()> {
        self.walked_ns = now_ns;
        let (tree, ledger) = (&mut self.parts.tree, &mut self.ledger);
        tree.walk(now_ns)?;
        for cgroup in tree.gone_since(now_ns) {
            ledger.cgroup_gone(cgroup, now_ns);
        }
        Ok(())
    }
}

impl From<&Cgroup> for Name {
    fn from(cgroup: &Cgroup) -> Self {
        Self { path: cgroup.path.clone(), gone_at_ns: cgroup.gone_at_ns }
    }
}
