//! The machine that was measured: what a reader needs to compare two tables.

use serde::Serialize;
use std::fs;

/// Facts that decide the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    cpu: String,
    cpus: usize,
    /// The load average before the first round: what the neighbours were doing.
    load1_before: String,
    /// Programs of others on the hooks that are measured; they are part of every variant, "off" included.
    programs_of_others: Vec<String>,
}

impl Machine {
    /// Reads the facts; what cannot be read says so.
    pub(crate) fn read() -> Self {
        Self {
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: cpu_model().unwrap_or_else(|| "unknown".into()),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            load1_before: line("/proc/loadavg").split(' ').next().unwrap_or_default().into(),
            programs_of_others: programs_of_others(),
        }
    }

    /// One line for the table's head.
    pub(crate) fn headline(&self) -> String {
        let Self { kernel, cpu, cpus, load1_before, programs_of_others } = self;
        let others = match programs_of_others.as_slice() {
            [] => String::new(),
            some => format!("; kernel programs of others: {}", some.join(", ")),
        };
        format!("Linux {kernel}, {cpus} x {cpu}, load {load1_before}{others}")
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|error| format!("unknown ({path}: {error})"), |text| text.trim().to_owned())
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, model) = info.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(model.trim().to_owned())
}

fn programs_of_others() -> Vec<String> {
    use aya::programs::ProgramType::{CgroupSkb, RawTracePoint, SchedClassifier, TracePoint, Tracing};
    let measured = [CgroupSkb, RawTracePoint, SchedClassifier, TracePoint, Tracing].map(Into::into);
    aya::programs::loaded_programs()
        .flatten()
        .filter(|info| measured.contains(&info.program_type()))
        .map(|info| info.name_as_str().unwrap_or("nameless").to_owned())
        .collect()
}
