//! Loading the object and attaching its programs. A program that cannot be had takes only its own figures with it: its
//! state carries the reason, for the log, `observer check` and the metric `observer_bpf_program_up`.

use super::{
    books::{SlotBooks, SlotMaps},
    btf::{self, Btf, BtfError},
    events::Events,
    offsets::{self, program},
    scopes::ScopeTable,
    shared::SharedArray,
    sleeps::OpenSleeps,
    sys,
};
use crate::{causes, ledger::ProgramFacts};
use aya::{
    Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{HashMap as BpfHashMap, Map, MapData, MapError, RingBuf, Stack, lpm_trie::LpmTrie},
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program, ProgramError},
};
use observer_ebpf::{Address, DROPS, NetBook, SLOT_CACHE_ENTRIES, SchedBook};
use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

/// Every program of the object, in the order in which they are attached: lifetimes first, so that no cgroup is missed
/// between the walk of the tree and the first count.
const PROGRAMS: [&str; 5] = [program::MKDIR, program::RMDIR, program::EGRESS, program::INGRESS, program::SWITCH];

/// What the load depends on.
#[derive(Clone, Debug)]
pub struct LoadOptions<'a> {
    /// The object's bytes.
    pub object: &'a [u8],
    /// Slots, `unattributed` included: `--max-cgroups` plus one.
    pub slots: u32,
    /// The kernel's type information, usually [`btf::VMLINUX`].
    pub btf: &'a Path,
}

/// Why nothing could be loaded at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary was built without the object.
    #[error(
        "this binary holds no kernel programs: it was built without the eBPF tool-chain; build it with `cargo xtask build`"
    )]
    NoObject,
    /// How many CPUs there are is unknown.
    #[error("cannot tell how many CPUs this machine has: {0}")]
    Cpus(#[source] io::Error),
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
    scopes: (ScopeTable, LpmTrie<MapData, Address, u32>),
    #[cfg(feature = "kernel-log")]
    log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

/// A program and why it does not run, if it does not.
#[derive(Clone, Debug)]
struct ProgramState {
    name: &'static str,
    down_because: Option<String>,
}

impl Kernel {
    /// Creates the tables and loads every program that this kernel and these privileges allow. Attaches nothing.
    pub fn load(options: &LoadOptions<'_>) -> Result<(Self, Events), LoadError> {
        if options.object.is_empty() {
            return Err(LoadError::NoObject);
        }
        let cpus = sys::present_cpus().map_err(LoadError::Cpus)?;
        let (switch, lifetimes) = find_offsets(options.btf);
        let mut ebpf = create_maps(options, cpus, [&switch, &lifetimes])?;
        let mut states: Vec<_> = PROGRAMS.iter().map(|name| ProgramState { name, down_because: None }).collect();
        let targets = aya::Btf::from_sys_fs().map_err(|error| error.to_string());
        for state in &mut states {
            let fields = match state.name {
                program::SWITCH => switch.as_ref().err(),
                program::MKDIR | program::RMDIR => lifetimes.as_ref().err(),
                _ => None,
            };
            state.down_because = match fields {
                Some(missing) => Some(missing.clone()),
                None => load_program(&mut ebpf, state.name, &targets).err(),
            };
        }
        let (books, sleeps, scope_map, events) = open_maps(&mut ebpf, cpus, options.slots)?;
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
            scopes: (ScopeTable::default(), scope_map),
        };
        Ok((kernel, events))
    }

    /// Attaches the programs that follow the lifetimes of cgroups.
    pub fn attach_lifetimes(&mut self) {
        self.attach(&[program::MKDIR, program::RMDIR], attach_tracepoint);
    }

    /// Attaches the programs that count: bytes to `root`, the root of the cgroup hierarchy, waits to the scheduler.
    pub fn attach_counters(&mut self, root: BorrowedFd<'_>) {
        self.attach(&[program::EGRESS, program::INGRESS], |ebpf, name| attach_to_cgroup(ebpf, name, root));
        self.attach(&[program::SWITCH], attach_tracepoint);
    }

    /// Takes every program out of the kernel; what was counted can still be read.
    pub fn detach(&mut self) {
        for (name, program) in self.ebpf.programs_mut() {
            let unloaded = match program {
                Program::CgroupSkb(program) => program.unload(),
                Program::BtfTracePoint(program) => program.unload(),
                _ => continue,
            };
            if let Err(error) = unloaded
                && !matches!(error, ProgramError::NotLoaded)
            {
                tracing::warn!(program = name, %error, "cannot be detached; it goes with this process");
            }
        }
    }

    fn attach(&mut self, names: &[&'static str], attach: impl Fn(&mut Ebpf, &str) -> Result<(), String>) {
        for state in self.states.iter_mut().filter(|state| names.contains(&state.name) && state.down_because.is_none())
        {
            state.down_because = attach(&mut self.ebpf, state.name).err();
        }
    }

    /// Whether a program is loaded and, where it was tried, attached.
    pub fn is_up(&self, name: &str) -> bool {
        self.states.iter().any(|state| state.name == name && state.down_because.is_none())
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
        let facts = |state: &ProgramState| ProgramFacts {
            name: state.name,
            down_because: state.down_because.clone(),
            run_time: self.run_time(state.name).filter(|(nanoseconds, _)| *nanoseconds > 0),
        };
        self.states.iter().map(facts).collect()
    }

    fn run_time(&self, name: &str) -> Option<(u64, u64)> {
        sys::program_run_time(self.ebpf.program(name)?.fd().ok()?.as_fd()).ok()
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
}

/// The globals of a program, or why it cannot be had.
type Fields = Result<Vec<offsets::Global>, String>;

/// Without type information the programs that read the kernel's structures stay down; bytes are counted all the same.
fn find_offsets(types: &Path) -> (Fields, Fields) {
    let read = btf::read(types);
    let parsed = read
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|bytes| Btf::parse(bytes).map_err(|error| error.to_string()));
    let find = |of: fn(&Btf<'_>) -> Result<Vec<offsets::Global>, BtfError>| {
        parsed.as_ref().map_err(Clone::clone).and_then(|types| of(types).map_err(|error| error.to_string()))
    };
    (find(offsets::switch), find(offsets::lifetimes))
}

fn create_maps(options: &LoadOptions<'_>, cpus: u32, fields: [&Fields; 2]) -> Result<Ebpf, LoadError> {
    let cpus_global = u64::from(cpus);
    let mut loader = EbpfLoader::new();
    loader
        .btf(None)
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("CPUS", &cpus_global, true)
        .map_max_entries("CGROUP_SLOTS", options.slots)
        .map_max_entries("FREE_SLOTS", options.slots)
        .map_max_entries("OWNERS", options.slots)
        .map_max_entries("NET", options.slots * cpus)
        .map_max_entries("SCHED", options.slots * cpus)
        .map_max_entries("SLOT_CACHE", SLOT_CACHE_ENTRIES * cpus);
    for (name, value) in fields.into_iter().flatten().flatten() {
        loader.override_global(name, value, true);
    }
    loader.load(options.object).map_err(|error| {
        if lacks_memory(&error) {
            let bytes = u64::from(options.slots) * cpus_global * (size_of::<NetBook>() + size_of::<SchedBook>()) as u64;
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

fn load_program(ebpf: &mut Ebpf, name: &str, targets: &Result<aya::Btf, String>) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("the object does not hold it")?;
    let loaded = match name {
        program::EGRESS | program::INGRESS => <&mut CgroupSkb>::try_from(program).and_then(CgroupSkb::load),
        _ => {
            let targets = targets.as_ref().map_err(Clone::clone)?;
            let hook = match name {
                program::SWITCH => "sched_switch",
                program::MKDIR => "cgroup_mkdir",
                _ => "cgroup_rmdir",
            };
            <&mut BtfTracePoint>::try_from(program).and_then(|program| program.load(hook, targets))
        }
    };
    loaded.map_err(|error| reason(&error))
}

fn attach_to_cgroup(ebpf: &mut Ebpf, name: &str, root: BorrowedFd<'_>) -> Result<(), String> {
    let kind = if name == program::EGRESS { CgroupSkbAttachType::Egress } else { CgroupSkbAttachType::Ingress };
    let program = ebpf.program_mut(name).ok_or("the object does not hold it")?;
    <&mut CgroupSkb>::try_from(program)
        // A link to a cgroup lets others attach beside it whatever the mode.
        .and_then(|program| program.attach(root, kind, CgroupAttachMode::Single))
        .map(drop)
        .map_err(|error| reason(&error))
}

fn attach_tracepoint(ebpf: &mut Ebpf, name: &str) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("the object does not hold it")?;
    <&mut BtfTracePoint>::try_from(program).and_then(BtfTracePoint::attach).map(drop).map_err(|error| reason(&error))
}

/// One line that says why; the verifier's last words when it refused.
fn reason(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        tracing::debug!(log, "the verifier's log");
        let statistics =
            |line: &str| ["processed ", "verification time", "stack depth"].iter().any(|head| line.starts_with(head));
        let words = log.lines().rev().find(|line| !line.is_empty() && !statistics(line)).unwrap_or("");
        return match io_error.raw_os_error() {
            Some(libc::EPERM) => {
                "not permitted to load it: CAP_BPF, CAP_PERFMON or (for bytes) CAP_NET_ADMIN is missing".into()
            }
            _ => format!("the kernel refused it: {io_error}; {words}"),
        };
    }
    causes::in_one_line(error)
}

type OpenMaps = (SlotBooks, OpenSleeps, LpmTrie<MapData, Address, u32>, Events);

fn open_maps(ebpf: &mut Ebpf, cpus: u32, slots: u32) -> Result<OpenMaps, LoadError> {
    let entries = (slots * cpus) as usize;
    let maps = SlotMaps {
        cgroup_slots: take(ebpf, "CGROUP_SLOTS", BpfHashMap::try_from)?,
        free_slots: take(ebpf, "FREE_SLOTS", Stack::try_from)?,
        owners: share(ebpf, "OWNERS", slots as usize)?,
        net: share(ebpf, "NET", entries)?,
        sched: share(ebpf, "SCHED", entries)?,
        control: share(ebpf, "CONTROL", 1)?,
        drops: share(ebpf, "DROPS", DROPS)?,
    };
    let books = SlotBooks::new(maps, cpus, slots).map_err(|error| LoadError::Map("FREE_SLOTS", error))?;
    let sleeps = take(ebpf, "SLEEPS", |map| match map {
        Map::HashMap(data) => OpenSleeps::new(data),
        _ => Err(MapError::InvalidMapType { map_type: 0 }),
    })?;
    let scopes = take(ebpf, "SCOPE_PREFIXES", LpmTrie::try_from)?;
    let events = Events::new(take(ebpf, "EVENTS", RingBuf::try_from)?);
    Ok((books, sleeps, scopes, events))
}

fn take<T>(ebpf: &mut Ebpf, name: &'static str, open: impl FnOnce(Map) -> Result<T, MapError>) -> Result<T, LoadError> {
    open(find(ebpf, name)?).map_err(|error| LoadError::Map(name, error))
}

fn share<T>(ebpf: &mut Ebpf, name: &'static str, entries: usize) -> Result<SharedArray<T>, LoadError> {
    let Map::Array(data) = find(ebpf, name)? else {
        return Err(LoadError::Map(name, MapError::InvalidMapType { map_type: 0 }));
    };
    SharedArray::new(data.fd().as_fd(), entries).map_err(|error| LoadError::Share(name, error))
}

fn find(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Map(name, MapError::InvalidName { name: name.into() }))
}
