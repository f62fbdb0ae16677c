//! The columns of the table: what each tells, and which there is room for.

use super::figures::{bytes, rate, tasks};
use crate::server::EntityRow;

/// By what the table is sorted, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Shares of load1.
    #[default]
    Load,
    /// Bytes sent.
    Bytes,
    /// Waits for a CPU.
    Wait,
    /// Memory.
    Memory,
}

impl Sort {
    /// What a row is sorted by.
    pub(super) fn key(self, row: &EntityRow) -> f64 {
        match self {
            Self::Load => row.now.load.load1,
            Self::Bytes => row.now.transmit_bytes_per_second,
            Self::Wait => row.now.wait_seconds_per_second,
            Self::Memory => row.memory_working_set_bytes.map_or(-1.0, |bytes| bytes as f64),
        }
    }
}

/// A column beside the name.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) width: u16,
    /// What is sorted by it.
    pub(super) sort: Option<Sort>,
    /// Those with the highest go first where there is little room.
    rank: u8,
    pub(super) cell: fn(&EntityRow) -> String,
}

/// All of them, from left to right.
pub(super) static COLUMNS: [Column; 8] = [
    Column { name: "LOAD1", width: 7, sort: Some(Sort::Load), rank: 0, cell: |row| tasks(row.now.load.load1) },
    Column { name: "TASKS", width: 7, sort: None, rank: 5, cell: |row| tasks(row.now.active_tasks) },
    Column {
        name: "WAIT/S",
        width: 7,
        sort: Some(Sort::Wait),
        rank: 2,
        cell: |row| tasks(row.now.wait_seconds_per_second),
    },
    Column {
        name: "SENDS",
        width: 10,
        sort: Some(Sort::Bytes),
        rank: 1,
        cell: |row| rate(row.now.transmit_bytes_per_second),
    },
    Column { name: "PEAK", width: 10, sort: None, rank: 3, cell: |row| rate(row.now.transmit_peak_bytes_per_second) },
    Column { name: "RECEIVES", width: 10, sort: None, rank: 6, cell: |row| rate(row.now.receive_bytes_per_second) },
    Column {
        name: "MEMORY",
        width: 9,
        sort: Some(Sort::Memory),
        rank: 4,
        cell: |row| row.memory_working_set_bytes.map_or_else(|| "-".into(), |memory| bytes(memory as f64)),
    },
    Column { name: "TO", width: 9, sort: None, rank: 7, cell: main_scope },
];

/// The scope that most of what it sent went to.
fn main_scope(row: &EntityRow) -> String {
    let most = row.transmit_bytes.iter().max_by_key(|(_, bytes)| **bytes);
    most.map_or_else(|| "-".into(), |(scope, _)| scope.clone())
}

/// The least that a name needs.
const NAME: u16 = 24;

/// The columns that there is room for beside the names.
pub(super) fn fitting(width: u16, sort: Sort) -> Vec<&'static Column> {
    let mut shown: Vec<&Column> = COLUMNS.iter().collect();
    // The one that is sorted by stays.
    let is_kept = |column: &&Column| column.sort == Some(sort);
    while NAME + shown.iter().map(|column| column.width + 1).sum::<u16>() > width {
        let last =
            shown.iter().enumerate().filter(|(_, column)| !is_kept(column)).max_by_key(|(_, column)| column.rank);
        let Some((at, _)) = last else { break };
        shown.remove(at);
    }
    shown
}
