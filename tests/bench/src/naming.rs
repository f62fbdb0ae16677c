//! Who names the pods of a measurement: their cgroups' paths, or an API server.

use crate::{agent::Agent, api_pods, api_server::ApiServer, run::Run, scrape, tenants::Tenants};
use anyhow::{Result, bail};
use std::{
    ops::Deref,
    thread,
    time::{Duration, Instant},
};

/// The one series that each named pod has.
const FAMILY: &str = "observer_pod_info";
/// How long it may take until all are named.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where names come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Pods go by their cgroups.
    Paths,
    /// Pods go by what an API server of the benchmark's own calls them.
    Api,
}

impl Naming {
    /// Both, in the order of the rows.
    pub(crate) const ALL: [Self; 2] = [Self::Paths, Self::Api];

    /// What follows the number of pods in a row.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Paths => "",
            Self::Api => " named by an API server",
        }
    }
}

/// An agent on a node full of pods. Dropping it ends all of it.
#[derive(Debug)]
pub(crate) struct Node {
    agent: Agent,
    /// Present where pods are named by it.
    pub(crate) api: Option<ApiServer>,
    _tenants: Tenants,
}

impl Node {
    /// Starts an agent in `home` and `pods` pods of one container each; returns when each has talked, and has its name.
    pub(crate) fn start(run: &Run, home: &std::path::Path, pods: u32, naming: Naming) -> Result<Self> {
        let list: Vec<_> = (0..pods).map(|number| api_pods::pod(number, 0)).collect();
        let api = (naming == Naming::Api).then(|| ApiServer::start(&list)).transpose()?;
        let agent = Agent::start_ready(&run.observer, home, api.as_ref())?;
        let tenants = Tenants::start(&run.arena, pods)?;
        if api.is_some() {
            wait_for_names(&agent, pods)?;
        }
        Ok(Self { agent, api, _tenants: tenants })
    }

    /// Ends the agent, and tells if it did not end well.
    pub(crate) fn stop(self) -> Result<()> {
        self.agent.stop()
    }
}

impl Deref for Node {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        &self.agent
    }
}

/// Returns when a page tells of as many pods.
pub(crate) fn wait_for_names(agent: &Agent, pods: u32) -> Result<()> {
    let (mut client, deadline) = (agent.client()?, Instant::now() + PATIENCE);
    loop {
        let named = scrape::series(&client.get("/metrics", false)?.body, FAMILY);
        if named == pods as usize {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{named} of {pods} pods are named after {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}
