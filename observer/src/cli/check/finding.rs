//! Findings, and how they are shown.

use crate::kernel::{privileges::Feature, program};
use serde::Serialize;
use std::fmt::Write;

/// How a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// All is there.
    Ok,
    /// The agent runs, and lacks what the detail names.
    Degraded,
    /// The agent cannot run.
    Missing,
    /// This process is not allowed to find out.
    Unknown,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) need: String,
    pub(super) state: State,
    /// What was found, and what is lost.
    pub(super) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
    /// The feature that is lost: without any that counts, the agent has no reason to run.
    #[serde(skip)]
    pub(super) lost: Option<Feature>,
}

impl Finding {
    pub(super) fn ok(need: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { need: need.into(), state: State::Ok, detail: detail.into(), fix: None, lost: None }
    }

    pub(super) fn not_ok(
        state: State,
        need: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { need: need.into(), state, detail: detail.into(), fix: Some(fix.into()), lost: None }
    }

    /// The agent runs without this feature.
    pub(super) fn without(feature: Feature, need: impl Into<String>, detail: &str, fix: impl Into<String>) -> Self {
        let detail = format!("{detail}: no {feature}");
        Self { lost: Some(feature), ..Self::not_ok(State::Degraded, need, detail, fix) }
    }

    /// The agent runs without this program of a feature; where others stand in for it, a part is lost.
    pub(super) fn without_program(
        name: &str,
        feature: Feature,
        need: impl Into<String>,
        detail: &str,
        fix: impl Into<String>,
    ) -> Self {
        match program::lost_without(name) {
            Some(part) => Self::not_ok(State::Degraded, need, format!("{detail}: {part}"), fix),
            None => Self::without(feature, need, detail, fix),
        }
    }
}

/// All findings.
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Json<'a> {
    can_run: bool,
    findings: &'a [Finding],
}

impl Report {
    /// Whether the agent could count something here, as far as could be found out.
    pub(super) fn can_run(&self) -> bool {
        let loses = |feature| self.findings.iter().any(|finding| finding.lost == Some(feature));
        let missing = self.findings.iter().any(|finding| finding.state == State::Missing);
        !(missing || loses(Feature::Bytes) && loses(Feature::Scheduler))
    }

    /// A line per need, its fix below it, and a verdict.
    pub(super) fn to_text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.need.len()).max().unwrap_or(0);
        let mut text = String::new();
        let mut findings = self.findings.iter().peekable();
        while let Some(Finding { need, state, detail, fix, lost: _ }) = findings.next() {
            let state = match state {
                State::Ok => "ok",
                State::Degraded => "degraded",
                State::Missing => "missing",
                State::Unknown => "unknown",
            };
            let _ = writeln!(text, "{state:<8}  {need:<width$}  {detail}");
            // Needs in a row that one deed mends have it said once, below the last.
            let said_next = findings.peek().is_some_and(|next| next.fix == *fix);
            if let Some(fix) = fix.as_ref().filter(|_| !said_next) {
                let _ = writeln!(text, "{:<8}  {:<width$}  fix: {fix}", "", "");
            }
        }
        text.push_str(self.verdict());
        text
    }

    fn verdict(&self) -> &'static str {
        let all_ok = self.findings.iter().all(|finding| finding.state == State::Ok);
        match (self.can_run(), all_ok) {
            (true, true) => "The agent can run here.\n",
            (true, false) => "The agent can run here, with what is degraded or unknown above.\n",
            (false, _) => "The agent cannot run here: mend what is missing or lost above.\n",
        }
    }

    /// One object: `can_run`, and `findings` with `need`, `state`, `detail` and, where there is one, `fix`.
    pub(super) fn to_json(&self) -> String {
        let json = Json { can_run: self.can_run(), findings: &self.findings };
        let mut text = serde_json::to_string_pretty(&json).expect("strings and flags always serialize");
        text.push('\n');
        text
    }
}
