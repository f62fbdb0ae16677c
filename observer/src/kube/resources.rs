//! What the containers of a pod ask for and may use, by its spec: CPU and memory.

use super::quantity::Said;
use crate::ledger::{Bounds, ContainerResources};
use serde::Deserialize;
use std::{borrow::Cow, sync::Arc};

/// A container of a spec.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireBounded {
    name: Arc<str>,
    #[serde(default)]
    restart_policy: Option<String>,
    #[serde(default)]
    resources: WireResources,
    #[serde(default)]
    ports: Vec<WirePort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePort {
    #[serde(default)]
    container_port: u16,
    #[serde(default)]
    host_port: u16,
    protocol: Option<Cow<'static, str>>,
}

impl WireBounded {
    /// The ports of the node that it says it listens on, with the protocols' numbers.
    pub(super) fn node_ports(&self, host_network: bool) -> impl Iterator<Item = (u16, u8)> {
        let port = move |port: &WirePort| if host_network { port.container_port } else { port.host_port };
        let protocol = |port: &WirePort| match port.protocol.as_deref() {
            Some("UDP") => 17,
            Some("SCTP") => 132,
            _ => 6,
        };
        self.ports.iter().map(move |told| (port(told), protocol(told))).filter(|(port, _)| *port != 0)
    }
}

/// `resources` of a container or of a pod.
#[derive(Default, Deserialize)]
pub(super) struct WireResources {
    #[serde(default)]
    requests: WireBounds,
    #[serde(default)]
    limits: WireBounds,
}

#[derive(Default, Deserialize)]
struct WireBounds {
    #[serde(default)]
    cpu: Said,
    #[serde(default)]
    memory: Said,
}

/// What is said of containers that run as long as the pod does, and of the pod as a whole. Other init containers run before
/// those: what they ask for does not add up with it.
pub(super) fn of_pod(
    containers: Vec<WireBounded>,
    init_containers: Vec<WireBounded>,
    whole: &WireResources,
) -> Arc<[ContainerResources]> {
    let is_sidecar = |container: &WireBounded| container.restart_policy.as_deref() == Some("Always");
    let sidecars = init_containers.into_iter().filter(is_sidecar);
    let bounded = sidecars.chain(containers).map(|container| bounds(container.name, &container.resources));
    let all = bounded.chain([bounds("".into(), whole)]);
    let said: Vec<_> = all.filter(|one| !one.requests.is_empty() || !one.limits.is_empty()).collect();
    // The default is one for all: most pods of a crowded node say nothing.
    if said.is_empty() { Arc::default() } else { said.into() }
}

fn bounds(container: Arc<str>, WireResources { requests, limits }: &WireResources) -> ContainerResources {
    let of = |WireBounds { cpu: Said(cpu), memory: Said(memory) }: &WireBounds| Bounds {
        cpu_nanocores: cpu.and_then(super::quantity::Quantity::nano),
        memory_bytes: memory.and_then(super::quantity::Quantity::whole),
    };
    ContainerResources { container, requests: of(requests), limits: of(limits) }
}
