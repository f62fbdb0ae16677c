//! Which agent is asked: one on this machine, one that something forwards to, or that of a node of a cluster.
//!
//! To a cluster's agents this program forwards by itself, as `kubectl port-forward` does, from a free port of this machine.

use super::client;
use crate::kube::{AgentPod, Agents};
use anyhow::{Context as _, bail};
use clap::Args;
use std::{net::SocketAddr, path::PathBuf, thread};
use tokio::{
    io::copy_bidirectional,
    net::TcpListener,
    runtime::{self, Runtime},
};

/// Where an agent listens unless it is told otherwise.
pub(super) const USUAL: &str = "127.0.0.1:9811";

/// Where the manifest and the chart's example put the agents.
const NAMESPACE: &str = "observer";

/// The flags.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which agent")]
pub(super) struct Reach {
    /// Its debug listener [default: that on this machine, at port 9811]
    #[arg(long, value_name = "URL", value_parser = client::authority, conflicts_with_all = ["node", "pod"])]
    pub(super) agent: Option<String>,
    /// That of a node of a cluster
    #[arg(long, value_name = "NODE")]
    pub(super) node: Option<String>,
    /// That in a pod
    #[arg(long, value_name = "POD", conflicts_with = "node")]
    pub(super) pod: Option<String>,
    /// Where the cluster's agents are
    #[arg(short = 'N', long, value_name = "NAMESPACE", default_value = NAMESPACE)]
    pub(super) namespace: String,
    /// A context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// The way to the cluster [default: as kubectl finds it]
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
}

/// An agent that is within reach for as long as this is there.
#[derive(Debug)]
pub(super) struct Reached {
    /// `ADDRESS:PORT`.
    pub(super) address: String,
    /// The node that the API server says it is on.
    pub(super) node: Option<String>,
}

impl Reach {
    /// True unless an agent on this machine is meant that nobody named.
    pub(super) fn is_said(&self) -> bool {
        self.agent.is_some()
            || self.node.is_some()
            || self.pod.is_some()
            || self.kubeconfig.is_some()
            || self.context.is_some()
    }

    /// The flags that mean the same agent in another command; begins with a space unless there are none.
    pub(super) fn words(&self) -> String {
        let Self { agent, node, pod, namespace, context, kubeconfig } = self;
        let in_cluster = node.is_some() || pod.is_some();
        let namespace = Some(namespace).filter(|namespace| in_cluster && *namespace != NAMESPACE);
        let agent = agent.as_ref().map(|authority| format!("http://{authority}"));
        let kubeconfig = kubeconfig.as_ref().map(|file| file.display().to_string());
        [
            ("--agent", agent.as_ref()),
            ("--node", node.as_ref()),
            ("--pod", pod.as_ref()),
            ("--namespace", namespace),
            ("--context", context.as_ref()),
            ("--kubeconfig", kubeconfig.as_ref()),
        ]
        .into_iter()
        .filter_map(|(flag, value)| value.map(|value| format!(" {flag} {value}")))
        .collect()
    }

    /// The agent that is meant.
    ///
    /// # Errors
    /// When it is in a cluster, and cannot be found there.
    pub(super) fn one(&self) -> anyhow::Result<Reached> {
        if self.node.is_none() && self.pod.is_none() {
            if self.kubeconfig.is_some() || self.context.is_some() {
                bail!("--kubeconfig and --context are the way to a cluster: name a --node or a --pod there, too");
            }
            let address = self.agent.clone().unwrap_or_else(|| USUAL.into());
            return Ok(Reached { address, node: None });
        }
        let runtime = runtime()?;
        let agents = runtime.block_on(self.agents())?;
        let pod = match &self.pod {
            Some(pod) => AgentPod { node: String::new(), pod: pod.clone(), runs: true },
            None => runtime.block_on(agents.list(self.node.as_deref()))?.swap_remove(0),
        };
        let mut reached = forward(runtime, agents, vec![pod])?;
        Ok(reached.swap_remove(0))
    }

    /// Every agent of the cluster.
    ///
    /// # Errors
    /// When they cannot be found.
    pub(super) fn all(&self) -> anyhow::Result<Vec<Reached>> {
        let runtime = runtime()?;
        let agents = runtime.block_on(self.agents())?;
        let pods = runtime.block_on(agents.list(None))?;
        forward(runtime, agents, pods)
    }

    async fn agents(&self) -> anyhow::Result<Agents> {
        Agents::find(self.kubeconfig.as_deref(), self.context.as_deref(), &self.namespace).await
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("start the forwarding")
}

/// Forwards from a free port of this machine to each pod, in a thread that ends with the program.
fn forward(runtime: Runtime, agents: Agents, pods: Vec<AgentPod>) -> anyhow::Result<Vec<Reached>> {
    let (mut ways, mut reached) = (Vec::new(), Vec::new());
    for AgentPod { node, pod, .. } in pods {
        let listener = runtime.block_on(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))));
        let listener = listener.context("listen on a free port of 127.0.0.1")?;
        reached.push(Reached {
            address: listener.local_addr()?.to_string(),
            node: Some(node).filter(|node| !node.is_empty()),
        });
        ways.push((listener, pod));
    }
    if reached.is_empty() {
        bail!("no agent is there");
    }
    thread::spawn(move || {
        runtime.block_on(async {
            for (listener, pod) in ways {
                tokio::spawn(accept(listener, agents.clone(), pod));
            }
            std::future::pending::<()>().await;
        });
    });
    Ok(reached)
}

async fn accept(listener: TcpListener, agents: Agents, pod: String) {
    while let Ok((mut near, _)) = listener.accept().await {
        let (agents, pod) = (agents.clone(), pod.clone());
        tokio::spawn(async move {
            match agents.open(&pod).await {
                Ok(mut far) => drop(copy_bidirectional(&mut near, &mut far).await),
                Err(error) => refuse(near, &format!("{error:#}")).await,
            }
        });
    }
}

/// Says why there is no way, in the API's own words for an error.
async fn refuse(mut near: tokio::net::TcpStream, why: &str) {
    use tokio::io::AsyncWriteExt as _;
    let body = serde_json::json!({ "error": { "kind": "unavailable", "message": why } }).to_string();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = near.write_all((head + &body).as_bytes()).await;
    let _ = near.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_mean_the_same_agent_again() {
        let reach = Reach { namespace: NAMESPACE.into(), ..Reach::default() };
        assert_eq!(reach.words(), "");
        let forwarded = Reach { agent: Some("127.0.0.1:7".into()), ..reach.clone() };
        assert_eq!(forwarded.words(), " --agent http://127.0.0.1:7");
        let in_cluster = Reach {
            node: Some("worker-1".into()),
            namespace: "watch".into(),
            context: Some("test".into()),
            kubeconfig: Some("a/config".into()),
            ..reach
        };
        assert_eq!(in_cluster.words(), " --node worker-1 --namespace watch --context test --kubeconfig a/config");
    }
}
