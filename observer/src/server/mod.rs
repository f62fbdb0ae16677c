//! The metrics listener.
//!
//! | route | answer |
//! |---|---|
//! | `/metrics` | the page; concurrent requests share one rendering; gzip when asked |
//! | `/healthz` | 200 while the agent runs |
//! | `/readyz` | 200 when it is ready, else 503 with what is missing |
//! | `/` | these routes |
//!
//! GET and HEAD only. The listener may be reached by anybody, so nothing a client does takes more than [`Limits`] says:
//! not a connection that never sends its request, nor one that never reads its response.

mod bind;
mod connection;
mod connections;
mod encoding;
mod flight;
mod limits;
mod listen;
mod routes;
mod source;
mod stream;
#[cfg(test)]
mod tests;

pub use bind::{BindError, bind};
pub use limits::Limits;
pub use listen::{serve, serve_within};
pub use source::Source;
