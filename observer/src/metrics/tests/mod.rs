//! Tests of the whole page, read by parsers that are not ours: `nom-openmetrics`, because it undoes the escapes
//! (`prometheus-parse` splits label sets at every comma and brace, inside of quotes too), and Prometheus' own `promtool`.

mod allocation;
mod books;
mod page;
mod promtool;
mod round_trip;
