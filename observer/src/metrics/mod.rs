//! The exposition: the catalogue of families, and the encoder that renders a snapshot of the books.
//!
//! ```text
//! catalogue (one row per family) ──> encoder: Snapshot -> page ──> /metrics
//!                                └─> docs:    docs/metrics.md
//! ```
//! What is booked to whom is the ledger's business, how a page travels the server's.

mod catalogue;
mod docs;
mod encoder;
mod family;
mod fixed_labels;
mod histogram;
mod label;
mod label_sets;
mod number;
mod page;
mod samples;
mod series_count;
#[cfg(test)]
mod tests;

pub use catalogue::families;
pub use docs::docs;
pub use encoder::Encoder;
pub use family::{CONTAINER_LABELS, ENTITY, Family, Kind, Room, Series, Unit, Value};
pub use label::MAX_VALUE_BYTES;
pub use label_sets::{OTHER, UNATTRIBUTED};
pub use samples::{REVISION, UNKNOWN, VERSION};
pub use series_count::{MOST_SERIES, series_of};
