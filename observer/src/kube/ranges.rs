//! Which addresses are the cluster's: pod ranges and addresses of its nodes, and the ranges of its services.
//!
//! Read now and then, by pages, and less often the more nodes there are: neither a watch of all nodes nor a burst.

use http::Request;
use ipnet::IpNet;
use kube::Client;
use serde::{Deserialize, de::DeserializeOwned};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// Nodes of one answer.
const PAGE: usize = 50;
/// Beyond this many nodes somebody has to say what the cluster's range is.
const MOST_NODES: usize = 1000;
/// How often a small cluster is asked.
const EVERY: Duration = Duration::from_mins(5);
/// What each node of a larger one adds to that.
const EVERY_NODE: Duration = Duration::from_secs(10);
/// After something went wrong.
const AGAIN: Duration = Duration::from_secs(30);
/// An answer to its end; its head has less.
const ANSWER: Duration = Duration::from_secs(30);

/// Address ranges as the API server tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRanges {
    /// From which this node's pods have their addresses.
    pub node_pods: Vec<IpNet>,
    /// Pods and nodes elsewhere, unless they are configured.
    pub cluster: Vec<IpNet>,
    /// Services.
    pub service: Vec<IpNet>,
    /// The nodes elsewhere, if they were read.
    pub nodes: Arc<[NodeRanges]>,
    /// How many nodes there are, if they were read.
    pub node_count: Option<usize>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRanges {
    /// Its name.
    pub name: Arc<str>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// From which its pods have theirs.
    pub pods: Vec<IpNet>,
}

/// Which of them nobody has configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedRanges {
    /// Those of pods and nodes elsewhere.
    pub cluster: bool,
    /// Those of services.
    pub service: bool,
}

/// What came of a reading. What could not be read is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangesTold {
    /// All ranges.
    pub ranges: ClusterRanges,
    /// What is missing and what to do.
    pub missing: Option<String>,
    /// When to read again.
    pub again_in: Duration,
}

/// Reads them.
pub struct RangeReader {
    client: Client,
    node: Arc<str>,
    wanted: WantedRanges,
    known: ClusterRanges,
}

impl RangeReader {
    /// Reads through `client` what is `wanted`, and always the ranges of `node` itself. Nodes elsewhere are read for their names as well, unless
    /// they are too many.
    pub(super) fn new(client: Client, node: &str, wanted: WantedRanges) -> Self {
        Self { client, node: node.into(), wanted, known: ClusterRanges::default() }
    }

    /// Asks once.
    pub async fn read(&mut self) -> RangesTold {
        let mut missing = Vec::new();
        let mut failed = false;
        let mut nodes = 1;
        let mut heed = |told: Result<(), Missing>| match told {
            Ok(()) => {}
            Err(Missing::Absent) => missing.push("this API server has no nodes".into()),
            Err(Missing::Said(what)) => missing.push(what),
            Err(Missing::Failed(what)) => {
                failed = true;
                missing.push(what);
            }
        };
        let told = self.read_nodes(&mut nodes).await;
        let is_failed = matches!(told, Err(Missing::Failed(_)));
        heed(match told {
            Err(told) if is_failed && self.wanted.cluster => Err(told),
            Err(told) => {
                // Its own it may read nevertheless. Where the range is configured, nothing else is missing for it.
                let own = self.read_own().await;
                if self.wanted.cluster { Err(told) } else { own }
            }
            Ok(()) => Ok(()),
        });
        if self.wanted.service {
            heed(self.read_services().await);
        }
        let again_in =
            if failed || is_failed { AGAIN } else { EVERY.max(EVERY_NODE * u32::try_from(nodes).unwrap_or(u32::MAX)) };
        let missing = (!missing.is_empty()).then(|| missing.join("; "));
        RangesTold { ranges: self.known.clone(), missing, again_in }
    }

    async fn read_own(&mut self) -> Result<(), Missing> {
        match self.get::<WireNode>(&format!("/api/v1/nodes/{}", self.node), "get nodes", "").await {
            Err(Missing::Absent) => Err(self.is_unknown()),
            other => {
                self.known.node_pods = other?.pods();
                Ok(())
            }
        }
    }

    fn is_unknown(&self) -> Missing {
        Missing::Said(format!("the API server knows no node {}: say what it is called with --node-name", self.node))
    }

    async fn read_nodes(&mut self, count: &mut usize) -> Result<(), Missing> {
        const INSTEAD: &str = "; or say what they are with --cluster-cidr";
        let (mut own, mut others, mut pods, mut is_known) = (Vec::new(), Vec::new(), 0, false);
        let mut nodes = Vec::new();
        let mut from = String::new();
        *count = 0;
        loop {
            let path = format!("/api/v1/nodes?limit={PAGE}{from}");
            let page: WireList<WireNode> = self.get(&path, "list nodes", INSTEAD).await?;
            *count += page.items.len();
            let WireListMeta { next, remaining } = page.metadata;
            let all = *count + remaining.unwrap_or(0);
            for node in page.items {
                let ranges = node.pods();
                pods += ranges.len();
                if node.metadata.name == *self.node {
                    is_known = true;
                    own.extend(ranges);
                } else {
                    let addresses: Vec<_> = node.addresses().collect();
                    others.extend(&ranges);
                    others.extend(addresses.iter().copied().map(IpNet::from));
                    nodes.push(NodeRanges { name: node.metadata.name.into(), addresses, pods: ranges });
                }
            }
            let Some(next) = next.filter(|next| !next.is_empty()) else { break };
            if all > MOST_NODES || *count >= MOST_NODES {
                *count = MOST_NODES;
                // Those that were known may be others' by the next time.
                (self.known.nodes, self.known.node_count) = (Arc::default(), Some(all));
                return Err(Missing::Said(format!(
                    "the cluster has more than {MOST_NODES} nodes, whose ranges are not read: say what they are with --cluster-cidr"
                )));
            }
            from = format!("&continue={}", form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>());
        }
        // A thousand neighbouring ranges are one.
        self.known.cluster = if self.wanted.cluster { IpNet::aggregate(&others) } else { Vec::new() };
        self.known.node_pods = own;
        (self.known.nodes, self.known.node_count) = (nodes.into(), Some(*count));
        if !is_known {
            return Err(self.is_unknown());
        }
        if pods == 0 {
            return Err(Missing::Said(
                "no node has a range of pods in its spec, so that pods elsewhere count by their address alone: say what the range is with \
                 --cluster-cidr"
                    .into(),
            ));
        }
        Ok(())
    }

    async fn read_services(&mut self) -> Result<(), Missing> {
        const INSTEAD: &str = "; or say what they are with --service-cidr";
        const PATH: &str = "/apis/networking.k8s.io/v1/servicecidrs";
        let list: WireList<WireServices> = match self.get(PATH, "list servicecidrs", INSTEAD).await {
            Err(Missing::Absent) => {
                return Err(Missing::Said(
                    "this API server does not tell the ranges of services (Kubernetes does from 1.33 on): say what they are with \
                     --service-cidr"
                        .into(),
                ));
            }
            other => other?,
        };
        self.known.service = list.items.iter().flat_map(|item| ranges(&item.spec.cidrs)).collect();
        Ok(())
    }

    async fn get<T: DeserializeOwned + 'static>(&self, path: &str, what: &str, instead: &str) -> Result<T, Missing> {
        let failed = |error: &dyn std::fmt::Display| Missing::Failed(format!("cannot {what}: {error}"));
        let request = Request::get(path).body(Vec::new()).map_err(|error| failed(&error))?;
        let answer = tokio::time::timeout(ANSWER, self.client.request(request)).await;
        answer.map_err(|_| failed(&format!("no whole answer within {} s", ANSWER.as_secs())))?.map_err(|error| {
            match error {
                kube::Error::Api(status) if status.code == 403 => Missing::Said(format!(
                    "the service account may not {what}: grant it, see docs/security.md{instead}"
                )),
                kube::Error::Api(status) if status.code == 404 => Missing::Absent,
                other => failed(&crate::causes::in_one_line(&other)),
            }
        })
    }
}

/// Why something is not known.
enum Missing {
    /// There is no such thing.
    Absent,
    /// It will be so the next time, too.
    Said(String),
    /// It may be known the next time.
    Failed(String),
}

fn ranges(texts: &[String]) -> impl Iterator<Item = IpNet> {
    texts.iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|range| range.trunc())
}

#[derive(Deserialize)]
struct WireList<T> {
    #[serde(default)]
    metadata: WireListMeta,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct WireListMeta {
    #[serde(rename = "continue")]
    next: Option<String>,
    /// How many there are beside these, where the server tells.
    #[serde(rename = "remainingItemCount")]
    remaining: Option<usize>,
}

#[derive(Deserialize)]
struct WireNode {
    metadata: WireMeta,
    #[serde(default)]
    spec: WireNodeSpec,
    #[serde(default)]
    status: WireNodeStatus,
}

#[derive(Deserialize)]
struct WireMeta {
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
struct WireNodeSpec {
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
}

#[derive(Default, Deserialize)]
struct WireNodeStatus {
    #[serde(default)]
    addresses: Vec<WireNodeAddress>,
}

#[derive(Deserialize)]
struct WireNodeAddress {
    #[serde(default)]
    address: String,
}

impl WireNode {
    fn pods(&self) -> Vec<IpNet> {
        ranges(&self.spec.pod_cidrs).collect()
    }

    /// Host names are none.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.status.addresses.iter().filter_map(|entry| entry.address.parse().ok())
    }
}

#[derive(Deserialize)]
struct WireServices {
    #[serde(default)]
    spec: WireServicesSpec,
}

#[derive(Default, Deserialize)]
struct WireServicesSpec {
    #[serde(default)]
    cidrs: Vec<String>,
}
