//! Loading the object and attaching its programs. A program that cannot be had takes only its own figures with it: its
//! state carries the reason, for the log, `observer check` and the metric `observer_bpf_program_up`.

use super::{
    atomics,
    books::SlotBooks,
    dns,
    events::Events,
    flows::{ClosedFlows, Key, OpenSocket, OpenSockets, Sum},
    lasting::LastingTasks,
    offsets::{Global, program},
    programs::{self, PROGRAMS, ProgramState},
    scopes::ScopeTable,
    sleeps::OpenSleeps,
    sys,
    tables::{DnsTables, Tables, open_maps},
    wait_pairs::WaitPairs,
};
use crate::{
    causes,
    ledger::{ProgramFacts, Sample},
};
use aya::{
    Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{MapData, MapError, lpm_trie::LpmTrie},
    programs::{Program, ProgramError},
};
use aya_obj::generated::bpf_prog_info;
use observer_ebpf::{
    Address, NetBook, SLOT_CACHE_ENTRIES, SchedBook, Scope, THROTTLES_PER_CPU,
    causes::CauseBook,
    flows::{FlowKey, FlowSum, MixSecret},
};
use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

/// What the load depends on.
#[derive(Clone, Debug)]
pub struct LoadOptions<'a> {
    /// The object's bytes.
    pub object: &'a [u8],
    /// Slots, `unattributed` included: `--max-cgroups` plus one.
    pub slots: u32,
    /// The kernel's type information, usually [`btf::VMLINUX`](super::btf::VMLINUX).
    pub btf: &'a Path,
    /// Waits for a CPU that are longer are asked whom they were for.
    pub wait_threshold_ns: u64,
}

/// Why nothing could be loaded at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary was built without the object.
    #[error(
        "this binary holds no kernel programs: it was built without the eBPF tool-chain; build it with `cargo xtask build`"
    )]
    NoObject,
    /// The binary holds something else.
    #[error("the kernel programs that this binary holds cannot be read: {0}; build it anew with `cargo xtask build`")]
    NotAnObject(#[source] object::Error),
    /// How many CPUs there are is unknown.
    #[error("cannot tell how many CPUs this machine has: {0}")]
    Cpus(#[source] io::Error),
    /// The kernel gives no random numbers.
    #[error("cannot draw the secret by which IPv6 addresses are compared: {0}")]
    Random(#[source] getrandom::Error),
    /// The maps could not be made.
    #[error("cannot create the kernel's tables: {}; CAP_BPF is needed, and `observer check` tells what else", causes::in_one_line(.0))]
    Object(#[source] EbpfError),
    /// There is no memory for them, or the control group of this process may not have as much.
    #[error(
        "the kernel has no memory for {slots} slots on {cpus} CPUs ({mebibytes} MiB); lower --max-cgroups, or raise the memory \
         limit of the agent's container"
    )]
    NoMemory {
        /// Slots asked for.
        slots: u32,
        /// CPUs, for each of which a slot has books.
        cpus: u32,
        /// What the books take.
        mebibytes: u64,
    },
    /// A map is not what this binary expects.
    #[error("the table {0} of the kernel programs cannot be used: {1}")]
    Map(&'static str, #[source] MapError),
    /// Memory of a map could not be shared.
    #[error("the table {0} of the kernel programs cannot be mapped: {1}")]
    Share(&'static str, #[source] io::Error),
}

/// The loaded programs and their tables. Dropping it detaches everything.
pub struct Kernel {
    ebpf: Ebpf,
    states: Vec<ProgramState>,
    /// The slots.
    pub books: SlotBooks,
    /// Open uninterruptible sleeps.
    pub sleeps: OpenSleeps,
    wait_pairs: WaitPairs,
    turns: MapData,
    lasting: Option<LastingTasks>,
    closed_flows: ClosedFlows,
    dns: DnsTables,
    sockets: MapData,
    open_sockets: Option<OpenSockets>,
    scopes: (ScopeTable, LpmTrie<MapData, Address, u32>),
    #[cfg(feature = "kernel-log")]
    log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

impl Kernel {
    /// Creates the tables and loads every program that this kernel and these privileges allow. Attaches nothing.
    pub fn load(options: &LoadOptions<'_>) -> Result<(Self, Events), LoadError> {
        if options.object.is_empty() {
            return Err(LoadError::NoObject);
        }
        let cpus = sys::present_cpus().map_err(LoadError::Cpus)?;
        let fields = programs::find_fields(options.btf);
        let fetches = atomics::fetch_here();
        let mut ebpf = create_maps(options, (cpus, fetches), fields.iter().flatten().flatten())?;
        let targets = aya::Btf::from_sys_fs().map_err(|error| error.to_string());
        let states = PROGRAMS.iter().zip(fields).map(|(entry, fields)| ProgramState {
            entry: *entry,
            down_because: fields.and_then(|_| entry.load(&mut ebpf, &targets)).err(),
        });
        let states = states.collect();
        let Tables { books, sleeps, wait_pairs, turns, closed_flows, dns, sockets, scopes, events } =
            open_maps(&mut ebpf, (cpus, fetches), options.slots)?;
        let kernel = Self {
            #[cfg(feature = "kernel-log")]
            log: aya_log::EbpfLogger::init(&mut ebpf)
                .inspect_err(
                    |error| tracing::warn!(%error, "the object was built without `log`: its programs say nothing"),
                )
                .ok(),
            ebpf,
            states,
            books,
            sleeps,
            wait_pairs,
            turns,
            lasting: None,
            closed_flows,
            dns,
            sockets,
            open_sockets: None,
            scopes: (ScopeTable::default(), scopes),
        };
        Ok((kernel, events))
    }

    /// Attaches the programs that follow the lifetimes of cgroups.
    pub fn attach_lifetimes(&mut self, root: BorrowedFd<'_>) {
        self.attach(root, |name| matches!(name, program::MKDIR | program::RMDIR));
    }

    /// Attaches the programs that count: bytes to `root`, the root of the cgroup hierarchy, waits to the scheduler.
    pub fn attach_counters(&mut self, root: BorrowedFd<'_>) {
        self.attach(root, |name| !matches!(name, program::MKDIR | program::RMDIR));
        let Self { ebpf, states, turns, sockets, .. } = self;
        let (turns, sockets) = (turns.fd().as_fd(), sockets.fd().as_fd());
        self.lasting = link_iterator(ebpf, states, program::LASTING, |program| LastingTasks::new(program, turns));
        self.open_sockets = link_iterator(ebpf, states, program::SOCKETS, |program| OpenSockets::new(program, sockets));
    }

    /// Since when what comes next of closed sockets was handed over.
    pub fn closed_flows_from_ns(&self) -> u64 {
        self.closed_flows.rests_from_ns()
    }

    /// Adds the flows of sockets that have closed and what was asked of DNS servers, and empties the tables that rest, if they have rested
    /// for a second; the other ones rest from now on.
    pub fn fetch_what_rests(&mut self, now_ns: u64, sample: &mut Sample) -> io::Result<()> {
        if !self.closed_flows.is_due(now_ns) {
            return Ok(());
        }
        let epoch = self.books.flow_epoch()?;
        let Sample { added, flows, .. } = &mut *sample;
        let flows = self.closed_flows.fetch(epoch, |Key(key), Sum(sum)| flows.push((key, sum)));
        let asked = self.dns.books.fetch(epoch, |cgroup, book| added.push(dns::added(cgroup, book)));
        self.books.turn_flows()?;
        self.closed_flows.turn(epoch, now_ns)?;
        self.dns.books.turn(epoch, now_ns)?;
        flows.and(asked).and(self.dns.questions.give_up(now_ns, sample))
    }

    /// Hands on what DNS servers answered since the last time: the cgroup that asked, and the message as far as it is told.
    pub fn drain_dns_answers(&mut self, each: impl FnMut(u64, &[u8])) {
        self.dns.answers.drain(each);
    }

    /// DNS questions that were open at the last look, and answers whose names nobody read, since there were too many.
    pub fn dns_facts(&mut self) -> io::Result<(u64, u64)> {
        Ok((self.dns.questions.open(), self.dns.questions.untold()?))
    }

    /// One look at every open socket that has carried anything; adds what they have carried since the last look. Without the
    /// iterator there are none.
    pub fn read_open_sockets(
        &mut self,
        into: &mut Vec<(FlowKey, FlowSum)>,
        mut each: impl FnMut(&OpenSocket),
    ) -> io::Result<()> {
        self.books.look_again()?;
        self.open_sockets.as_ref().map_or(Ok(()), |sockets| {
            sockets.read(|socket| {
                into.extend(socket.carried());
                each(socket);
            })
        })
    }

    /// Adds who waited for whom since the last time, and takes it out of the kernel: `all` of it, or only if there is much.
    pub fn fetch_wait_pairs(&mut self, all: bool, sample: &mut Sample) -> io::Result<()> {
        self.wait_pairs.fetch(all, &mut sample.caused)
    }

    /// Adds the turns on a CPU and the waits that last; returns when that was, by the run queues' clock. `None` where the
    /// iterator is down, and before any CPU has switched.
    pub fn read_lasting(&mut self, sample: &mut Sample) -> io::Result<Option<u64>> {
        self.lasting.as_mut().map_or(Ok(None), |iterator| iterator.read(sample))
    }

    /// Takes every program out of the kernel; what was counted can still be read.
    pub fn detach(&mut self) {
        for (name, program) in self.ebpf.programs_mut() {
            if let Err(error) = programs::unload(program)
                && !matches!(error, ProgramError::NotLoaded)
            {
                tracing::warn!(program = name, %error, "cannot be detached; it goes with this process");
            }
        }
    }

    fn attach(&mut self, root: BorrowedFd<'_>, wanted: impl Fn(&str) -> bool) {
        for state in self.states.iter_mut().filter(|state| wanted(state.entry.name) && state.down_because.is_none()) {
            state.down_because = state.entry.attach(&mut self.ebpf, root).err();
        }
    }

    /// Whether a program is loaded and, where it was tried, attached.
    pub fn is_up(&self, name: &str) -> bool {
        self.states.iter().any(|state| state.entry.name == name && state.down_because.is_none())
    }

    /// One program, loaded: for the benchmark, which attaches and runs them one at a time.
    pub fn program_mut(&mut self, name: &str) -> Option<&mut Program> {
        self.ebpf.program_mut(name)
    }

    /// Passes the programs' log lines on.
    #[cfg(feature = "kernel-log")]
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Every program with its state, and its cost where the kernel keeps statistics.
    pub fn programs(&self) -> Vec<ProgramFacts> {
        self.states.iter().map(|state| state.facts(self.program_info(state.entry.name))).collect()
    }

    fn program_info(&self, name: &str) -> Option<bpf_prog_info> {
        sys::program_info(self.ebpf.program(name)?.fd().ok()?.as_fd()).ok()
    }

    /// Whether the tables that are read through bpf(2) can be read with the privileges of this moment.
    pub fn can_read(&self) -> bool {
        self.sleeps.can_read()
    }

    /// Replaces the address ranges that decide a scope; every socket decides again. Returns how many did not fit.
    pub fn set_scopes(&mut self, table: &ScopeTable) -> io::Result<usize> {
        let (current, map) = &mut self.scopes;
        let left_out = table.left_out();
        if current.write(table, map).map_err(io::Error::other)? {
            self.books.scopes_changed()?;
        }
        Ok(left_out)
    }

    /// The scope of an address, as the programs decide it.
    pub fn scope_of(&self, address: IpAddr) -> Scope {
        self.scopes.0.scope(address).unwrap_or(Scope::Internet)
    }
}

/// Links an iterator that is loaded; its program is down if that fails.
fn link_iterator<T>(
    ebpf: &Ebpf,
    states: &mut [ProgramState],
    name: &str,
    link: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> Option<T> {
    let state = states.iter_mut().find(|state| state.entry.name == name && state.down_because.is_none())?;
    let linked = (|| {
        let program = ebpf.program(name).ok_or("the object does not hold it")?;
        let program = program.fd().map_err(|error| causes::in_one_line(&error))?;
        link(program.as_fd()).map_err(|error| format!("cannot link the iterator: {error}"))
    })();
    linked.map_err(|reason| state.down_because = Some(reason)).ok()
}

fn create_maps<'a>(
    options: &LoadOptions<'_>,
    (cpus, fetches): (u32, bool),
    fields: impl Iterator<Item = &'a Global>,
) -> Result<Ebpf, LoadError> {
    let cpus_global = u64::from(cpus);
    let object = atomics::object(options.object, fetches).map_err(LoadError::NotAnObject)?;
    let fetches_global = u64::from(fetches);
    let alone_from = atomics::alone_from(cpus);
    let mut secret = MixSecret::default();
    for word in &mut secret {
        *word = getrandom::u64().map_err(LoadError::Random)?;
    }
    let mut loader = EbpfLoader::new();
    loader
        .btf(None)
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("CPUS", &cpus_global, true)
        .override_global("FETCHES", &fetches_global, true)
        .override_global("ALONE_FROM", &alone_from, true)
        .override_global("MIX_SECRET", &secret, true)
        .override_global("WAIT_THRESHOLD_NS", &options.wait_threshold_ns, true)
        .map_max_entries("CGROUP_SLOTS", options.slots)
        .map_max_entries("FREE_SLOTS", options.slots)
        .map_max_entries("OWNERS", options.slots)
        .map_max_entries("TCP", options.slots)
        .map_max_entries("FLOW_SHARES", options.slots)
        .map_max_entries("NET", options.slots * cpus)
        .map_max_entries("SCHED", options.slots * cpus)
        .map_max_entries("CAUSES", options.slots * cpus)
        .map_max_entries("SLOT_CACHE", SLOT_CACHE_ENTRIES * cpus)
        .map_max_entries("TURNS", cpus)
        .map_max_entries("THROTTLES", THROTTLES_PER_CPU * cpus);
    for (name, value) in fields {
        loader.override_global(name, value, true);
    }
    loader.load(&object).map_err(|error| {
        if lacks_memory(&error) {
            let books = size_of::<NetBook>() + size_of::<SchedBook>() + size_of::<CauseBook>();
            let bytes = u64::from(options.slots) * cpus_global * books as u64;
            return LoadError::NoMemory { slots: options.slots - 1, cpus, mebibytes: bytes >> 20 };
        }
        LoadError::Object(error)
    })
}

/// Whether the kernel refused for want of memory, or because a table would be larger than it allows.
fn lacks_memory(error: &EbpfError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if matches!(code, Some(libc::ENOMEM | libc::E2BIG)) {
            return true;
        }
        cause = error.source();
    }
    false
}
