//! `observer metrics-docs`: the text of docs/metrics.md, for the build.

use std::process::ExitCode;

pub(super) fn main() -> ExitCode {
    super::print(&crate::metrics::docs())
}
