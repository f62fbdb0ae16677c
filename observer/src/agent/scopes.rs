//! Keeps the address ranges that decide a scope in step with the node's addresses, its pods and the cluster, and says once what
//! stands in the way.

use super::pods::Pods;
use crate::{
    kernel::{Kernel, ScopeRanges, ScopeTable},
    kube::ClusterRanges,
    procfs::{self, Network},
};
use std::net::IpAddr;

/// Where the ranges come from.
#[derive(Debug)]
pub(super) struct Scopes {
    network: Network,
    configured: ScopeRanges,
    /// The node's addresses as last read.
    node: Vec<IpAddr>,
    /// What was wrong the last time.
    complaint: Option<String>,
}

impl Scopes {
    /// The ranges of the configuration, and the addresses that the node's network tells.
    pub(super) fn new(network: Network, configured: ScopeRanges) -> Self {
        Self { network, configured, node: Vec::new(), complaint: None }
    }

    /// Reads the node's addresses and tells the kernel what changed. When they cannot be read, the last ones stay.
    pub(super) fn update(&mut self, kernel: &mut Kernel, pods: Option<&Pods>) {
        let read = procfs::addresses(&self.network).map(|addresses| self.node = addresses.list);
        let written = kernel.set_scopes(&ScopeTable::new(&self.ranges(pods)));
        let complaint = match (read, written) {
            (_, Err(error)) => Some(format!("the kernel's table of address ranges cannot be changed: {error}")),
            (Err(error), Ok(_)) => {
                let directory = self.network.directory();
                let path = directory.display();
                Some(format!("the node's addresses cannot be read in {path} ({error}): the last known ones stay"))
            }
            (Ok(()), Ok(0)) => None,
            (Ok(()), Ok(left_out)) => Some(format!(
                "{left_out} address ranges more than the kernel's table holds: addresses in them have the scope of the next \
                 larger range"
            )),
        };
        match &complaint {
            Some(complaint) if self.complaint.as_ref() != Some(complaint) => tracing::warn!("scopes: {complaint}"),
            None if self.complaint.is_some() => tracing::info!("scopes: all address ranges are in place again"),
            _ => {}
        }
        self.complaint = complaint;
    }

    /// The node's own addresses, as they were last read.
    pub(super) fn node(&self) -> &[IpAddr] {
        &self.node
    }

    /// What was configured, and what the API server tells of the rest.
    fn ranges(&self, pods: Option<&Pods>) -> ScopeRanges {
        let mut ranges = ScopeRanges { node: self.node.clone(), ..self.configured.clone() };
        if let Some(pods) = pods {
            let ClusterRanges { node_pods, cluster, service, .. } = pods.ranges();
            ranges.pods.extend(pods.store.addresses());
            ranges.node_pods.extend(node_pods);
            ranges.cluster.extend(cluster);
            ranges.service.extend(service);
        }
        ranges
    }
}
