//! Open TCP connections: counted afresh each time, since not every beginning and end is told of.

use super::{Entity, Identity, Ledger, flows};
use observer_ebpf::{
    SCOPES,
    flows::{OUTBOUND, PEER_SCOPE, SocketBook, SocketState},
};
use std::collections::HashMap;

/// Who asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// The far end.
    Inbound = 0,
    /// This end.
    Outbound = 1,
}

/// Open connections by [`Scope`](observer_ebpf::Scope) and [`Opener`]; `None` as long as there has never been one.
pub type Connections = [[Option<u64>; 2]; SCOPES];

/// A count that goes on.
#[derive(Debug, Default)]
pub struct Counting {
    /// By the entities' places.
    counts: Vec<Connections>,
}

impl Counting {
    /// Counts a socket, if it is a connection that is open.
    pub fn add(&mut self, ledger: &Ledger, book: &SocketBook, state: &SocketState) {
        if !flows::is_open_connection(book, state) {
            return;
        }
        let opener = if book.direction == OUTBOUND { Opener::Outbound } else { Opener::Inbound };
        let entity = self.counts.get_mut(ledger.known(book.cgroup));
        if let Some(of_scope) = entity.and_then(|counts| counts.get_mut((book.peer & PEER_SCOPE) as usize)) {
            *of_scope[opener as usize].get_or_insert_default() += 1;
        }
    }
}

impl Ledger {
    /// Begins to count: of whom there has ever been one, there are none so far.
    pub fn begin_connections(&self) -> Counting {
        let none = |entity: &Entity| entity.connections.map(|counts| counts.map(|count| count.map(|_| 0)));
        Counting { counts: self.entities.iter().map(none).collect() }
    }

    /// Takes what was counted; nothing is known if there is none. In between, no entity may come or go.
    pub fn end_connections(&mut self, counted: Option<Counting>) {
        let counts = counted.unwrap_or_default().counts;
        for (at, entity) in self.entities.iter_mut().enumerate() {
            entity.connections = counts.get(at).copied().unwrap_or_default();
        }
    }

    /// Gives each namespace's `other` those of the entities that have no series of their own now.
    pub fn share_connections(&mut self) {
        let mut shared: HashMap<_, Connections> = HashMap::new();
        for entity in &self.entities {
            if let Identity::Other { namespace } = &entity.identity {
                // Of whom it has had one, it has none without them.
                let none = entity.connections.map(|counts| counts.map(|count| count.map(|_| 0)));
                shared.insert(namespace.clone(), none);
            }
        }
        for entity in self.entities.iter().filter(|entity| !entity.shown) {
            let sum = shared.entry(entity.identity.namespace().cloned()).or_default();
            for (sum, count) in sum.as_flattened_mut().iter_mut().zip(entity.connections.as_flattened()) {
                *sum = sum.map_or(*count, |sum| Some(sum + count.unwrap_or(0)));
            }
        }
        for entity in &mut self.entities {
            if let Identity::Other { namespace } = &entity.identity
                && let Some(sum) = shared.get(namespace)
            {
                entity.connections = *sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Added, Sample, fixture::Services};
    use observer_ebpf::{
        Scope, Traffic,
        flows::{INBOUND, TCP, TCP_ESTABLISHED, TCP_LISTEN},
    };

    fn socket(cgroup: u64, direction: u8, state: u32) -> (SocketBook, SocketState) {
        let book =
            SocketBook { cgroup, peer: Scope::Intranet as u64, protocol: TCP, direction, ..SocketBook::default() };
        (book, SocketState { state, ..SocketState::default() })
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let traffic = [Traffic { transmit_bytes: 1, ..Traffic::default() }; SCOPES];
        let added = [1, 2].map(|cgroup| Added { cgroup, traffic, ..Added::default() }).to_vec();
        ledger.book(&Sample { added, ..Sample::default() }, &Services, 0);
        ledger
    }

    fn count(ledger: &mut Ledger, sockets: &[(SocketBook, SocketState)]) {
        let mut counting = ledger.begin_connections();
        for (book, state) in sockets {
            counting.add(ledger, book, state);
        }
        ledger.end_connections(Some(counting));
        ledger.share_connections();
    }

    fn of(ledger: &Ledger, at: usize) -> [Option<u64>; 2] {
        ledger.entities()[at].connections[Scope::Intranet as usize]
    }

    #[test]
    fn they_are_counted_afresh_and_what_was_there_once_is_zero_later() {
        let mut ledger = ledger();
        let open = |direction| socket(1, direction, TCP_ESTABLISHED);
        count(
            &mut ledger,
            &[open(OUTBOUND), open(OUTBOUND), open(INBOUND), socket(1, INBOUND, TCP_LISTEN), socket(2, OUTBOUND, 1)],
        );
        assert_eq!((of(&ledger, 1), of(&ledger, 2)), ([Some(1), Some(2)], [None, Some(1)]));
        count(&mut ledger, &[open(OUTBOUND)]);
        assert_eq!((of(&ledger, 1), of(&ledger, 2)), ([Some(0), Some(1)], [None, Some(0)]));
        ledger.end_connections(None);
        assert_eq!(of(&ledger, 1), [None, None]);
    }

    #[test]
    fn who_has_no_series_has_them_on_its_namespaces() {
        let mut ledger = ledger();
        let other = ledger.open(Identity::Other { namespace: None });
        ledger.entities[1].shown = false;
        count(&mut ledger, &[socket(1, INBOUND, TCP_ESTABLISHED), socket(2, INBOUND, TCP_ESTABLISHED)]);
        assert_eq!(of(&ledger, other), [Some(1), None]);
        assert_eq!(of(&ledger, 2), [Some(1), None]);
        // Once more, and after there is room again.
        ledger.share_connections();
        assert_eq!(of(&ledger, other), [Some(1), None]);
        ledger.entities[1].shown = true;
        ledger.share_connections();
        assert_eq!(of(&ledger, other), [Some(0), None]);
    }
}
