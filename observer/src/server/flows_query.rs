//! Which flows a request asks for.

use super::parameter;
use crate::{
    history::duration_of,
    ledger::{Flow, FlowBooks},
};
use observer_ebpf::Scope;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowsQuery {
    /// Whose flows; all if nothing is said.
    pub entity: Option<String>,
    /// Where the far end is; anywhere if nothing is said.
    pub scope: Option<Scope>,
    /// How many flows.
    pub top: usize,
    /// Only those that carried something in the last so many seconds.
    pub since_seconds: Option<u64>,
}

impl FlowsQuery {
    /// Reads the parameters; the error says what would be right.
    pub(super) fn of_parameters(parameters: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut query = Self { top: parameter::USUAL, ..Self::default() };
        for (name, value) in parameters {
            match name.as_str() {
                "entity" => query.entity = Some(parameter::entity(value)?),
                "scope" => {
                    let known = Scope::ALL.iter().find(|scope| scope.label() == value);
                    query.scope = Some(*known.ok_or_else(|| {
                        let all: Vec<_> = Scope::ALL.iter().map(|scope| scope.label()).collect();
                        format!("scope={value} is not right; wanted: {}", all.join(", "))
                    })?);
                }
                "top" => query.top = parameter::top(&value)?,
                "since" => query.since_seconds = Some(duration_of(&value)?),
                _ => return Err(format!("{name:?} is no parameter of flows; there are entity, scope, top and since")),
            }
        }
        Ok(query)
    }

    pub(super) fn wants(&self, flow: &Flow, books: &FlowBooks, now_ns: u64) -> bool {
        let is_recent = self
            .since_seconds
            .is_none_or(|seconds| now_ns.saturating_sub(books.active_ns) <= seconds.saturating_mul(1_000_000_000));
        is_recent && self.scope.is_none_or(|scope| flow.scope == scope as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<FlowsQuery, String> {
        FlowsQuery::of_parameters(form_urlencoded::parse(text.as_bytes()).into_owned())
    }

    #[test]
    fn a_query_says_whose_where_how_many_and_since_when() {
        assert_eq!(query(""), Ok(FlowsQuery { top: 100, ..FlowsQuery::default() }));
        let all = query("entity=shop/web-1&scope=internet&top=5&since=90s").unwrap();
        assert_eq!((all.entity.as_deref(), all.scope), (Some("shop/web-1"), Some(Scope::Internet)));
        assert_eq!((all.top, all.since_seconds), (5, Some(90)));
        for (wrong, told) in [
            ("top=0", "from 1 to"),
            ("scope=mars", "loopback, node, cluster, service, intranet, internet"),
            ("since=yesterday", "90s"),
            ("entity=", "NAMESPACE/POD"),
            ("pod=x", "entity, scope, top and since"),
        ] {
            assert!(query(wrong).unwrap_err().contains(told), "{wrong}");
        }
    }
}
