//! The agents of a cluster, for those who look at them from outside: which pods they are, and a stream to the debug listener of one,
//! as `kubectl port-forward` makes it. With the kubeconfig and the rights of the user, not those of an agent.

use crate::causes::in_one_line;
use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{path::Path, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// The label by which the chart and the manifest name the agents.
const LABEL: &str = "app.kubernetes.io/name=observer";
/// The debug listener's, inside the pod.
const PORT: u16 = 9811;
/// How long a connection to the server may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// The agents of a namespace.
#[derive(Clone)]
pub struct Agents {
    pods: Api<Pod>,
    namespace: String,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPod {
    /// The node that it counts.
    pub node: String,
    /// Its name.
    pub pod: String,
    /// It runs, and is not about to end.
    pub runs: bool,
}

impl AgentPod {
    /// One that has a node.
    fn of(pod: Pod) -> Option<Self> {
        let is_running = pod.status.and_then(|status| status.phase).is_some_and(|phase| phase == "Running");
        let runs = is_running && pod.metadata.deletion_timestamp.is_none();
        Some(Self { node: pod.spec?.node_name?, pod: pod.metadata.name?, runs })
    }
}

impl Agents {
    /// By the kubeconfig that is named, or else the user's own. Connects to nobody yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// The kubeconfig is not there or not right.
    pub async fn find(kubeconfig: Option<&Path>, context: Option<&str>, namespace: &str) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let config = match kubeconfig.map(Kubeconfig::read_from).transpose() {
            Ok(Some(file)) => Config::from_custom_kubeconfig(file, &options).await,
            Ok(None) => Config::from_kubeconfig(&options).await,
            Err(error) => Err(error),
        };
        let mut config = config.map_err(|error| {
            let which = kubeconfig.map(|path| format!(" {}", path.display())).unwrap_or_default();
            anyhow!(
                "cannot use the kubeconfig{which}: {}; name one with --kubeconfig, and its --context",
                in_one_line(&error)
            )
        })?;
        config.connect_timeout = Some(CONNECT);
        let client = Client::try_from(config)
            .map_err(|error| anyhow!("cannot prepare the connection to the API server: {}", in_one_line(&error)))?;
        Ok(Self { pods: Api::namespaced(client, namespace), namespace: namespace.to_owned() })
    }

    /// One of each node, or that of a node: the one that runs, while another comes or goes; one that does not run where there is no other,
    /// so that no node is missing unsaid.
    ///
    /// # Errors
    /// The server does not answer, refuses, or there is none.
    pub async fn list(&self, node: Option<&str>) -> anyhow::Result<Vec<AgentPod>> {
        let fields = node.map(|node| format!("spec.nodeName={node}")).unwrap_or_default();
        let list = self.pods.list(&ListParams::default().labels(LABEL).fields(&fields)).await;
        let list = list.map_err(|error| {
            let (namespace, error) = (&self.namespace, said(&error));
            anyhow!(
                "cannot list the agents in the namespace {namespace}: {error}; it takes the right to list pods there"
            )
        })?;
        let mut found: Vec<_> = list.items.into_iter().filter_map(AgentPod::of).collect();
        found.sort_by(|a, b| (&a.node, !a.runs).cmp(&(&b.node, !b.runs)));
        found.dedup_by(|next, first| next.node == first.node);
        if found.is_empty() {
            let place = node.map(|node| format!(" on the node {node}")).unwrap_or_default();
            bail!(
                "no agent runs{place} in the namespace {}, by the label {LABEL}; --namespace names another",
                self.namespace
            );
        }
        Ok(found)
    }

    /// A connection to the debug listener of an agent.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn open(&self, pod: &str) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let mut forwarded = self.pods.portforward(pod, &[PORT]).await.map_err(|error| {
            anyhow!(
                "cannot reach the pod {pod}: {}; it has to run, and it takes the right to create pods/portforward in the namespace {}",
                said(&error),
                self.namespace
            )
        })?;
        forwarded.take_stream(PORT).with_context(|| format!("the API server gave no stream to the pod {pod}"))
    }
}

/// What the server says of it, in a sentence.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => in_one_line(other),
    }
}
