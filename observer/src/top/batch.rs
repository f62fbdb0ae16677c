//! The same without a terminal: a table of text.

use super::{
    Sort, View,
    columns::COLUMNS,
    figures::{rate, tasks},
};
use crate::server::SnapshotAnswer;
use std::fmt::Write as _;

/// One answer as a table, with whoever does the most at the top.
pub fn table(answer: &SnapshotAnswer, sort: Sort, most: usize) -> String {
    let load = answer.load.map_or_else(
        || "not known".to_owned(),
        |load| format!("{} {} {}", tasks(load.load1), tasks(load.load5), tasks(load.load15)),
    );
    let nobodys = answer.load1_unattributed.map(|rest| format!(" ({} nobody's)", tasks(rest))).unwrap_or_default();
    let mut text = format!(
        "{}  load {load}{nobodys}, sends {} ({} in a second at most), receives {}\n",
        answer.node,
        rate(answer.all.transmit_bytes_per_second),
        rate(answer.all.transmit_peak_bytes_per_second),
        rate(answer.all.receive_bytes_per_second)
    );
    let mut view = View::new(sort, true);
    view.take(Ok((answer.clone(), None)));
    let rows = view.rows();
    let width = rows.iter().take(most).map(|row| row.entity.to_string().chars().count()).max().unwrap_or(0).max(3);
    let _ = write!(text, "{:<width$}", "WHO");
    for column in &COLUMNS {
        let _ = write!(text, " {:>width$}", column.name, width = usize::from(column.width));
    }
    text.push('\n');
    for row in rows.iter().take(most) {
        let _ = write!(text, "{:<width$}", row.entity.to_string());
        for column in &COLUMNS {
            let _ = write!(text, " {:>width$}", (column.cell)(row), width = usize::from(column.width));
        }
        text.push('\n');
    }
    text
}
