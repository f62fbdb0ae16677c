//! What the server asks the agent for.

use super::{
    FlowsAnswer, FlowsQuery, PairsAnswer, PairsQuery, ProgramsAnswer, SnapshotAnswer, SnapshotQuery, WhoisAnswer,
    WhoisQuery,
};
use crate::history::{ApiError, GrowthAnswer, GrowthQuery, HistoryAnswer, HistoryQuery, WorkloadsAnswer};
use bytes::Bytes;
use std::future::Future;
use tokio::sync::watch;

/// Where pages come from and whether the agent is ready. The server never asks for two pages at the same time.
pub trait Source: Send + Sync + 'static {
    /// Reads the counters afresh and renders the page of /metrics, or says why it cannot be had (a 503's text).
    fn metrics(&self) -> impl Future<Output = Result<Bytes, String>> + Send;

    /// Whether the programs are attached and the first sample is booked; else what is missing (a 503's text).
    ///
    /// # Errors
    /// What is missing.
    fn ready(&self) -> Result<(), String>;
}

/// What the debug listener asks the agent for: a function for each route of [`api`](super::api).
pub trait ApiSource: Send + Sync + 'static {
    /// Who does what now: `/api/v1/snapshot` and `/api/v1/events`.
    ///
    /// # Errors
    /// When the books cannot be read.
    fn snapshot(&self, query: SnapshotQuery) -> Result<SnapshotAnswer, ApiError>;

    /// The rows of `/api/v1/history`.
    fn history(&self, query: HistoryQuery) -> impl Future<Output = Result<HistoryAnswer, ApiError>> + Send;

    /// Those of whom there are rows: `/api/v1/history/workloads`.
    fn history_workloads(&self) -> impl Future<Output = Result<WorkloadsAnswer, ApiError>> + Send;

    /// How much everybody grows: `/api/v1/growth`.
    fn growth(&self, query: GrowthQuery) -> impl Future<Output = Result<GrowthAnswer, ApiError>> + Send;

    /// Where bytes go and come from: `/api/v1/flows`.
    fn flows(&self, query: FlowsQuery) -> impl Future<Output = Result<FlowsAnswer, ApiError>> + Send;

    /// Who has an address: `/api/v1/whois`.
    fn whois(&self, query: WhoisQuery) -> impl Future<Output = WhoisAnswer> + Send;

    /// Who waits for whom: `/api/v1/pairs`.
    fn pairs(&self, query: PairsQuery) -> PairsAnswer;

    /// Changes with each window that ends, and is gone with the agent.
    fn windows(&self) -> watch::Receiver<()>;

    /// The kernel programs: `/api/v1/programs`.
    ///
    /// # Errors
    /// When the agent's own process cannot be read.
    fn programs(&self) -> Result<ProgramsAnswer, ApiError>;
}
