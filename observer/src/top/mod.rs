//! `observer top`: the node in a terminal, from the API of the debug listener and nothing else.
//!
//! [`View`] is what is shown and how keys change it, without a terminal and without a clock; [`draw()`] puts it on a screen; [`run`]
//! brings the two to a terminal, and asks the agent beside them.

mod batch;
mod columns;
mod detail;
mod draw;
pub(crate) mod far_end;
mod feed;
pub(crate) mod figures;
mod merge;
mod screen;
#[cfg(test)]
mod tests;
mod view;
mod wrap;

pub use batch::table;
pub use columns::Sort;
pub use draw::draw;
pub use feed::{Feed, News, Source};
pub use merge::merged;
pub use screen::{Ended, end_by_signal, run};
pub use view::{Act, View};
