//! `/api/v1/programs`: the kernel programs, whether they run, and what they and the agent cost.

use crate::ledger::{ProcessFacts, ProgramFacts};
use serde::{Deserialize, Serialize};

/// The programs and the agent's own process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgramsAnswer {
    /// The node.
    pub node: String,
    /// Every program.
    pub programs: Vec<ProgramRow>,
    /// The agent's process.
    pub agent: AgentCost,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgramRow {
    /// Its name.
    pub program: String,
    /// Whether it runs.
    pub up: bool,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how long it ran; only while the kernel counts that (`kernel.bpf_stats_enabled`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_seconds: Option<f64>,
    /// How often it ran, then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// Instructions that the kernel followed to check it, of a million that it would; from Linux 5.16 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_instructions: Option<u32>,
}

/// What the agent's process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentCost {
    /// CPU time since its start.
    pub cpu_seconds: f64,
    /// Memory.
    pub resident_bytes: u64,
    /// When it started.
    pub start_time_unix_seconds: f64,
}

impl ProgramsAnswer {
    /// What the kernel says of them.
    pub fn of(node: &str, programs: &[ProgramFacts], process: &ProcessFacts) -> Self {
        let row = |ProgramFacts { name, down_because, run_time, verified_instructions }: &ProgramFacts| ProgramRow {
            program: (*name).to_owned(),
            up: down_because.is_none(),
            reason: down_because.clone(),
            run_seconds: run_time.map(|(ns, _)| ns as f64 / 1e9),
            runs: run_time.map(|(_, runs)| runs),
            verified_instructions: *verified_instructions,
        };
        let ProcessFacts { cpu_seconds, resident_bytes, start_time_seconds, .. } = *process;
        let agent = AgentCost { cpu_seconds, resident_bytes, start_time_unix_seconds: start_time_seconds };
        Self { node: node.to_owned(), programs: programs.iter().map(row).collect(), agent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_down_says_why_and_one_that_is_up_what_it_cost() {
        let up = ProgramFacts {
            name: "a",
            down_because: None,
            run_time: Some((2_500_000_000, 7)),
            verified_instructions: Some(9),
        };
        let down = ProgramFacts { name: "b", down_because: Some("lockdown".into()), ..ProgramFacts::default() };
        let answer = ProgramsAnswer::of("n", &[up, down], &ProcessFacts::default());
        let json = serde_json::to_string(&answer.programs).unwrap();
        assert_eq!(
            json,
            r#"[{"program":"a","up":true,"run_seconds":2.5,"runs":7,"verified_instructions":9},{"program":"b","up":false,"reason":"lockdown"}]"#
        );
    }
}
