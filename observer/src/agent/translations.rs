//! Where connections to services go, asked of the node's table of connections when somebody looks.

use crate::{
    ledger::Translated,
    procfs::{Conntrack, Network},
    server::SpokenTo,
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

/// How often the table is read at most: it may be long.
const PAUSE: Duration = Duration::from_secs(1);
/// Connections that are taken note of at most.
const MOST: usize = 65_536;

/// The table, and how often it is read.
pub(super) struct Translations {
    table: Arc<Table>,
    /// When it may be read again; held while it is, whatever becomes of who asked.
    again: Arc<tokio::sync::Mutex<Instant>>,
}

/// The table, where it could be opened.
struct Table {
    network: Network,
    conntrack: Mutex<Result<Conntrack, String>>,
}

/// What the table told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Connections that go elsewhere than they are told to.
    pub(super) all: Vec<Translated>,
    /// Why those may not be all.
    pub(super) missing: Option<String>,
}

impl Told {
    /// Whether it tells nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.missing.is_none()
    }
}

impl Translations {
    /// Opens the table; to be done while the agent may.
    pub(super) fn open(network: &Network) -> Self {
        let conntrack = Conntrack::open(network);
        if let Err(reason) = &conntrack {
            tracing::info!(reason, "who stands behind a service's address cannot be told");
        }
        Self {
            table: Arc::new(Table { network: network.clone(), conntrack: Mutex::new(conntrack) }),
            again: Arc::new(tokio::sync::Mutex::new(Instant::now())),
        }
    }

    /// The connections to some far ends, as far as there is time to read them.
    pub(super) async fn of(&self, far_ends: HashSet<SpokenTo>) -> Told {
        if far_ends.is_empty() {
            return Told::default();
        }
        let table = Arc::clone(&self.table);
        let mut again = Arc::clone(&self.again).lock_owned().await;
        sleep_until(*again).await;
        let read = spawn_blocking(move || {
            let told = table.read(&far_ends, MOST);
            *again = Instant::now() + PAUSE;
            told
        });
        read.await.unwrap_or_else(|error| Told { missing: Some(error.to_string()), ..Told::default() })
    }
}

impl Table {
    /// Reads of the connections to some far ends so many at the most.
    fn read(&self, far_ends: &HashSet<SpokenTo>, most: usize) -> Told {
        let mut conntrack = self.conntrack.lock().unwrap_or_else(PoisonError::into_inner);
        // A node that tracked nothing when the agent started may do so by now, and who has the group may open it still. Who had root then, and
        // has not any more, has to start again: the first reason stands.
        if conntrack.is_err()
            && let Ok(opened) = Conntrack::open(&self.network)
        {
            *conntrack = Ok(opened);
        }
        let conntrack = match &mut *conntrack {
            Ok(conntrack) => conntrack,
            Err(reason) => {
                let missing = Some(format!("when the agent started, {reason}"));
                return Told { missing, ..Told::default() };
            }
        };
        let (mut all, mut left_out) = (HashSet::new(), 0_u64);
        let read = conntrack.read(|one| {
            let is_wanted = SpokenTo::all_of(&one).iter().any(|spoken_to| far_ends.contains(spoken_to));
            if is_wanted && all.len() < most {
                all.insert(one);
            } else {
                left_out += u64::from(is_wanted && !all.contains(&one));
            }
        });
        let missing = match read {
            Err(error) => Some(format!("the node's table of connections cannot be read: {error}")),
            Ok(true) if left_out == 0 => None,
            Ok(true) => {
                Some(format!("the node has {left_out} connections to services more than the {most} that are looked at"))
            }
            Ok(false) => Some("the node's table of connections is longer than what there is time to read of it".into()),
        };
        Told { all: all.into_iter().collect(), missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs};

    fn line(source: u16, service: &str, port: u16) -> String {
        format!(
            "ipv4     2 tcp      6 9 ESTABLISHED src=10.244.0.5 dst={service} sport={source} dport={port} src=10.244.0.9 \
             dst=10.244.0.5 sport=8080 dport={source} [ASSURED] mark=0 use=2\n"
        )
    }

    fn spoken_to(address: &str, port: Option<u16>) -> SpokenTo {
        SpokenTo { address: address.parse().unwrap(), port, protocol: port.map(|_| 6) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_comes_later_is_read_then_and_only_what_was_asked_for_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let network = Network::new("/proc".into(), Some(directory.path().to_owned()));
        let translations = Translations::open(&network);
        let wanted = || [spoken_to("10.96.0.1", Some(80))].into();
        let told = translations.of(wanted()).await;
        assert!(told.all.is_empty() && told.missing.is_some_and(|missing| missing.contains("nf_conntrack")));
        let lines = [line(1, "10.96.0.1", 80), line(2, "10.96.0.1", 81), line(3, "10.96.0.2", 80)].concat();
        fs::write(directory.path().join("nf_conntrack"), lines).unwrap();
        let ports = |told: &Told| told.all.iter().map(|one| one.source.port()).collect::<BTreeSet<_>>();
        let told = translations.of(wanted()).await;
        assert_eq!((ports(&told), told.missing), ([1].into(), None));
        // Whoever asks for the address alone is told of all its ports; who asks for nothing waits for nothing.
        let before = Instant::now();
        assert_eq!(ports(&translations.of([spoken_to("10.96.0.1", None)].into()).await), [1, 2].into());
        assert!(before.elapsed() >= PAUSE);
        let before = Instant::now();
        assert!(translations.of(HashSet::new()).await.is_empty() && before.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_before_the_answer_does_not_make_the_next_one_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("nf_conntrack"), line(1, "10.96.0.1", 80).repeat(1000)).unwrap();
        let translations = Translations::open(&Network::new("/proc".into(), Some(directory.path().to_owned())));
        let wanted = || [spoken_to("10.96.0.1", None)].into();
        let before = Instant::now();
        {
            let mut leaves = std::pin::pin!(translations.of(wanted()));
            assert!(futures::poll!(leaves.as_mut()).is_pending());
        }
        // And of a thousand lines that are the same, one connection is told.
        assert_eq!(translations.of(wanted()).await.all.len(), 1);
        assert!(before.elapsed() >= PAUSE);
    }

    #[test]
    fn more_connections_than_are_looked_at_are_told_to_be_missing() {
        let directory = tempfile::tempdir().unwrap();
        let lines: String = (1..=13).map(|port| line(port, "10.96.0.1", 80)).collect();
        fs::write(directory.path().join("nf_conntrack"), lines).unwrap();
        let network = Network::new("/proc".into(), Some(directory.path().to_owned()));
        let wanted = [spoken_to("10.96.0.1", None)].into();
        let told = Translations::open(&network).table.read(&wanted, 10);
        assert_eq!(told.all.len(), 10);
        assert!(told.missing.is_some_and(|missing| missing.contains("has 3 connections")));
        assert!(Translations::open(&network).table.read(&wanted, 13).missing.is_none());
    }
}
