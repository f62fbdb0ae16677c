//! What is remembered of each series, and what a question may ask for.

use std::{fmt, str::FromStr};

/// How many metrics there are.
pub const METRICS: usize = 5;

/// What is measured in each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Metric {
    /// Bytes sent, a second.
    Egress,
    /// Bytes received, a second.
    Ingress,
    /// Tasks that run, wait for a CPU or sleep uninterruptibly.
    Load,
    /// Tasks that wait for a CPU.
    Wait,
    /// Working set in bytes.
    Memory,
}

impl Metric {
    /// All of them, in the order in which a [`Row`](super::Row) has them.
    pub const ALL: [Self; METRICS] = [Self::Egress, Self::Ingress, Self::Load, Self::Wait, Self::Memory];

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Load => "load",
            Self::Wait => "wait",
            Self::Memory => "memory",
        }
    }

    /// What its values count.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Egress | Self::Ingress => "bytes_per_second",
            Self::Load | Self::Wait => "tasks",
            Self::Memory => "bytes",
        }
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|metric| metric.word() == text).ok_or_else(|| {
            format!("{text:?} is no metric here; wanted: one of {}", Self::ALL.map(Self::word).join(", "))
        })
    }
}

/// What a row says of the windows inside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// The mean, weighted by how long each window was.
    Mean,
    /// The largest window.
    Peak,
}

/// A metric and a statistic: `egress_peak`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// What is measured.
    pub metric: Metric,
    /// What of it.
    pub statistic: Statistic,
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistic = match self.statistic {
            Statistic::Mean => "mean",
            Statistic::Peak => "peak",
        };
        write!(f, "{}_{statistic}", self.metric.word())
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Metric::ALL
            .into_iter()
            .flat_map(|metric| [Statistic::Mean, Statistic::Peak].map(|statistic| Self { metric, statistic }));
        let mut all = all.map(|selection| (selection.to_string(), selection));
        all.find(|(name, _)| name == text).map(|(_, selection)| selection).ok_or_else(|| {
            let words = Metric::ALL.map(Metric::word).join(", ");
            format!("{text:?} is no metric; wanted: one of {words}, with _mean or _peak, such as egress_peak")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selection_reads_back_as_it_is_written() {
        for (at, metric) in Metric::ALL.into_iter().enumerate() {
            assert_eq!(metric as usize, at);
            for statistic in [Statistic::Mean, Statistic::Peak] {
                let selection = Selection { metric, statistic };
                assert_eq!(selection.to_string().parse(), Ok(selection));
            }
        }
    }

    #[test]
    fn what_is_no_metric_is_told_what_is() {
        let error = "egress".parse::<Selection>().unwrap_err();
        assert!(error.contains("\"egress\" is no metric") && error.contains("memory") && error.contains("_peak"));
    }
}
