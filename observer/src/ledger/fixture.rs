//! What tests of the books share: a node without pods.

use super::{Cgroup, Names, PodNames};
use observer_ebpf::causes::Membership;
use std::sync::Arc;

/// Every cgroup is a service, called by its number.
pub(crate) struct Services;

impl Names for Services {
    fn cgroup(&self, id: u64) -> Option<Cgroup> {
        Some(Cgroup { path: format!("/service{id}").into(), pod: None, gone_at_ns: None })
    }

    fn pod(&self, _: &str) -> Option<Arc<PodNames>> {
        None
    }

    fn membership(&self, _: u64) -> Option<Membership> {
        None
    }

    fn container(&self, _: &str, _: &str) -> Option<Arc<str>> {
        None
    }
}
