//! What the agent remembers by itself, and whether it can.

use crate::{
    ledger::HistoryFacts,
    metrics::family::{Family, Kind, Room, Series, Unit, Value},
};

/// A row of what is counted of the history.
const fn count(
    name: &'static str,
    unit: Unit,
    kind: Kind,
    series: fn(&HistoryFacts) -> Option<Value>,
    help: &'static str,
) -> Family {
    Family { name, kind, unit, room: Room::History, series: Series::History(series), help }
}

pub(super) static FAMILIES: &[Family] = &[
    Family {
        name: "observer_history_up",
        kind: Kind::Gauge,
        unit: Unit::Truth,
        room: Room::History,
        series: Series::HistoryUp,
        help: "1 if rows are kept where they ought to be: `disk` with --state-dir, else `memory`; 0 with the reason if not: they \
               wait in memory, as many as there is room for.",
    },
    count(
        "observer_history_lost_rows_total",
        Unit::Count,
        Kind::Counter,
        |history| history.on_disk.then_some(Value::Count(history.lost_rows)),
        "Rows (a workload in a second, minute or hour) that were dropped before they could be written, since the disk was full or \
         stuck for too long.",
    ),
    count(
        "observer_history_shared_rows_total",
        Unit::Count,
        Kind::Counter,
        |history| Some(Value::Count(history.shared_rows)),
        "Rows of a second that went into the sum `other`, since more workloads were there than have rows of their own.",
    ),
    count(
        "observer_history_forgotten_workloads_total",
        Unit::Count,
        Kind::Counter,
        |history| Some(Value::Count(history.forgotten_workloads)),
        "Workloads that were forgotten with their rows, since new ones needed their places; those that were gone for the longest.",
    ),
    count(
        "observer_history_workloads",
        Unit::Count,
        Kind::Gauge,
        |history| Some(Value::Count(history.workloads)),
        "Workloads of which there may be rows.",
    ),
    count(
        "observer_history_waiting_bytes",
        Unit::Bytes,
        Kind::Gauge,
        |history| Some(Value::Count(history.waiting_bytes)),
        "Rows in memory: on their way to the disk, or all there are without --state-dir; at most half a megabyte.",
    ),
    count(
        "observer_history_file_bytes",
        Unit::Bytes,
        Kind::Gauge,
        |history| history.on_disk.then_some(Value::Count(history.file_bytes)),
        "What the history's file takes of the disk.",
    ),
    count(
        "observer_history_written_bytes_total",
        Unit::Bytes,
        Kind::Counter,
        |history| history.on_disk.then_some(Value::Count(history.written_bytes)),
        "Bytes written to the history's file.",
    ),
    count(
        "observer_history_write_failures_total",
        Unit::Count,
        Kind::Counter,
        |history| history.on_disk.then_some(Value::Count(history.write_failures)),
        "Writes to the history's file that failed and were tried again; the agent's log says why.",
    ),
    count(
        "observer_history_files_moved_aside_total",
        Unit::Count,
        Kind::Counter,
        |history| history.on_disk.then_some(Value::Count(history.files_moved_aside)),
        "Files in --state-dir that were damaged or somebody else's: they are still there, and the history began anew.",
    ),
];
