//! Questions and answers, as /api/v1 has them: the listener writes what the command line reads.

use super::{Block, History, NODE, OTHER, Selection, SeriesId, Statistic, Step, blocks::Blocks, fold::Merged};
use crate::ledger::WorkloadKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Of whom.
    pub subject: Subject,
    /// What of it.
    pub selection: Selection,
    /// How many seconds back.
    pub since_seconds: u64,
    /// In which resolution; the finest that reaches back so far, if nothing is said.
    pub step: Option<Step>,
}

/// Whose history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The node's.
    Node,
    /// That of the workloads beyond the places.
    Other,
    /// A workload's.
    Workload {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its kind, where two of the same name are to be told apart.
        kind: Option<String>,
    },
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What went wrong, for programs: `wrong_query`, `unknown_workload`, `ambiguous_workload`, `unavailable`, `not_found`.
    pub kind: String,
    /// The same for people, with what would be right.
    pub message: String,
}

/// The rows asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryAnswer {
    /// The node.
    pub node: String,
    /// `node`, `other` for the workloads beyond the places, or `workload`.
    pub of: String,
    /// The workload, if it is that of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<KnownWorkload>,
    /// For instance `egress_peak`.
    pub metric: String,
    /// `bytes_per_second`, `tasks` or `bytes`.
    pub unit: String,
    /// How much time a row is of.
    pub step_seconds: u64,
    /// The range asked for.
    pub since_unix_seconds: u64,
    /// When it was asked.
    pub until_unix_seconds: u64,
    /// `disk` or `memory`.
    pub kept_in: String,
    /// By rising time. What is not known has no row.
    pub rows: Vec<HistoryRow>,
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// When it begins.
    pub time_unix_seconds: u64,
    /// How long the agent watched in it: less than the step where it was not running, or the period is not over.
    pub covered_seconds: f64,
    /// The value.
    pub value: f64,
}

/// Who is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadsAnswer {
    /// The node.
    pub node: String,
    /// By namespace and name.
    pub workloads: Vec<KnownWorkload>,
}

/// A workload with rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KnownWorkload {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub workload: String,
    /// Its kind.
    pub workload_type: String,
    /// When it was last on the node.
    pub last_seen_unix_seconds: u64,
}

impl ApiError {
    /// An error of a kind.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into() }
    }
}

/// A whole number with a unit: `90s`, `30m`, `24h`, `30d`.
///
/// # Errors
/// With what would be right.
pub fn duration_of(text: &str) -> Result<u64, String> {
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
    let unit = match text.as_bytes().last() {
        Some(b's') => Some(1),
        Some(b'm') => Some(60),
        Some(b'h') => Some(3600),
        Some(b'd') => Some(24 * 3600),
        _ => None,
    };
    let seconds = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit)).filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| {
        format!("{text:?} is no span; wanted: a whole number from 1 on with s, m, h or d, such as 90s, 24h or 30d")
    })
}

/// The same the other way round, in the largest unit that has it whole.
pub fn span(seconds: u64) -> String {
    let units = [(24 * 3600, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let unit = units.iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or(&(1, 's'));
    format!("{}{}", seconds / unit.0, unit.1)
}

impl HistoryQuery {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// `wrong_query`, with what would be right.
    pub fn of_parameters(parameters: impl Iterator<Item = (String, String)>) -> Result<Self, ApiError> {
        let wrong = |message: String| ApiError::new("wrong_query", message);
        let (mut subject, mut kind, mut selection, mut since, mut step) = (None, None, None, None, None);
        for (name, value) in parameters {
            match name.as_str() {
                "workload" => subject = Some(value.parse().map_err(wrong)?),
                "workload_type" => kind = Some(value),
                "metric" => selection = Some(value.parse().map_err(wrong)?),
                "since" => since = Some(duration_of(&value).map_err(wrong)?),
                "step" => step = Some(value.parse().map_err(wrong)?),
                _ => {
                    let known = "workload, workload_type, metric, since and step";
                    return Err(wrong(format!("{name:?} is no parameter; the parameters are {known}")));
                }
            }
        }
        let missing = |what: &str| {
            wrong(format!(
                "{what} is missing; ask for instance ?workload=NAMESPACE/NAME&metric=egress_peak&since=30d, or workload=node"
            ))
        };
        let mut subject = subject.ok_or_else(|| missing("workload"))?;
        match (&mut subject, kind) {
            (Subject::Workload { kind: of, .. }, kind) => *of = kind,
            (_, None) => {}
            (_, Some(kind)) => return Err(wrong(format!("workload_type={kind} belongs to a workload=NAMESPACE/NAME"))),
        }
        Ok(Self {
            subject,
            selection: selection.ok_or_else(|| missing("metric"))?,
            since_seconds: since.ok_or_else(|| missing("since"))?,
            step,
        })
    }
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once('/')) {
            ("node", _) => Ok(Self::Node),
            ("other", _) => Ok(Self::Other),
            (_, Some((namespace, name))) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::Workload { namespace: namespace.into(), name: name.into(), kind: None })
            }
            _ => Err(format!(
                "{text:?} is no workload; wanted: NAMESPACE/NAME, node, or other for those without a place of their own"
            )),
        }
    }
}

/// Everything that an answer needs, gathered at once; reading the disk then keeps nobody waiting.
#[derive(Debug)]
pub struct Gather {
    blocks: Blocks,
    series: SeriesId,
    selection: Selection,
    answer: HistoryAnswer,
}

impl History {
    /// Gathers what an answer needs; `now` is the wall clock's second.
    ///
    /// # Errors
    /// When there is no such workload, or several.
    pub fn gather(&self, query: &HistoryQuery, node: &str, now: u64) -> Result<Gather, ApiError> {
        let (series, workload) = self.series_of(&query.subject)?;
        let step = query.step.unwrap_or_else(|| Step::covering(query.since_seconds));
        let selection = query.selection;
        let answer = HistoryAnswer {
            node: node.into(),
            of: match &query.subject {
                Subject::Node => "node",
                Subject::Other => "other",
                Subject::Workload { .. } => "workload",
            }
            .into(),
            workload,
            metric: selection.to_string(),
            unit: selection.metric.unit().into(),
            step_seconds: step.seconds(),
            since_unix_seconds: now.saturating_sub(query.since_seconds),
            until_unix_seconds: now,
            kept_in: self.kept_in().into(),
            rows: Vec::new(),
        };
        Ok(Gather { blocks: self.blocks(step), series, selection, answer })
    }

    /// `disk` or `memory`.
    pub(super) fn kept_in(&self) -> &'static str {
        if self.is_on_disk() { "disk" } else { "memory" }
    }

    /// Everybody of whom there may be rows, by number.
    pub(super) fn known_by_id(&self) -> BTreeMap<SeriesId, KnownWorkload> {
        self.registry.iter().map(|(key, known)| (known.id, told(key, known.seen))).collect()
    }

    /// Everybody of whom there may be rows.
    pub fn known_workloads(&self, node: &str) -> WorkloadsAnswer {
        let mut workloads: Vec<_> = self.registry.iter().map(|(key, known)| told(key, known.seen)).collect();
        workloads.sort();
        WorkloadsAnswer { node: node.into(), workloads }
    }

    fn series_of(&self, subject: &Subject) -> Result<(SeriesId, Option<KnownWorkload>), ApiError> {
        let Subject::Workload { namespace, name, kind } = subject else {
            return Ok((if *subject == Subject::Node { NODE } else { OTHER }, None));
        };
        let mut found = self.registry.iter().filter(|(key, _)| {
            *key.namespace == **namespace
                && *key.workload.name == **name
                && kind.as_ref().is_none_or(|kind| *key.workload.kind == **kind)
        });
        let of_kind = kind.as_ref().map_or(String::new(), |kind| format!("{kind} "));
        let Some((key, known)) = found.next() else {
            let message = format!(
                "no {of_kind}{namespace}/{name} is remembered on this node; /api/v1/history/workloads lists who is"
            );
            return Err(ApiError::new("unknown_workload", message));
        };
        let others: Vec<_> = found.map(|(key, _)| &*key.workload.kind).collect();
        if !others.is_empty() {
            let kinds = std::iter::once(&*key.workload.kind).chain(others).collect::<Vec<_>>().join(", ");
            let message = format!("{namespace}/{name} is several: add workload_type, one of {kinds}");
            return Err(ApiError::new("ambiguous_workload", message));
        }
        Ok((known.id, Some(told(key, known.seen))))
    }
}

fn told(WorkloadKey { namespace, workload }: &WorkloadKey, seen: u64) -> KnownWorkload {
    KnownWorkload {
        namespace: namespace.to_string(),
        workload: workload.name.to_string(),
        workload_type: workload.kind.to_string(),
        last_seen_unix_seconds: seen,
    }
}

impl Gather {
    /// Reads the disk and answers. May take as long as the disk does.
    ///
    /// # Errors
    /// `unavailable`, when the disk fails.
    pub fn answer(self) -> Result<HistoryAnswer, ApiError> {
        let Self { blocks, series, selection, mut answer } = self;
        let range = answer.since_unix_seconds..=answer.until_unix_seconds;
        let mut rows = BTreeMap::<u64, Merged>::new();
        blocks.each(|bytes| {
            // A damaged block has no row: the database's checksums have been there before.
            if let Ok(Some((time, covered_ms, row))) = Block::find(bytes, series)
                && range.contains(&time)
            {
                rows.entry(time).or_default().add(covered_ms, &row);
            }
        })?;
        answer.rows = rows.into_iter().filter_map(|(time, merged)| row_of(time, &merged, selection)).collect();
        Ok(answer)
    }
}

fn row_of(time: u64, merged: &Merged, selection: Selection) -> Option<HistoryRow> {
    let (row, covered_ms) = merged.row();
    let cell = row[selection.metric as usize]?;
    let value = match selection.statistic {
        Statistic::Mean => cell.mean,
        Statistic::Peak => cell.peak,
    };
    Some(HistoryRow { time_unix_seconds: time, covered_seconds: covered_ms as f64 / 1000.0, value: value.into() })
}
