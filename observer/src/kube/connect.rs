//! How the API server is reached: a kubeconfig that was named, the service account of the pod, or not at all.

use super::{Owners, Patience, Peers, PodWatch, Pulse, RangeReader, WantedRanges, parting, pulse::PulseLayer};
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tower::util::MapRequestLayer;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// What is needed to reach the server. Files are read when it is made, while the agent may still read them.
#[derive(Clone, Debug)]
pub struct Access {
    config: Config,
}

/// Why the server that was named cannot be reached in principle.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig is not there or not right.
    #[error("cannot use the kubeconfig {path}: {reason}; name another with --kubeconfig, or leave it out to do without names", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is a service account, but something about it is wrong.
    #[error(
        "cannot use the pod's service account: {0}; mount its token (automountServiceAccountToken), or name a --kubeconfig"
    )]
    ServiceAccount(String),
    /// Certificates or keys are not usable.
    #[error("cannot prepare the connection to the API server: {0}")]
    Client(String),
}

impl Access {
    /// Through `kubeconfig`, or else the service account of the pod that this process is in, if it is in one. `None`: there is
    /// no API server, and cgroups go by their paths.
    ///
    /// # Errors
    /// [`AccessError`]: something was named or is there, and cannot be used.
    pub async fn find(kubeconfig: Option<&Path>) -> Result<Option<Self>, AccessError> {
        let mut config = match kubeconfig {
            Some(path) => Self::by_kubeconfig(path).await?,
            None if Path::new(SERVICE_ACCOUNT).exists() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
                Config::incluster_env().map_err(|error| AccessError::ServiceAccount(error.to_string()))?
            }
            None => return Ok(None),
        };
        config.connect_timeout = Some(CONNECT);
        // The watch has its own patience.
        config.default_retry = false;
        Ok(Some(Self { config }))
    }

    async fn by_kubeconfig(path: &Path) -> Result<Config, AccessError> {
        let wrong = |reason: String| AccessError::Kubeconfig { path: path.to_owned(), reason };
        let file = Kubeconfig::read_from(path).map_err(|error| wrong(error.to_string()))?;
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|error| wrong(error.to_string()))
    }

    /// The server's address.
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// A client, and what follows with it. Connects to nobody yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AccessError::Client`].
    pub fn connect(self, node: &str, wanted: WantedRanges, patience: Patience) -> Result<Connection, AccessError> {
        let pulse = Pulse::new(patience);
        let builder = ClientBuilder::try_from(self.config).map_err(|error| AccessError::Client(error.to_string()))?;
        let builder = builder.with_layer(&MapRequestLayer::new(parting::after_list));
        let client: Client = builder.with_layer(&PulseLayer(pulse.clone())).build();
        Ok(Connection {
            watch: PodWatch::new(client.clone(), node, pulse.clone()),
            ranges: RangeReader::new(client.clone(), node, wanted),
            peers: Peers::new(client.clone()),
            owners: Owners::new(client),
            pulse,
        })
    }
}

/// What tells of pods.
pub struct Connection {
    /// The pods of this node.
    pub watch: PodWatch,
    /// Their owners.
    pub owners: Owners,
    /// The cluster's addresses.
    pub ranges: RangeReader,
    /// Who has one of them.
    pub peers: Peers,
    /// Whether the server answers.
    pub pulse: Pulse,
}
