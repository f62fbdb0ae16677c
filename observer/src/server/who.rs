//! An entity, as the API names it and as a request asks for it.

use crate::ledger::Identity;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};

/// An entity by its labels; those that do not apply are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Who {
    /// The node, where several are told of at once and it is that one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The pod's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod; its uid as long as it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The container; its id as long as it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The pod's workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// What kind of workload that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_type: Option<String>,
    /// The path of a cgroup that is in no pod, or `unattributed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

impl From<&Identity> for Who {
    fn from(identity: &Identity) -> Self {
        let text = |name: &str| Some(name.to_owned());
        match identity {
            Identity::Unattributed => Self { cgroup: text("unattributed"), ..Self::default() },
            Identity::Other { namespace } => {
                Self { namespace: namespace.as_deref().and_then(text), cgroup: text("other"), ..Self::default() }
            }
            Identity::Cgroup { path } => Self { cgroup: text(path), ..Self::default() },
            Identity::UnnamedPod { uid, container } => {
                Self { pod: text(uid), container: container.as_deref().and_then(text), ..Self::default() }
            }
            Identity::Container { pod, container } => Self {
                namespace: text(&pod.namespace),
                pod: text(&pod.pod),
                container: container.as_deref().and_then(text),
                workload: text(&pod.workload.name),
                workload_type: text(&pod.workload.kind),
                node: None,
                cgroup: None,
            },
        }
    }
}

impl Display for Who {
    /// As a request asks for it; a whole workload with its kind.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, namespace, pod, container, workload, workload_type, cgroup } = self;
        if let Some(node) = node {
            write!(out, "{node}: ")?;
        }
        if let (Some(namespace), None, None, Some(workload), Some(kind)) =
            (namespace, pod, cgroup, workload, workload_type)
        {
            return write!(out, "{namespace}/{workload} ({kind})");
        }
        let parts: Vec<_> = [namespace, pod, container, cgroup].into_iter().flatten().map(String::as_str).collect();
        out.write_str(&parts.join("/"))
    }
}

impl Who {
    /// Whether a request that asks for this means it: `NAMESPACE/POD`, `NAMESPACE/POD/CONTAINER`, the same with the uid for namespace and pod
    /// of a pod that has no name yet, or the path of a cgroup.
    pub(super) fn is_meant_by(&self, wanted: &str) -> bool {
        if self.cgroup.as_deref() == Some(wanted) {
            return true;
        }
        let Some(pod) = &self.pod else { return false };
        let named = self.namespace.as_ref().map_or_else(|| pod.clone(), |namespace| format!("{namespace}/{pod}"));
        match wanted.strip_prefix(&named) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('/').is_some_and(|container| self.container.as_deref() == Some(container)),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_means_all_its_containers() {
        let text = |text: &str| Some(text.to_owned());
        let web = Who { namespace: text("shop"), pod: text("web-1"), container: text("app"), ..Who::default() };
        assert!(web.is_meant_by("shop/web-1") && web.is_meant_by("shop/web-1/app"));
        for other in ["shop/web-1/sidecar", "shop/web-2", "shop", "web-1", "", "shop/web-1/"] {
            assert!(!web.is_meant_by(other), "{other}");
        }
        let unnamed = Who { pod: text("5f7c"), container: text("ab12"), ..Who::default() };
        assert!(unnamed.is_meant_by("5f7c") && unnamed.is_meant_by("5f7c/ab12") && !unnamed.is_meant_by("5f7"));
        let service = Who { cgroup: text("/system.slice/a.service"), ..Who::default() };
        assert!(service.is_meant_by("/system.slice/a.service") && !service.is_meant_by("/system.slice"));
    }
}
