//! What a page tells of DNS.

use crate::{
    agent::Agent,
    machine::{patience, wait_until},
    page::{self, Page},
};
use anyhow::{Context as _, Result};
use std::{collections::BTreeMap, time::Duration};

/// What a page says of a cgroup's DNS.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dns {
    pub(crate) queries: u64,
    pub(crate) responses: BTreeMap<String, u64>,
    pub(crate) timed: u64,
    pub(crate) waited_ns: u64,
    pub(crate) unasked: u64,
    pub(crate) unanswered: u64,
}

impl Dns {
    pub(crate) fn of(page: &Page, cgroup: &str) -> Result<Self> {
        let labels = [("cgroup", cgroup)];
        let one =
            |name: &str| -> Result<u64> { page.samples(name, &labels)?.first().map_or(Ok(0), page::Sample::integer) };
        let responses = page.samples("observer_dns_responses_total", &labels)?;
        let responses = responses.iter().map(|sample| Ok((sample.label("rcode").to_owned(), sample.integer()?)));
        let sum = page.samples("observer_dns_response_seconds_sum", &labels)?;
        Ok(Self {
            queries: one("observer_dns_queries_total")?,
            responses: responses.collect::<Result<_>>()?,
            timed: one("observer_dns_response_seconds_count")?,
            waited_ns: sum.first().map_or(Ok(0), page::Sample::nanoseconds)?,
            unasked: one("observer_dns_unasked_responses_total")?,
            unanswered: one("observer_dns_unanswered_total")?,
        })
    }

    pub(crate) fn answered(&self) -> u64 {
        self.responses.values().sum()
    }

    /// Once so many questions and answers are there: the tables they are in rest for a second, and are asked for once a second.
    pub(crate) fn after(agent: &Agent, cgroup: &str, queries: u64, answers: u64) -> Result<(Self, Page)> {
        let mut last = None;
        wait_until(patience(Duration::from_secs(8)), || {
            let page = agent.scrape()?;
            let dns = Self::of(&page, cgroup)?;
            let is_there = dns.queries >= queries && dns.answered() >= answers;
            last = Some((dns, page));
            Ok(is_there)
        })?;
        last.context("no page")
    }
}
