//! The samples of each kind of series: which of a snapshot's numbers are written, under which labels.

use super::fixed_labels::{BOUND_LABELS, CAUSE_LABELS, CONNECTION_LABELS, RCODE_LABELS, SCOPE_LABELS, STALL_LABELS};
use super::histogram::{write_histogram, write_waits};
use super::label_sets::LabelSets;
use super::page::Page;
use super::{Family, Series, Value};
use crate::ledger::{
    AgentFacts, Books, Bounds, ContainerResources, Device, Entity, HistoryFacts, Identity, KubeFacts, MapFacts,
    NodeFacts, PodFacts, Pressure, ProgramFacts, Snapshot, Workload,
};
use observer_ebpf::{
    Traffic,
    dns::{DnsBook, FIRST_BOUND},
};

/// The version in `observer_build_info`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The revision in `observer_build_info`, as the build was told it.
pub const REVISION: &str = match option_env!("OBSERVER_REVISION") {
    Some(revision) if !revision.is_empty() => revision,
    _ => UNKNOWN,
};
/// The revision of a build that was not told.
pub const UNKNOWN: &str = "unknown";

/// A snapshot on its way to a page.
#[derive(Clone, Copy)]
pub(super) struct Samples<'a> {
    pub(super) snapshot: &'a Snapshot<'a>,
    /// Aligned with the snapshot's entities.
    pub(super) entities: &'a LabelSets<Entity>,
    /// Aligned with its workloads.
    pub(super) workloads: &'a LabelSets<Workload>,
}

impl Samples<'_> {
    /// Writes every sample of a family.
    pub(super) fn write(self, page: &mut Page<'_>, family: &Family) {
        let name = family.name;
        match family.series {
            Series::PerScope(read) => self.scopes(page, name, read),
            Series::PerEntity(read) => self.entities(page, name, read),
            Series::Connections => self.connections(page, name),
            Series::Waits => self.waits(page, name),
            Series::DnsResponses => self.dns_responses(page, name),
            Series::DnsWaits => self.dns_waits(page, name),
            Series::Caused => self.caused(page, name),
            Series::Stalls => self.stalls(page, name),
            Series::PerWorkloadScope(read) => self.workload_scopes(page, name, read),
            Series::PerWorkload(read) => self.workloads(page, name, read),
            Series::PerPod => self.pods(page, name),
            Series::PerResource(read) => self.resources(page, name, read),
            Series::Unattributed(read) => self.unattributed(page, name, read),
            Series::Node(read) => self.node(page, name, read),
            Series::PerDevice(read) => self.devices(page, name, read),
            Series::Build => page.labelled(name, &[("version", VERSION), ("revision", REVISION)], Value::Count(1)),
            Series::ProgramUp => self.programs_up(page, name),
            Series::PerProgram(read) => self.programs(page, name, read),
            Series::PerMap(read) => self.maps(page, name, read),
            Series::PerDrop => self.drops(page, name),
            Series::Agent(read) => self.agent(page, name, read),
            Series::HistoryUp => self.history_up(page, name),
            Series::History(read) => self.history(page, name, read),
            Series::Kube(read) => self.kube(page, name, read),
            Series::PerKubeFeature => self.kube_features(page, name),
            Series::Page => page.sample([name, ""], b"", "", Value::Count(page.samples() + 1)),
        }
    }

    /// Both directions of a scope have a series as soon as one of them has traffic.
    fn scopes(self, page: &mut Page<'_>, name: &str, read: fn(&Traffic) -> u64) {
        for (entity, labels) in self.shown() {
            write_scopes(page, name, labels, &entity.books, read);
        }
    }

    fn workload_scopes(self, page: &mut Page<'_>, name: &str, read: fn(&Traffic) -> u64) {
        for (workload, labels) in self.snapshot.workloads.iter().zip(self.workloads.sets()) {
            write_scopes(page, name, labels, &workload.books, read);
        }
    }

    fn workloads(self, page: &mut Page<'_>, name: &str, read: fn(&Workload, u64) -> Option<Value>) {
        for (workload, labels) in self.snapshot.workloads.iter().zip(self.workloads.sets()) {
            if let Some(value) = read(workload, self.snapshot.window_ended_ns) {
                page.sample([name, ""], labels, "", value);
            }
        }
    }

    fn pods(self, page: &mut Page<'_>, name: &str) {
        for pod in self.snapshot.pods {
            let PodFacts { names, uid, host_network, qos_class, phase, created_by_kind, created_by_name, resources: _ } =
                pod;
            let labels = [
                ("node", self.snapshot.node_name),
                ("namespace", &*names.namespace),
                ("pod", &*names.pod),
                ("uid", uid),
                ("workload", &*names.workload.name),
                ("workload_type", &*names.workload.kind),
                ("host_network", if *host_network { "true" } else { "false" }),
                ("qos_class", qos_class),
                ("phase", phase),
                ("created_by_kind", created_by_kind),
                ("created_by_name", created_by_name),
            ];
            page.labelled(name, &labels, Value::Count(1));
        }
    }

    fn resources(self, page: &mut Page<'_>, name: &str, read: fn(&ContainerResources) -> &Bounds) {
        for pod in self.snapshot.pods.iter().filter(|pod| !matches!(pod.phase, "Succeeded" | "Failed")) {
            for resources in &*pod.resources {
                let Bounds { cpu_nanocores, memory_bytes } = *read(resources);
                let cores = cpu_nanocores.map(|nanocores| Value::Float(nanocores as f64 / 1e9));
                for (resource, unit, value) in
                    [("cpu", "core", cores), ("memory", "byte", memory_bytes.map(Value::Count))]
                {
                    let Some(value) = value else { continue };
                    let labels = [
                        ("node", self.snapshot.node_name),
                        ("namespace", &*pod.names.namespace),
                        ("pod", &*pod.names.pod),
                        ("container", &*resources.container),
                        ("resource", resource),
                        ("unit", unit),
                    ];
                    page.labelled(name, &labels, value);
                }
            }
        }
    }

    fn kube(self, page: &mut Page<'_>, name: &str, read: fn(&KubeFacts) -> Value) {
        if let Some(kube) = &self.snapshot.agent.kube {
            page.sample([name, ""], b"", "", read(kube));
        }
    }

    fn kube_features(self, page: &mut Page<'_>, name: &str) {
        for (feature, down_because) in self.snapshot.agent.kube.iter().flat_map(|kube| &kube.features) {
            let labels = [("feature", *feature), ("reason", down_because.as_deref().unwrap_or_default())];
            match down_because {
                None => page.labelled(name, &labels[..1], Value::Count(1)),
                Some(_) => page.labelled(name, &labels, Value::Count(0)),
            }
        }
    }

    /// The entities that have series of their own.
    fn shown(&self) -> impl Iterator<Item = (&Entity, &[u8])> {
        self.snapshot.entities.iter().zip(self.entities.sets()).filter(|(entity, _)| entity.shown)
    }

    fn entities(self, page: &mut Page<'_>, name: &str, read: fn(&Entity, u64) -> Option<Value>) {
        for (entity, labels) in self.shown() {
            if let Some(value) = read(entity, self.snapshot.window_ended_ns) {
                page.sample([name, ""], labels, "", value);
            }
        }
    }

    fn connections(self, page: &mut Page<'_>, name: &str) {
        for (entity, labels) in self.shown() {
            let counts = entity.connections.as_flattened().iter().zip(CONNECTION_LABELS.as_flattened());
            for (count, more) in counts.filter_map(|(count, more)| Some(((*count)?, more))) {
                page.sample([name, ""], labels, more, Value::Count(count));
            }
        }
    }

    fn waits(self, page: &mut Page<'_>, name: &str) {
        for (entity, labels) in self.shown() {
            write_waits(page, name, labels, &entity.books);
        }
    }

    fn dns_responses(self, page: &mut Page<'_>, name: &str) {
        for (dns, labels) in self.asking() {
            for (count, rcode) in dns.responses.iter().zip(RCODE_LABELS).filter(|(count, _)| **count > 0) {
                page.sample([name, ""], labels, rcode, Value::Count(*count));
            }
        }
    }

    fn dns_waits(self, page: &mut Page<'_>, name: &str) {
        for (dns, labels) in self.asking() {
            let bounds = BOUND_LABELS[FIRST_BOUND..].iter().copied().zip(dns.waits.iter().copied());
            write_histogram(page, name, labels, bounds, (dns.waits.iter().sum(), dns.waited_ns));
        }
    }

    /// What those asked DNS servers that did.
    fn asking(&self) -> impl Iterator<Item = (&DnsBook, &[u8])> {
        self.shown().filter_map(|(entity, labels)| Some((entity.books.dns.as_deref()?, labels)))
    }

    fn caused(self, page: &mut Page<'_>, name: &str) {
        for (entity, labels) in self.shown() {
            for (ns, by) in entity.books.caused_ns.iter().zip(CAUSE_LABELS).filter(|(ns, _)| **ns > 0) {
                page.sample([name, ""], labels, by, Value::Nanoseconds(*ns));
            }
        }
    }

    fn stalls(self, page: &mut Page<'_>, name: &str) {
        for (entity, labels) in self.shown() {
            for (us, more) in stalls(entity).into_iter().flatten().zip(STALL_LABELS) {
                if let Some(us) = us {
                    page.sample([name, ""], labels, more, Value::Microseconds(us));
                }
            }
        }
    }

    fn unattributed(self, page: &mut Page<'_>, name: &str, read: fn(&Traffic) -> u64) {
        let nobody = self.snapshot.entities.iter().filter(|entity| entity.identity == Identity::Unattributed);
        let sum = nobody.flat_map(|entity| &entity.books.traffic).map(read).sum();
        page.labelled(name, &[("node", self.snapshot.node_name)], Value::Count(sum));
    }

    fn node(self, page: &mut Page<'_>, name: &str, read: fn(&NodeFacts) -> Option<Value>) {
        if let Some(value) = read(self.snapshot.node) {
            page.labelled(name, &[("node", self.snapshot.node_name)], value);
        }
    }

    fn devices(self, page: &mut Page<'_>, name: &str, read: fn(&Device) -> u64) {
        for device in &self.snapshot.node.devices {
            let labels = [("node", self.snapshot.node_name), ("device", device.name.as_str())];
            page.labelled(name, &labels, Value::Count(read(device)));
        }
    }

    fn programs_up(self, page: &mut Page<'_>, name: &str) {
        for program in &self.snapshot.agent.programs {
            let labels = [("program", program.name), ("reason", program.down_because.as_deref().unwrap_or_default())];
            match program.down_because {
                None => page.labelled(name, &labels[..1], Value::Count(1)),
                Some(_) => page.labelled(name, &labels, Value::Count(0)),
            }
        }
    }

    fn programs(self, page: &mut Page<'_>, name: &str, read: fn(&ProgramFacts) -> Option<Value>) {
        for program in &self.snapshot.agent.programs {
            if let Some(value) = read(program) {
                page.labelled(name, &[("program", program.name)], value);
            }
        }
    }

    fn maps(self, page: &mut Page<'_>, name: &str, read: fn(&MapFacts) -> u64) {
        for map in &self.snapshot.agent.maps {
            page.labelled(name, &[("map", map.name)], Value::Count(read(map)));
        }
    }

    fn drops(self, page: &mut Page<'_>, name: &str) {
        for (reason, count) in &self.snapshot.agent.drops {
            page.labelled(name, &[("reason", reason)], Value::Count(*count));
        }
    }

    fn history_up(self, page: &mut Page<'_>, name: &str) {
        let HistoryFacts { on_disk, down_because, .. } = &self.snapshot.agent.history;
        let store = if *on_disk { "disk" } else { "memory" };
        let labels = [("store", store), ("reason", down_because.as_deref().unwrap_or_default())];
        match down_because {
            None => page.labelled(name, &labels[..1], Value::Count(1)),
            Some(_) => page.labelled(name, &labels, Value::Count(0)),
        }
    }

    fn history(self, page: &mut Page<'_>, name: &str, read: fn(&HistoryFacts) -> Option<Value>) {
        if let Some(value) = read(&self.snapshot.agent.history) {
            page.sample([name, ""], b"", "", value);
        }
    }

    fn agent(self, page: &mut Page<'_>, name: &str, read: fn(&AgentFacts) -> Option<Value>) {
        if let Some(value) = read(self.snapshot.agent) {
            page.sample([name, ""], b"", "", value);
        }
    }
}

fn write_scopes(page: &mut Page<'_>, name: &str, labels: &[u8], books: &Books, read: fn(&Traffic) -> u64) {
    for (traffic, scope) in books.traffic.iter().zip(SCOPE_LABELS) {
        if *traffic != Traffic::default() {
            page.sample([name, ""], labels, scope, Value::Count(read(traffic)));
        }
    }
}

/// In the order of [`STALL_LABELS`]; nothing where pressure is not read.
pub(super) fn stalls(entity: &Entity) -> Option<[Option<u64>; STALL_LABELS.len()]> {
    let Pressure { cpu, memory, io } = entity.books.pressure.as_deref()?;
    Some([cpu.some_us, cpu.full_us, memory.some_us, memory.full_us, io.some_us, io.full_us])
}
