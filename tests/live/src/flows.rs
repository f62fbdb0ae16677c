//! What the debug listener tells of flows, and of who is at their far ends.

use crate::{
    agent::Agent,
    http,
    machine::patience,
    page::{Counted, Page, Traffic},
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A flow.
#[derive(Clone, Debug)]
pub(crate) struct Flow(Value);

impl Flow {
    pub(crate) fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_default()
    }

    pub(crate) fn rate(&self, field: &str) -> f64 {
        self.0[field].as_f64().unwrap_or_default()
    }

    pub(crate) fn of(&self, field: &str) -> &Value {
        &self.0[field]
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// What it was asked for, of a DNS server.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.of("names").as_array().into_iter().flatten();
        names.filter_map(|name| name["name"].as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let counted = |way: &str| Counted {
            bytes: self.number(&format!("{way}_bytes")),
            packets: self.number(&format!("{way}_packets")),
        };
        Traffic { transmit: counted("transmit"), receive: counted("receive") }
    }
}

/// What an answer holds.
pub(crate) struct Flows {
    pub(crate) all: Vec<Flow>,
    pub(crate) more: u64,
    pub(crate) forgotten: u64,
    pub(crate) interval: f64,
    pub(crate) behind_missing: Option<String>,
    /// Bytes sent and received that open sockets carried, where those cannot be read.
    pub(crate) in_no_flow: Option<[u64; 2]>,
}

impl Flows {
    /// Those that the parameters choose.
    pub(crate) fn ask(agent: &Agent, parameters: &str) -> Result<Self> {
        let answer = http::get(agent.debug_address()?, &format!("/api/v1/flows?{parameters}"))?;
        let json: Value = serde_json::from_str(answer.text()?)?;
        let flows = json["flows"].as_array().with_context(|| format!("no flows: {json}"))?;
        Ok(Self {
            all: flows.iter().cloned().map(Flow).collect(),
            more: json["more"].as_u64().context("no more")?,
            forgotten: json["forgotten"].as_u64().context("no forgotten")?,
            interval: json["interval_seconds"].as_f64().context("no interval")?,
            in_no_flow: json["in_no_flow"].as_object().map(|carried| {
                ["transmit_bytes", "receive_bytes"].map(|way| carried[way].as_u64().unwrap_or_default())
            }),
            behind_missing: json["behind_missing"].as_str().map(str::to_owned),
        })
    }

    /// All of a cgroup, and the page of a moment at which it carries nothing more. What is handed over when a socket closes is told of two
    /// seconds later at most: that is waited for, until the flows add up to what the page says.
    pub(crate) fn at_rest(agent: &Agent, cgroup: &str) -> Result<(Self, Page)> {
        let deadline = Instant::now() + patience(Duration::from_secs(8));
        loop {
            let before = agent.scrape()?.traffic(cgroup)?;
            let flows = Self::ask(agent, &format!("top=10000&entity={}", cgroup.replace('/', "%2F")))?;
            let page = agent.scrape()?;
            let is_still = page.traffic(cgroup)? == before;
            if is_still && (flows.sum() == before || Instant::now() > deadline) {
                return Ok((flows, page));
            }
            ensure!(is_still || Instant::now() < deadline, "{cgroup} does not come to rest");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub(crate) fn sum(&self) -> Traffic {
        self.all.iter().fold(Traffic::default(), |sum, flow| sum + flow.traffic())
    }

    pub(crate) fn total(&self, field: &str) -> u64 {
        self.all.iter().map(|flow| flow.number(field)).sum()
    }

    /// The only one of which that is true.
    pub(crate) fn only(&self, which: impl Fn(&Flow) -> bool) -> Result<&Flow> {
        let mut found = self.all.iter().filter(|flow| which(flow));
        match (found.next(), found.next()) {
            (Some(flow), None) => Ok(flow),
            (None, _) => bail!("no such flow among {:#?}", self.all),
            (Some(first), Some(second)) => bail!("two such flows: {first:?}, {second:?}"),
        }
    }
}

/// Who has an address.
pub(crate) fn whois(agent: &Agent, address: &str) -> Result<Value> {
    let answer = http::get(agent.debug_address()?, &format!("/api/v1/whois?address={address}"))?;
    Ok(serde_json::from_str(answer.text()?)?)
}
