//! From nothing to counting, with as few privileges as possible for as short as possible.

use super::{
    far_ends::FarEnds,
    open_files,
    pods::Pods,
    scopes::Scopes,
    station::{Parts, Station},
    translations::Translations,
};
use crate::{
    cgroup::{Tree, mount, v1::V1Mounts},
    config::AgentConfig,
    history::{History, StateDir, Writer},
    kernel::{
        Kernel, LoadOptions, OBJECT, ScopeRanges, btf,
        lock::NodeLock,
        monotonic_ns,
        privileges::{self, Feature, Held, User},
        program,
    },
    kube::{Access, Connection, Owners, Patience, PodWatch, RangeReader, WantedRanges},
    ledger::ProgramFacts,
    procfs::{self, Network, TaskVantage, Vantage},
    server,
};
use anyhow::{Context as _, bail};
use std::{
    fs::File,
    net::TcpListener,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};
use tokio::runtime::Runtime;

/// An agent that counts and has no privileges left.
pub(super) struct Started {
    pub(super) station: Station,
    pub(super) listener: TcpListener,
    /// The debug listener, unless it is off.
    pub(super) debug_listener: Option<TcpListener>,
    /// Readable when cgroups came or went.
    pub(super) events: OwnedFd,
    /// Held as long as this process counts.
    pub(super) lock: NodeLock,
    pub(super) scopes: Scopes,
    /// What tells of pods and their owners, where there is an API server.
    pub(super) kube: Option<(PodWatch, Owners)>,
    pub(super) ranges: Option<RangeReader>,
    pub(super) far_ends: Option<FarEnds>,
    /// Where connections to services go.
    pub(super) translations: Translations,
}

/// Attaches everything that this kernel and these privileges allow, and gives the privileges up.
///
/// The runtime has to be there already: what reaches the API server is made of it.
pub(super) fn start(config: AgentConfig, runtime: &Runtime, open_files: usize) -> anyhow::Result<Started> {
    let user = User::chosen(config.user.as_deref())?;
    let mount = mount::locate(config.cgroup_path.as_deref())?;
    if !mount.true_root {
        tracing::warn!(path = %mount.path.display(), "this mount shows a part of the cgroup hierarchy: only what is below it is counted; pass the host's /sys/fs/cgroup in to count the node");
    }
    // Before the port, which the other agent has: who that is says more than that it is taken.
    let lock = NodeLock::take(&mount.path, &config.proc_path)?;
    let listener = server::bind("--metrics-listen", config.metrics_listen)?;
    let debug_listener = config.debug_listen.map(|address| server::bind("--debug-listen", address)).transpose()?;
    let (history, writer) = open_history(config.state_dir.as_deref(), user);
    let kube = connect_kube(&config, runtime)?;
    check_privileges()?;
    let options = LoadOptions {
        object: OBJECT,
        slots: config.max_cgroups + 1,
        btf: Path::new(btf::VMLINUX),
        wait_threshold_ns: config.wait_threshold.as_nanos() as u64,
    };
    let (mut kernel, events) = Kernel::load(&options)?;
    let root = File::open(&mount.path).with_context(|| format!("cannot open {}", mount.path.display()))?;
    kernel.attach_lifetimes(root.as_fd());
    let mut tree = Tree::new(mount.path.clone()).beside(V1Mounts::locate(&mount));
    tree.walk(monotonic_ns()).with_context(|| format!("cannot walk {}", mount.path.display()))?;
    let configured = ScopeRanges {
        service: config.service_cidr,
        cluster: config.cluster_cidr,
        intranet: config.intranet_cidr,
        ..ScopeRanges::default()
    };
    let network = Network::new(config.proc_path.clone(), config.net_path);
    let mut scopes = Scopes::new(network.clone(), configured);
    scopes.update(&mut kernel, None);
    kernel.attach_counters(root.as_fd());
    report(&kernel.programs())?;
    if !matches!(procfs::addresses(&network), Ok(addresses) if addresses.vantage == Vantage::Node) {
        tracing::warn!(path = %network.directory().display(), "the network of process 1 cannot be read here: devices and addresses are this process's own, and the node's may be missing");
    }
    if kernel.is_up(program::SWITCH) && TaskVantage::of(&config.proc_path) == TaskVantage::States {
        seed_sleeps(&mut kernel, &tree, &config.proc_path);
    }
    let translations = Translations::open(&network);
    let events_fd = events.duplicate().context("cannot watch the ring buffer of cgroup events")?;
    let keep_bpf = privileges::reading_needs_bpf(|| kernel.can_read())?;
    let dropped = privileges::drop_everything(user, keep_bpf)?;
    tracing::info!(uid = dropped.uid, cap_bpf_kept = dropped.bpf_kept, "counting; privileges are dropped");
    // Not before: privileges belong to threads, and are dropped for one.
    if let Some(writer) = writer {
        writer.start().context("cannot start the thread that writes the history")?;
    }
    // Another user may see less of /proc than root did.
    let tasks = TaskVantage::of(&config.proc_path);
    if tasks != TaskVantage::States {
        tracing::warn!(path = %config.proc_path.display(), "the states of other users' tasks cannot be read here (hidepid, or not the host's /proc): uninterruptible sleep is booked when it ends, not while it lasts");
    }
    let station = Station::new(Parts {
        kernel,
        events,
        tree,
        node_name: config.node_name,
        proc_path: config.proc_path,
        network,
        true_root: mount.true_root,
        spare_descriptors: open_files::spare(open_files),
        tasks,
        pods: kube.as_ref().map(|connection| Pods::new(connection.pulse.clone())),
        series_limit: config.series_limit,
        max_flows: config.max_flows as usize,
        pressure: config.pressure,
        history,
    });
    let mut started = Started {
        station,
        listener,
        debug_listener,
        events: events_fd,
        lock,
        scopes,
        kube: None,
        ranges: None,
        far_ends: None,
        translations,
    };
    if let Some(Connection { watch, owners, ranges, peers, pulse: _ }) = kube {
        started.kube = Some((watch, owners));
        started.ranges = Some(ranges);
        started.far_ends = Some(FarEnds::new(peers));
    }
    Ok(started)
}

/// Opens the state directory while there are privileges to give it to the agent's user. What stands in the way of a history
/// does not stand in the way of counting.
fn open_history(state_dir: Option<&Path>, user: Option<User>) -> (History, Option<Writer>) {
    let Some(path) = state_dir else {
        tracing::info!("no --state-dir: the history is kept in memory only, as much as half a megabyte holds");
        return (History::in_memory(), None);
    };
    match StateDir::open(path, user.map(|User { uid, gid }| (uid, gid))) {
        Ok(directory) => {
            let (history, writer) = History::on_disk(directory);
            (history, Some(writer))
        }
        Err(error) => {
            tracing::warn!(%error, "the history is kept in memory only, as much as half a megabyte holds");
            (History::without_store(error.to_string()), None)
        }
    }
}

/// Reads what reaches the API server while the agent may still read it; connects to nobody.
fn connect_kube(config: &AgentConfig, runtime: &Runtime) -> anyhow::Result<Option<Connection>> {
    let Some(access) = runtime.block_on(Access::find(config.kubeconfig.as_deref()))? else {
        tracing::info!("no kubeconfig and no service account: cgroups go by their paths");
        return Ok(None);
    };
    tracing::info!(server = access.server(), node = config.node_name, "pods are named by the API server");
    // Its connections are made of the runtime.
    let _inside = runtime.enter();
    let wanted = WantedRanges { cluster: config.cluster_cidr.is_empty(), service: config.service_cidr.is_empty() };
    Ok(Some(access.connect(&config.node_name, wanted, Patience::default())?))
}

/// Says what is missing for what; fails when nothing could be counted at all.
fn check_privileges() -> anyhow::Result<()> {
    let held = Held::read();
    let mut possible = false;
    let mut missing = Vec::new();
    for feature in Feature::ALL {
        let lacks = held.missing_for(feature);
        possible |= lacks.is_empty() && matches!(feature, Feature::Bytes | Feature::Scheduler);
        if !lacks.is_empty() {
            missing.push(format!("{feature}: {}", privileges::listed(&lacks)));
        }
    }
    let missing = missing.join("; ");
    if !possible {
        bail!(
            "not permitted to count anything. Missing for {missing}. Run it as root, or give the binary these capabilities"
        );
    }
    if !missing.is_empty() {
        tracing::warn!("some figures will be absent. Missing for {missing}");
    }
    Ok(())
}

/// Logs each program that is down; fails when none counts.
fn report(programs: &[ProgramFacts]) -> anyhow::Result<()> {
    let mut reasons = Vec::new();
    for ProgramFacts { name, down_because, .. } in programs {
        if let Some(reason) = down_because {
            let lost = program::lost_without(name).unwrap_or("its figures are absent");
            tracing::warn!(program = name, reason, "a kernel program does not run: {lost}");
            reasons.push(format!("{name}: {reason}"));
        }
    }
    let counts = |wanted: &str| programs.iter().any(|program| program.name == wanted && program.down_because.is_none());
    if !counts(program::EGRESS) && !counts(program::INGRESS) && !counts(program::SWITCH) {
        bail!("no kernel program could be attached: {}; `observer check` tells what to do", reasons.join("; "));
    }
    Ok(())
}

/// Tasks that sleep uninterruptibly before the program saw them fall asleep: counted from now on.
fn seed_sleeps(kernel: &mut Kernel, tree: &Tree, proc_path: &Path) {
    let Ok(tasks) = procfs::uninterruptible_tasks(proc_path) else { return };
    for task in tasks {
        let Ok(cgroup) = tree.id_of(task.cgroup.as_os_str().as_encoded_bytes()) else { continue };
        if let Err(error) = kernel.sleeps.seed(task.tid, cgroup, monotonic_ns()) {
            tracing::warn!(thread = task.tid, %error, "a task that sleeps uninterruptibly already cannot be counted until it sleeps again");
        }
    }
}
