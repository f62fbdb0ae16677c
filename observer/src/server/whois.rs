//! `/api/v1/whois`: who has an address, and had it then.

use super::{BehindRow, FarEnd, Who, behind, flow_row::is_zero};
use crate::{
    history::ApiError,
    ledger::{EntityId, Holder, Ledger, LookedUpName, Tenancy, Translated, Whose},
};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use observer_ebpf::Scope;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Of whom, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhoisQuery {
    /// The address.
    pub address: IpAddr,
    /// A port, which tells a pod in a node's network.
    pub port: Option<u16>,
    /// When; now, if nothing is said.
    pub at_unix_seconds: Option<u64>,
}

/// Who it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WhoisAnswer {
    /// The node whose agent answers.
    pub node: String,
    /// The address that was asked for.
    pub address: String,
    /// The port, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of which time this is.
    pub at_unix_seconds: u64,
    /// Where the address is, seen from this node.
    pub scope: String,
    /// Who had it; not there if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<FarEnd>,
    /// Who else is known to have had it, before or after.
    #[serde(default)]
    pub others: Vec<FarEnd>,
    /// Of a service, and if it is asked for now: where this node sends its connections to it, the most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<BehindRow>,
    /// Connections to far ends behind the service beyond those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub behind_more: u64,
    /// By which names entities of this node had looked the address up by then, the last first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looked_up: Vec<LookedUpRow>,
    /// Why this may not be all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A name by which an entity looked an address up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedUpRow {
    /// The name.
    pub name: String,
    /// Who looked it up.
    pub entity: Who,
    /// When it was last answered with the address.
    pub as_of_unix_seconds: u64,
}

/// Names in an answer at the most.
const MOST_NAMES: usize = 16;

/// A moment: `2026-11-26T10:00:00Z`, or with another offset, without one UTC; or seconds since the epoch.
///
/// # Errors
/// With what would be right.
pub fn moment_of(text: &str) -> Result<u64, String> {
    let moment = || -> Option<Timestamp> {
        // To the end of the year 9999, after which no time is written.
        if let Ok(seconds) = text.parse::<u64>() {
            return Timestamp::from_second(seconds.try_into().ok()?).ok();
        }
        // Without an offset a time is UTC, as those are that are printed; a date is its first moment.
        let civil = || text.trim_end_matches(" UTC").parse::<DateTime>().ok();
        text.parse().ok().or_else(|| TimeZone::UTC.to_timestamp(civil()?).ok())
    };
    moment().and_then(|moment| u64::try_from(moment.as_second()).ok()).ok_or_else(|| {
        format!("{text:?} is no time; wanted: one such as 2026-11-26T10:00:00Z or 2026-11-26 10:00 (UTC), or seconds since 1970")
    })
}

/// `ADDRESS` or `ADDRESS:PORT`; an IPv6 address with a port is in brackets.
///
/// # Errors
/// With what would be right.
pub fn address_of(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok((address.to_canonical(), None));
    }
    let with_port = text.parse::<SocketAddr>();
    with_port.map(|socket| (socket.ip().to_canonical(), Some(socket.port()))).map_err(|_| {
        format!("{text:?} is no address; wanted: one such as 10.244.0.7, fd00::7, 10.0.0.5:443 or [fd00::5]:443")
    })
}

impl WhoisQuery {
    /// Reads the parameters.
    pub(super) fn of_parameters(parameters: impl Iterator<Item = (String, String)>) -> Result<Self, ApiError> {
        let wrong = |message: String| ApiError::new("wrong_query", message);
        let (mut address, mut at_unix_seconds) = (None, None);
        for (name, value) in parameters {
            match name.as_str() {
                "address" => address = Some(address_of(&value).map_err(wrong)?),
                "at" => at_unix_seconds = Some(moment_of(&value).map_err(wrong)?),
                _ => return Err(wrong(format!("{name:?} is no parameter of whois; there are address and at"))),
            }
        }
        let (address, port) = address.ok_or_else(|| wrong("address is missing; wanted: address=10.244.0.7".into()))?;
        if address.is_unspecified() {
            return Err(wrong(format!("{address} is nobody's address: it stands for all of whoever listens there")));
        }
        Ok(Self { address, port, at_unix_seconds })
    }

    /// Why little is known of a time at which the agent did not watch.
    pub fn beyond(&self, begun_unix_seconds: u64, now_unix_seconds: u64) -> Option<String> {
        let at = self.at_unix_seconds?;
        let text = |seconds: u64| {
            let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
            time.map_or_else(|| seconds.to_string(), |time| time.to_string())
        };
        if at < begun_unix_seconds {
            Some(format!(
                "this agent watches since {}, and knows nobody who was gone by then",
                text(begun_unix_seconds)
            ))
        } else {
            (at > now_unix_seconds).then(|| format!("{} is to come: this is so as far as it is known now", text(at)))
        }
    }
}

/// What it is told from.
#[derive(Clone, Copy, Debug)]
pub struct WhoisSource<'a> {
    /// The node.
    pub node: &'a str,
    /// The books.
    pub ledger: &'a Ledger,
    /// Where the address is, seen from this node.
    pub scope: Scope,
    /// Connections to it, if it is a service's.
    pub translated: &'a [Translated],
    /// Now.
    pub now_unix_seconds: u64,
}

impl WhoisAnswer {
    /// What the books know.
    pub fn of(source: &WhoisSource<'_>, query: WhoisQuery) -> Self {
        let WhoisSource { node, ledger, scope, translated, now_unix_seconds } = *source;
        let at = query.at_unix_seconds.unwrap_or(now_unix_seconds);
        let is_followed = ledger.is_followed(query.address);
        let end = SocketAddr::new(query.address, query.port.unwrap_or_default());
        let holder = behind::whose(ledger, end, None, at);
        let is_other = |other: &&Tenancy| holder.is_none_or(|holder| !std::ptr::eq(holder.tenancy, *other));
        let others = ledger.holders(query.address).iter().filter(is_other);
        let mut others: Vec<_> =
            others.map(|tenancy| FarEnd::of(Whose { tenancy, on_node: None, is_followed })).collect();
        others.extend(others_at_port(ledger, holder, query.port));
        let (behind, behind_more) = behind::rows(ledger, &behind::count(translated), None, now_unix_seconds);
        Self {
            node: node.to_owned(),
            address: query.address.to_string(),
            port: query.port,
            at_unix_seconds: at,
            scope: scope.label().into(),
            holder: holder.map(FarEnd::of),
            others,
            behind,
            behind_more,
            looked_up: looked_up(ledger, query.address, at),
            missing: None,
        }
    }
}

/// Pods that have or had a port of a node, beside the one that is told of.
fn others_at_port(ledger: &Ledger, holder: Option<Whose<'_>>, port: Option<u16>) -> Vec<FarEnd> {
    let (Some(Whose { tenancy, on_node, is_followed }), Some(port)) = (holder, port) else { return Vec::new() };
    let Holder::Node { name } = &tenancy.holder else { return Vec::new() };
    let others = ledger.all_on_node(name, port).into_iter();
    let others = others.filter(|other| on_node.is_none_or(|told| !std::ptr::eq(told, *other)));
    others.map(|other| FarEnd::of(Whose { tenancy, on_node: Some(other), is_followed })).collect()
}

fn looked_up(ledger: &Ledger, address: IpAddr, then: u64) -> Vec<LookedUpRow> {
    let row = |(id, LookedUpName { name, as_of_unix_seconds, .. }): (EntityId, &LookedUpName)| {
        let entity = ledger.entities().iter().find(|entity| entity.id == id)?;
        let (name, entity) = ((**name).to_owned(), Who::from(&entity.identity));
        Some(LookedUpRow { name, entity, as_of_unix_seconds: *as_of_unix_seconds })
    };
    let mut rows: Vec<_> = ledger.names_looked_up(address, then).filter_map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.as_of_unix_seconds));
    rows.truncate(MOST_NAMES);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_times_at_which_nobody_watched_it_is_told_that_little_is_known() {
        let beyond =
            |at| WhoisQuery { address: [10, 0, 0, 7].into(), port: None, at_unix_seconds: at }.beyond(100, 200);
        assert_eq!((beyond(None), beyond(Some(100)), beyond(Some(200))), (None, None, None));
        assert!(beyond(Some(99)).unwrap().contains("since 1970-01-01T00:01:40Z"));
        assert!(beyond(Some(201)).unwrap().starts_with("1970-01-01T00:03:21Z is to come"));
        assert!(beyond(Some(u64::MAX)).unwrap().contains("is to come"));
    }

    #[test]
    fn what_stands_for_every_address_is_nobodys() {
        for nobodys in ["0.0.0.0", "::", "[::]:53"] {
            let query = WhoisQuery::of_parameters([("address".to_owned(), nobodys.to_owned())].into_iter());
            assert!(query.unwrap_err().message.contains("nobody's address"), "{nobodys}");
        }
    }

    #[test]
    fn an_address_may_have_a_port_and_a_moment_an_offset() {
        for (text, expected) in [
            ("10.0.0.7", ("10.0.0.7", None)),
            ("10.0.0.7:53", ("10.0.0.7", Some(53))),
            ("fd00::7", ("fd00::7", None)),
            ("[fd00::7]", ("fd00::7", None)),
            ("[fd00::7]:443", ("fd00::7", Some(443))),
            ("::ffff:10.0.0.7", ("10.0.0.7", None)),
        ] {
            assert_eq!(address_of(text), Ok((expected.0.parse().unwrap(), expected.1)), "{text}");
        }
        for wrong in ["", "web", "10.0.0", "10.0.0.7:", "10.0.0.7:66000", "10.0.0.0/8"] {
            assert!(address_of(wrong).unwrap_err().contains("wanted: one such as"), "{wrong}");
        }
        for (text, expected) in [
            ("1970-01-02T00:00:00Z", 86_400),
            ("1970-01-02T02:00:00+02:00", 86_400),
            ("86400", 86_400),
            ("1970-01-02", 86_400),
            ("1970-01-02 00:01", 86_460),
            ("1970-01-02 00:00:07", 86_407),
            ("1970-01-02 00:01 UTC", 86_460),
            ("19700102", 19_700_102),
        ] {
            assert_eq!(moment_of(text), Ok(expected), "{text}");
        }
        for wrong in ["", "yesterday", "-5", "1960-01-01T00:00:00Z", "2026-11-36", "2026-11-26 25:00", "253402300800"] {
            assert!(moment_of(wrong).unwrap_err().contains("wanted"), "{wrong}");
        }
    }

    #[test]
    fn a_query_needs_an_address_and_nothing_else() {
        let query = |text: &str| WhoisQuery::of_parameters(form_urlencoded::parse(text.as_bytes()).into_owned());
        let asked = query("address=[fd00::5]:443&at=1970-01-01T00:01:00Z").unwrap();
        assert_eq!((asked.port, asked.at_unix_seconds), (Some(443), Some(60)));
        for (wrong, told) in
            [("", "address is missing"), ("address=x", "no address"), ("address=::1&pod=x", "address and at")]
        {
            assert!(query(wrong).unwrap_err().message.contains(told), "{wrong}");
        }
    }
}
