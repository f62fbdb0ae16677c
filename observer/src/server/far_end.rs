//! Whose an address is, as the API tells it.

use crate::ledger::{Holder, LookedUpName, OnNode, PodHolder, Tenancy, Whose};
use serde::{Deserialize, Serialize};

/// Who has, or had, an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FarEnd {
    /// `pod`, `service` or `node`; `dns` where only a name is known that was looked up.
    pub kind: String,
    /// The pod's or the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's, the service's or the node's; of `dns` the name that this end looked up.
    pub name: String,
    /// The pod's workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// What kind of workload that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_type: Option<String>,
    /// The node that the pod is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// True if the address is the node's, and it is the port that tells the pod.
    #[serde(skip_serializing_if = "is_false")]
    pub by_port: bool,
    /// Since when it has the address, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_unix_seconds: Option<u64>,
    /// When it had it no more, at the latest; not there if it still has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_unix_seconds: Option<u64>,
    /// When it was last known to have it, if nobody tells at once when that ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of_unix_seconds: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl FarEnd {
    /// What is known of it.
    pub(super) fn of(Whose { tenancy, on_node, is_followed }: Whose<'_>) -> Self {
        if let Some(OnNode { pod, since_unix_seconds, until_unix_seconds, as_of_unix_seconds, is_followed, .. }) =
            on_node
        {
            let is_over = until_unix_seconds.is_some();
            return Self {
                by_port: true,
                since_unix_seconds: *since_unix_seconds,
                until_unix_seconds: *until_unix_seconds,
                as_of_unix_seconds: (!is_followed && !is_over).then_some(*as_of_unix_seconds),
                ..Self::pod(pod)
            };
        }
        let Tenancy { holder, since_unix_seconds, until_unix_seconds, as_of_unix_seconds, .. } = tenancy;
        let text = |name: &str| name.to_owned();
        let named = match holder {
            Holder::Pod(pod) => Self::pod(pod),
            Holder::Service { namespace, name } => {
                Self { kind: text("service"), namespace: Some(text(namespace)), name: text(name), ..Self::default() }
            }
            Holder::Node { name } => Self { kind: text("node"), name: text(name), ..Self::default() },
        };
        let is_over = until_unix_seconds.is_some();
        Self {
            since_unix_seconds: *since_unix_seconds,
            until_unix_seconds: *until_unix_seconds,
            as_of_unix_seconds: (!is_followed && !is_over).then_some(*as_of_unix_seconds),
            ..named
        }
    }

    /// A name by which it was looked up.
    pub(super) fn looked_up(LookedUpName { name, since_unix_seconds, as_of_unix_seconds }: &LookedUpName) -> Self {
        Self {
            kind: "dns".into(),
            name: (**name).to_owned(),
            since_unix_seconds: Some(*since_unix_seconds),
            as_of_unix_seconds: Some(*as_of_unix_seconds),
            ..Self::default()
        }
    }

    fn pod(PodHolder { uid: _, namespace, name, workload, node }: &PodHolder) -> Self {
        let text = |name: &str| name.to_owned();
        Self {
            kind: text("pod"),
            namespace: Some(text(namespace)),
            name: text(name),
            workload: workload.as_ref().map(|workload| text(&workload.name)),
            workload_type: workload.as_ref().map(|workload| text(&workload.kind)),
            node: node.as_deref().map(text),
            ..Self::default()
        }
    }
}
