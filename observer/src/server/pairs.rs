//! `/api/v1/pairs`: who waits for a CPU that whom has.

use super::{Who, parameter};
use crate::ledger::{Cause, EntityId, Identity, Ledger};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The pairs that waited the longest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairsAnswer {
    /// The node.
    pub node: String,
    /// The longest first.
    pub pairs: Vec<Pair>,
    /// How many pairs there are beyond those.
    pub more: usize,
    /// Waits that are of no pair, since there are more pairs than the agent keeps.
    pub left_out: u64,
}

/// A victim, and who had the CPU while it waited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Who waited.
    pub victim: Who,
    /// `entity`; `idle`: the CPU had yet to wake up; `throttled`: the victim's own quota was used up.
    pub cause: String,
    /// Who had the CPU, if the cause is an entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub culprit: Option<Who>,
    /// Task-seconds since the agent started, of waits above the threshold.
    pub wait_seconds: f64,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairsQuery {
    /// How many pairs.
    pub top: usize,
}

impl PairsQuery {
    /// Reads `top`; the error says what would be right.
    pub(super) fn of_parameters(parameters: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut query = Self { top: parameter::USUAL };
        for (name, value) in parameters {
            if name != "top" {
                return Err(format!("{name:?} is no parameter of pairs; there is top=N"));
            }
            query.top = parameter::top(&value)?;
        }
        Ok(query)
    }
}

impl PairsAnswer {
    /// What the books say.
    pub fn of(node: &str, ledger: &Ledger, query: PairsQuery) -> Self {
        let identities: HashMap<EntityId, &Identity> =
            ledger.entities().iter().map(|entity| (entity.id, &entity.identity)).collect();
        let who = |id: EntityId| identities.get(&id).map(|identity| Who::from(*identity));
        let mut all: Vec<_> = ledger.wait_pairs().collect();
        all.sort_by_key(|(victim, cause, ns)| (std::cmp::Reverse(*ns), *victim, *cause));
        let pairs = all.iter().take(query.top).filter_map(|(victim, cause, ns)| {
            let (cause, culprit) = match cause {
                Cause::Entity(id) => ("entity", Some(who(*id)?)),
                Cause::Idle => ("idle", None),
                Cause::Throttled => ("throttled", None),
            };
            Some(Pair { victim: who(*victim)?, cause: cause.into(), culprit, wait_seconds: *ns as f64 / 1e9 })
        });
        Self {
            node: node.to_owned(),
            pairs: pairs.collect(),
            more: all.len().saturating_sub(query.top),
            left_out: ledger.pairs_left_out(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<PairsQuery, String> {
        PairsQuery::of_parameters(form_urlencoded::parse(text.as_bytes()).into_owned())
    }

    #[test]
    fn a_query_has_a_number_within_bounds_and_nothing_else() {
        assert_eq!(query(""), Ok(PairsQuery { top: 100 }));
        assert_eq!(query("top=3"), Ok(PairsQuery { top: 3 }));
        for wrong in ["top=0", "top=x", "top=10001", "topp=3", "top=-1"] {
            assert!(query(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_leaves_out_what_does_not_apply_and_reads_back() {
        let who = Who::from(&Identity::Cgroup { path: "/a".into() });
        let pair = Pair { victim: who, cause: "idle".into(), culprit: None, wait_seconds: 1.5 };
        let answer = PairsAnswer { node: "n".into(), pairs: vec![pair], more: 0, left_out: 0 };
        let json = serde_json::to_string(&answer).unwrap();
        assert!(json.contains(r#"{"victim":{"cgroup":"/a"},"cause":"idle","wait_seconds":1.5}"#), "{json}");
        assert_eq!(serde_json::from_str::<PairsAnswer>(&json).unwrap(), answer);
    }
}
