//! The two listeners: metrics for anybody, and the API for this node alone.
//!
//! | route | answer |
//! |---|---|
//! | `/metrics` | the page; concurrent requests share one rendering; gzip when asked |
//! | `/healthz` | 200 while the agent runs |
//! | `/readyz` | 200 when it is ready, else 503 with what is missing |
//! | `/` | these routes |
//!
//! The debug listener, on loopback:
//!
//! | route | answer |
//! |---|---|
//! | `/api/v1/snapshot` | the books as they are |
//! | `/api/v1/events` | the same each second, as server-sent events |
//! | `/api/v1/history` | rows of a workload or the node |
//! | `/api/v1/history/workloads` | those of whom there are rows |
//! | `/api/v1/growth` | whose days are larger than those before them |
//! | `/api/v1/flows` | where bytes go and come from |
//! | `/api/v1/whois` | who has, or had, an address |
//! | `/api/v1/pairs` | who waits for a CPU that whom has |
//! | `/api/v1/programs` | what the kernel's programs cost |
//! | `/api/v1/openapi.json` | the API's description |
//! | `/api/v1` | these routes |
//! | `/` | the web page |
//!
//! GET and HEAD only. The listener may be reached by anybody, so nothing a client does takes more than [`Limits`] says:
//! not a connection that never sends its request, nor one that never reads its response.

mod answers;
mod api;
mod behind;
mod bind;
mod connection;
mod connections;
mod encoding;
mod events;
mod far_end;
mod flight;
mod flow_row;
mod flows;
mod flows_query;
mod host;
mod limits;
mod listen;
mod page;
mod pairs;
mod parameter;
mod programs;
mod routes;
mod snapshot;
mod snapshot_query;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod who;
mod whois;

pub use behind::{BehindRow, SpokenTo};
pub use bind::{BindError, bind};
pub use far_end::FarEnd;
pub use flow_row::{FlowRow, NameRow, TcpRow};
pub use flows::{Carried, FlowsAnswer, FlowsSource, MissingProgram};
pub use flows_query::FlowsQuery;
pub use limits::Limits;
pub use listen::{serve, serve_api, serve_within};
pub use pairs::{Pair, PairsAnswer, PairsQuery};
pub use programs::{AgentCost, ProgramRow, ProgramsAnswer};
pub use snapshot::{Averages, Doings, EntityRow, SnapshotAnswer};
pub use snapshot_query::{Order, SnapshotQuery};
pub use source::{ApiSource, Source};
pub use who::Who;
pub use whois::{LookedUpRow, WhoisAnswer, WhoisQuery, WhoisSource, address_of, moment_of};
