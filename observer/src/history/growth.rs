//! How much everybody grows, as /api/v1/growth tells it: each day's mean and peak, and the trend through the days.

use super::{
    ApiError, Block, History, KnownWorkload, Metric, NODE, OTHER, SeriesId, Step, Trend,
    blocks::Blocks,
    duration_of,
    trend::{DAY, LEAST_COVERED},
};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap};

/// As many workloads as are told where nobody says how many.
const DEFAULT_TOP: usize = 100;
const MOST: usize = 10_000;
/// As far back as rows of an hour are kept.
const DEFAULT_SINCE: u64 = 30 * DAY;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowthQuery {
    /// Of what.
    pub metric: Metric,
    /// How many seconds back.
    pub since_seconds: u64,
    /// How many workloads are told.
    pub top: usize,
}

/// Everybody's growth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthAnswer {
    /// The node.
    pub node: String,
    /// For instance `egress`.
    pub metric: String,
    /// `bytes_per_second`, `tasks` or `bytes`.
    pub unit: String,
    /// The range asked for.
    pub since_unix_seconds: u64,
    /// When it was asked.
    pub until_unix_seconds: u64,
    /// `disk` or `memory`.
    pub kept_in: String,
    /// That of the whole node.
    pub all: Growth,
    /// Those first whose peak grows by the most a day.
    pub workloads: Vec<WorkloadGrowth>,
    /// Workloads beyond `top`.
    pub more: usize,
}

/// A workload's growth; without a workload, that of those that have no place of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadGrowth {
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<KnownWorkload>,
    /// How much.
    #[serde(flatten)]
    pub growth: Growth,
}

/// A growth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// What the mean grows by each day, as a share: 0.03 is 3 %. `None` for fewer than three days of which half is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_growth_per_day: Option<f64>,
    /// The same of the peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_growth_per_day: Option<f64>,
    /// The days of which something is known, the oldest first.
    pub days: Vec<GrowthDay>,
}

/// A day: 24 hours counted back from when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthDay {
    /// When it begins.
    pub time_unix_seconds: u64,
    /// How much of it is known.
    pub covered_seconds: f64,
    /// The mean over what is known.
    pub mean: f64,
    /// The largest window.
    pub peak: f64,
}

impl GrowthQuery {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// `wrong_query`, with what would be right.
    pub fn of_parameters(parameters: impl Iterator<Item = (String, String)>) -> Result<Self, ApiError> {
        let wrong = |message: String| ApiError::new("wrong_query", message);
        let mut query = Self { metric: Metric::Egress, since_seconds: DEFAULT_SINCE, top: DEFAULT_TOP };
        for (name, value) in parameters {
            match name.as_str() {
                "metric" => query.metric = value.parse().map_err(wrong)?,
                "since" => query.since_seconds = duration_of(&value).map_err(wrong)?,
                "top" => {
                    let number = value.parse().ok().filter(|top| (1..=MOST).contains(top));
                    query.top = number.ok_or_else(|| wrong(format!("top={value} is not one of 1 to {MOST}")))?;
                }
                _ => return Err(wrong(format!("{name:?} is no parameter; the parameters are metric, since and top"))),
            }
        }
        Ok(query)
    }
}

/// What a day had, so far.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    covered_ms: u64,
    weighted: f64,
    peak: f64,
}

/// Everything that an answer needs, gathered at once.
#[derive(Debug)]
pub struct GrowthGather {
    blocks: Blocks,
    metric: Metric,
    top: usize,
    known: BTreeMap<SeriesId, KnownWorkload>,
    answer: GrowthAnswer,
}

impl History {
    /// Gathers what an answer needs; `now` is the wall clock's second.
    pub fn gather_growth(&self, query: GrowthQuery, node: &str, now: u64) -> GrowthGather {
        let answer = GrowthAnswer {
            node: node.into(),
            metric: query.metric.word().into(),
            unit: query.metric.unit().into(),
            since_unix_seconds: now.saturating_sub(query.since_seconds),
            until_unix_seconds: now,
            kept_in: self.kept_in().into(),
            all: Growth::default(),
            workloads: Vec::new(),
            more: 0,
        };
        let (blocks, known) = (self.blocks(Step::Hour), self.known_by_id());
        GrowthGather { blocks, metric: query.metric, top: query.top, known, answer }
    }
}

impl GrowthGather {
    /// Reads the disk and answers. May take as long as the disk does.
    ///
    /// # Errors
    /// `unavailable`, when the disk fails.
    pub fn answer(self) -> Result<GrowthAnswer, ApiError> {
        let Self { blocks, metric, top, mut known, mut answer } = self;
        let (since, until) = (answer.since_unix_seconds, answer.until_unix_seconds);
        let mut series = BTreeMap::<SeriesId, BTreeMap<Reverse<u64>, Sum>>::new();
        blocks.each(|bytes| {
            let Ok(Block { time, covered_ms, rows }) = Block::decode(bytes) else { return };
            if !(since..=until).contains(&time) {
                return;
            }
            let days_ago = until.saturating_sub(time + 1) / DAY;
            for (id, row) in rows {
                let Some(cell) = row[metric as usize] else { continue };
                let sum = series.entry(id).or_default().entry(Reverse(days_ago)).or_default();
                sum.covered_ms += covered_ms;
                sum.weighted += f64::from(cell.mean) * covered_ms as f64;
                sum.peak = sum.peak.max(f64::from(cell.peak));
            }
        })?;
        for (id, days) in series {
            let growth = Growth::of(&days, until);
            if id == NODE {
                answer.all = growth;
            } else if id == OTHER {
                answer.workloads.push(WorkloadGrowth { workload: None, growth });
            } else if let Some(workload) = known.remove(&id) {
                answer.workloads.push(WorkloadGrowth { workload: Some(workload), growth });
            }
        }
        answer.workloads.sort_by(|a, b| b.growth.rank().total_cmp(&a.growth.rank()));
        answer.more = answer.workloads.len().saturating_sub(top);
        answer.workloads.truncate(top);
        Ok(answer)
    }
}

impl Growth {
    fn of(days: &BTreeMap<Reverse<u64>, Sum>, until: u64) -> Self {
        let days: Vec<_> = days.iter().map(|(Reverse(ago), sum)| (*ago, GrowthDay::of(*ago, sum, until))).collect();
        let trend = |value: fn(&GrowthDay) -> f64| {
            let whole = days.iter().filter(|(_, day)| day.covered_seconds >= LEAST_COVERED as f64);
            // Time runs the other way than days ago.
            let points: Vec<_> = whole.map(|(ago, day)| (u64::MAX / DAY - ago, value(day))).collect();
            Trend::of(&points).map(|trend| trend.growth_per_day)
        };
        Self {
            mean_growth_per_day: trend(|day| day.mean),
            peak_growth_per_day: trend(|day| day.peak),
            days: days.iter().map(|(_, day)| *day).collect(),
        }
    }

    /// What the peak adds a day; of those without a trend, those with the largest peak come first.
    fn rank(&self) -> f64 {
        let peak = self.days.last().map_or(0.0, |day| day.peak);
        // Behind all that grow, and before all that shrink.
        self.peak_growth_per_day.map_or(peak.min(1e12) * 1e-24, |growth| growth * peak)
    }
}

impl GrowthDay {
    fn of(days_ago: u64, sum: &Sum, until: u64) -> Self {
        Self {
            time_unix_seconds: until.saturating_sub((days_ago + 1) * DAY),
            covered_seconds: sum.covered_ms as f64 / 1000.0,
            mean: if sum.covered_ms == 0 { 0.0 } else { sum.weighted / sum.covered_ms as f64 },
            peak: sum.peak,
        }
    }
}
