//! A page of /metrics as an independent parser reads it, with the text of each value kept: sums are compared to the
//! nanosecond, which a float of seconds does not hold.

use anyhow::{Context as _, Result, bail, ensure};
use prometheus_parse::{LineInfo, Scrape};
use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    ops::{Add, AddAssign, Sub},
};

/// A scrape.
pub struct Page {
    /// The page.
    pub text: String,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// As it stands on the page.
    pub value: String,
}

impl Sample {
    /// A label's value; empty without that label.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The value as an integer; an error for anything else.
    pub fn integer(&self) -> Result<u64> {
        self.value.parse().with_context(|| format!("{} is not a whole number", self.value))
    }

    /// Seconds as whole nanoseconds, exactly; an error when the text holds more or other than nine decimals.
    pub fn nanoseconds(&self) -> Result<u64> {
        let (whole, decimals) = self.value.split_once('.').unwrap_or((&self.value, ""));
        ensure!(decimals.len() <= 9, "{} has more than nine decimals", self.value);
        let parse = |digits: &str| digits.parse::<u64>().with_context(|| format!("{} is not decimal", self.value));
        Ok(parse(whole)? * 1_000_000_000 + parse(&format!("{decimals:0<9}"))?)
    }
}

impl Page {
    /// The samples of one name (a histogram's parts have names of their own) that carry all of `labels`.
    pub fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for line in self.text.lines() {
            if !line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) {
                continue;
            }
            let LineInfo::Sample { value, .. } = LineInfo::parse(line) else { bail!("not a sample: {line}") };
            let scrape = Scrape::parse(std::iter::once(Ok(line.to_owned())))?;
            let parsed = scrape.samples.first().with_context(|| format!("not a sample: {line}"))?;
            let sample = Sample {
                labels: parsed.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
                value: value.to_owned(),
            };
            if labels.iter().all(|(key, value)| sample.label(key) == *value) {
                samples.push(sample);
            }
        }
        Ok(samples)
    }

    /// The only sample with that name and those labels.
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> Result<Sample> {
        let mut samples = self.samples(name, labels)?;
        ensure!(samples.len() == 1, "{} samples of {name} with {labels:?}, not one", samples.len());
        samples.pop().context("just counted")
    }

    /// A cgroup's traffic, all scopes together; zero when it has none yet.
    pub fn traffic(&self, cgroup: &str) -> Result<Traffic> {
        self.sum_traffic(&[("cgroup", cgroup)])
    }

    /// A cgroup's traffic of one scope.
    pub fn scoped_traffic(&self, cgroup: &str, scope: &str) -> Result<Traffic> {
        self.sum_traffic(&[("cgroup", cgroup), ("scope", scope)])
    }

    /// The traffic of all series with those labels.
    pub fn sum_traffic(&self, labels: &[(&str, &str)]) -> Result<Traffic> {
        let sum = |name: &str| -> Result<u64> {
            self.samples(&format!("observer_network_{name}_total"), labels)?.iter().map(Sample::integer).sum()
        };
        Ok(Traffic {
            transmit: Counted { bytes: sum("transmit_bytes")?, packets: sum("transmit_packets")? },
            receive: Counted { bytes: sum("receive_bytes")?, packets: sum("receive_packets")? },
        })
    }

    /// How long a cgroup's tasks waited for a CPU, and how often; zero when it has no series yet.
    pub fn waits(&self, cgroup: &str) -> Result<Waits> {
        let labels = [("cgroup", cgroup)];
        let first = |name: &str| -> Result<Option<Sample>> { Ok(self.samples(name, &labels)?.into_iter().next()) };
        let sum = first("observer_run_queue_wait_seconds_sum")?;
        let count = first("observer_run_queue_wait_seconds_count")?;
        Ok(Waits {
            nanoseconds: sum.map_or(Ok(0), |sample| sample.nanoseconds())?,
            count: count.map_or(Ok(0), |sample| sample.integer())?,
        })
    }

    /// A cgroup's CPU time in nanoseconds; zero when it has no series yet.
    pub fn cpu(&self, cgroup: &str) -> Result<u64> {
        let samples = self.samples("observer_cpu_usage_seconds_total", &[("cgroup", cgroup)])?;
        samples.first().map_or(Ok(0), Sample::nanoseconds)
    }

    /// A cgroup's task-nanoseconds in uninterruptible sleep; zero when it has no series yet.
    pub fn uninterruptible(&self, cgroup: &str) -> Result<u64> {
        let samples = self.samples("observer_uninterruptible_seconds_total", &[("cgroup", cgroup)])?;
        samples.first().map_or(Ok(0), Sample::nanoseconds)
    }

    /// A cgroup's only sample of a family of whole numbers.
    pub fn sample_of(&self, name: &str, cgroup: &str) -> Result<u64> {
        self.one(name, &[("cgroup", cgroup)])?.integer()
    }

    /// `observer_dropped_total` of one reason.
    pub fn dropped(&self, reason: &str) -> Result<u64> {
        self.one("observer_dropped_total", &[("reason", reason)])?.integer()
    }

    /// Whether any series carries that cgroup.
    pub fn knows(&self, cgroup: &str) -> bool {
        self.text.contains(&format!("cgroup=\"{cgroup}\""))
    }
}

/// L3 bytes and packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes, with their IP headers.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// Both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent.
    pub transmit: Counted,
    /// Received.
    pub receive: Counted,
}

impl Traffic {
    /// As the other end sees it.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self { transmit: self.receive, receive: self.transmit }
    }
}

impl Display for Counted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes in {} packets", self.bytes, self.packets)
    }
}

impl Display for Traffic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sent {}, received {}", self.transmit, self.receive)
    }
}

impl Sub for Counted {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { bytes: self.bytes.wrapping_sub(other.bytes), packets: self.packets.wrapping_sub(other.packets) }
    }
}

impl AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.packets += other.packets;
    }
}

impl Sub for Traffic {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { transmit: self.transmit - other.transmit, receive: self.receive - other.receive }
    }
}

impl Add for Traffic {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self.transmit += other.transmit;
        self.receive += other.receive;
        self
    }
}

/// Waits for a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Their sum.
    pub nanoseconds: u64,
    /// How many.
    pub count: u64,
}

impl AddAssign for Waits {
    fn add_assign(&mut self, other: Self) {
        self.nanoseconds += other.nanoseconds;
        self.count += other.count;
    }
}

impl Sub for Waits {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds.wrapping_sub(other.nanoseconds),
            count: self.count.wrapping_sub(other.count),
        }
    }
}
