//! Where the readings come together: kernel and cgroup tree in, ledger out. One at a time, under the agent's lock.

use super::{
    clock::unix_seconds,
    directory::Directory,
    own_cpu::OwnCpu,
    pods::Pods,
    remember::{Counted, remember},
    resources::Resources,
    scopes::Scopes,
    translations::Told,
};
use crate::{
    cgroup::Tree,
    history::History,
    kernel::{Events, Kernel, OpenSocket, monotonic_ns},
    kube::{Answer, ClusterRanges, Owner, PodEvent},
    ledger::{AgentFacts, FlowView, Interval, Ledger, NodeFacts, OwnAddresses, Sample},
    procfs::{DeviceReader, Network, TaskVantage},
    server::{FlowsAnswer, FlowsQuery, FlowsSource, PairsAnswer, PairsQuery},
};
use std::{collections::HashMap, io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

mod far_ends;
mod page;
mod reading;

/// How long a cgroup that nobody could name is not looked for again.
const NAMELESS_NS: u64 = 120_000_000_000;
/// How long a window of the peaks is at least. A little less than a second, since ticks are not exact.
const WINDOW_NS: u64 = 950_000_000;
/// Long enough for a CPU to turn to something else.
const NAP: Duration = Duration::from_micros(200);

/// What the station is made of.
pub(super) struct Parts {
    pub(super) kernel: Kernel,
    pub(super) events: Events,
    pub(super) tree: Tree,
    pub(super) node_name: String,
    pub(super) proc_path: PathBuf,
    pub(super) network: Network,
    /// Whether the tree's root is the hierarchy's: else the paths of events are not those of the tree.
    pub(super) true_root: bool,
    /// Descriptors that may be kept open for reading faster.
    pub(super) spare_descriptors: usize,
    /// How the states of other users' tasks can be known.
    pub(super) tasks: TaskVantage,
    /// The pods, where there is an API server.
    pub(super) pods: Option<Pods>,
    /// The budget of series.
    pub(super) series_limit: u64,
    /// How many flows are kept.
    pub(super) max_flows: usize,
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
    /// The addresses of nodes, this one's first, as they were told of last.
    nodes: Vec<(IpAddr, Arc<str>)>,
    /// When the controllers' files were last read.
    read_for_readers_ns: u64,
    /// When the open sockets were last looked at.
    looked_ns: u64,
    /// How long that took.
    look_took_ns: u64,
    /// Since when it watches.
    begun_unix_seconds: u64,
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
        ledger.keep_flows(parts.max_flows);
        let resources =
            Resources::new(&parts.tree, &parts.proc_path, parts.spare_descriptors, parts.pressure, &mut ledger, now_ns);
        Self {
            // The rest is for what the other controllers tell.
            own_cpu: OwnCpu::new(parts.spare_descriptors / 3 * 2),
            window_started: Moment { agent_ns: now_ns, queues_ns: None },
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
            nodes: Vec::new(),
            read_for_readers_ns: 0,
            looked_ns: 0,
            look_took_ns: 0,
            begun_unix_seconds: unix_seconds(),
            parts,
        }
    }

    /// Whether a first sample is booked.
    pub(super) fn has_sampled(&self) -> bool {
        self.samples > 0
    }

    /// Tells the kernel which addresses decide which scope, as they are now.
    pub(super) fn update(&mut self, scopes: &mut Scopes) {
        scopes.update(&mut self.parts.kernel, self.parts.pods.as_ref());
        self.tell_nodes(scopes.node());
    }

    /// What the API server tells of the cluster's addresses.
    pub(super) fn ranges_told(&mut self, ranges: ClusterRanges, missing: Option<String>) {
        if let Some(pods) = &mut self.parts.pods {
            pods.ranges_told(ranges, missing);
        }
    }

    /// The kernel programs.
    pub(super) fn kernel(&mut self) -> &mut Kernel {
        &mut self.parts.kernel
    }

    /// The first reading, from which the windows count.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        // A nap is a switch on this CPU: from then on the programs know its run queue, and what time it is there.
        std::thread::sleep(NAP);
        let (read, begun) = self.read_all(true);
        self.ledger.begin_windows(begun.queues_ns);
        self.window_started = begun;
        read
    }

    /// Books, ends a window if it is a second old, and lets go what is long gone. True if a window has ended.
    pub(super) fn tick(&mut self) -> io::Result<bool> {
        let window_ends = monotonic_ns() - self.window_started.agent_ns >= WINDOW_NS;
        let (read, ended) = self.read_all(window_ends);
        #[cfg(feature = "kernel-log")]
        self.parts.kernel.flush_log();
        if window_ends {
            let elapsed_ns = ended.since(self.window_started);
            let is_first = self.ledger.window_ended_ns() == 0;
            if is_first {
                self.ledger.end_first_window(elapsed_ns, ended.queues_ns);
            } else {
                self.ledger.note_asleep(self.sample.asleep, elapsed_ns);
                self.ledger.end_window(elapsed_ns);
            }
            let counted = Counted::by(&self.parts.kernel, is_first);
            remember(&mut self.parts.history, &self.ledger, counted, elapsed_ns);
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
        read.map(|()| window_ends)
    }

    /// Follows the pods. Returns the owners that are to be asked for.
    pub(super) fn pod_event(&mut self, event: PodEvent) -> Vec<(Arc<str>, Owner)> {
        let now_ns = monotonic_ns();
        let Some(pods) = &mut self.parts.pods else { return Vec::new() };
        let of_one = match &event {
            PodEvent::Changed(pod) | PodEvent::Deleted(pod) => vec![Arc::clone(&pod.cgroup_uid)],
            PodEvent::Begin | PodEvent::Listed(_) | PodEvent::Done => Vec::new(),
        };
        let (is_list, ends) = match &event {
            PodEvent::Done => (true, true),
            PodEvent::Changed(pod) => (false, pod.has_finished()),
            PodEvent::Deleted(_) => (false, true),
            PodEvent::Begin | PodEvent::Listed(_) => (false, false),
        };
        let changed = pods.follow(event, now_ns);
        let unknown = if changed.is_empty() { Vec::new() } else { pods.unknown_owners() };
        // A list says of others, too, that they are not there any more.
        let told = if is_list { pods.store.uids().cloned().collect() } else { of_one };
        if ends {
            self.before_hands_change();
        }
        self.tell_addresses(&told);
        self.apply_names(&changed, now_ns);
        unknown
    }

    /// What a pod's owner stands for.
    pub(super) fn owner_known(&mut self, answer: Answer) {
        let Some(pods) = &mut self.parts.pods else { return };
        let changed = pods.owner_known(answer);
        self.tell_addresses(&changed);
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

    /// Books what open sockets have carried, and takes note of what all flows have carried by now.
    pub(super) fn flow_view(&mut self) -> io::Result<FlowView> {
        self.read()?;
        let mut view = FlowView::at(monotonic_ns());
        self.look_at_sockets(|ledger, socket| view.note(ledger, &socket.book, &socket.state))?;
        self.ledger.complete(&mut view);
        Ok(view)
    }

    /// Books what open sockets have carried since the last look.
    fn look_at_sockets(&mut self, mut each: impl FnMut(&Ledger, &OpenSocket)) -> io::Result<()> {
        self.sample.clear();
        let (begun_ns, now) = (monotonic_ns(), unix_seconds());
        self.sample.flows_interval = Some(Interval { from: now, until: now });
        let (kernel, ledger, flows) = (&mut self.parts.kernel, &self.ledger, &mut self.sample.flows);
        let told = kernel.read_open_sockets(flows, |socket| each(ledger, socket));
        let looked_ns = monotonic_ns();
        (self.looked_ns, self.look_took_ns) = (looked_ns, looked_ns.saturating_sub(begun_ns));
        // What was told is not told again.
        self.ledger.book(&self.sample, &self.parts.directory(), monotonic_ns());
        // Seldom, and each time more than a reading usually has.
        self.sample.flows = Vec::new();
        told
    }

    /// Counts the connections that are open.
    fn count_connections(&mut self) -> io::Result<()> {
        let mut counted = self.ledger.begin_connections();
        let told = self.look_at_sockets(|ledger, socket| counted.add(ledger, &socket.book, &socket.state));
        self.ledger.end_connections(told.is_ok().then_some(counted));
        told
    }

    /// What flowed between two views, and what the node's table of connections told.
    pub(super) fn flows(&mut self, views: [&FlowView; 2], translated: &Told, query: &FlowsQuery) -> FlowsAnswer {
        self.ledger.settle_far_ends();
        let source = FlowsSource {
            node: &self.parts.node_name,
            ledger: &self.ledger,
            views,
            programs: &self.parts.kernel.programs(),
            translated: &translated.all,
            translated_missing: translated.missing.as_deref(),
            own: OwnAddresses { known: &self.own_addresses(), and_all_others: self.parts.pods.is_none() },
            now_unix_seconds: unix_seconds(),
        };
        FlowsAnswer::of(source, query)
    }

    /// Who waits for whom.
    pub(super) fn pairs(&mut self, query: PairsQuery) -> PairsAnswer {
        if let Err(error) = self.read() {
            tracing::warn!(%error, "pairs are told of as they were at the last reading");
        }
        PairsAnswer::of(&self.parts.node_name, &self.ledger, query)
    }
}
