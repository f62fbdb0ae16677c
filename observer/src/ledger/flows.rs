//! Where each entity's bytes went to and came from, by far end: what sockets carried, as they closed or when they were looked at.

use super::{EntityId, Interval, Ledger, behind::Socket, tenancies::Target};
use indexmap::IndexMap;
use observer_ebpf::{
    Scope, Traffic,
    flows::{AddressWords, FlowKey, FlowSum, OUTBOUND, SocketBook, SocketState, TCP, is_connection},
};
use std::collections::HashMap;

/// Flows that are kept where nothing else is said.
pub const DEFAULT_MAX_FLOWS: usize = 65_536;

/// Which flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Whose.
    pub entity: EntityId,
    /// The far end's address, IPv4 mapped into IPv6; zeroes for all that there was no room for.
    pub remote: AddressWords,
    /// The far end's port of an outbound flow, this end's of an inbound one.
    pub port: u16,
    /// The protocol's number.
    pub protocol: u8,
    /// [`OUTBOUND`] or [`INBOUND`](observer_ebpf::flows::INBOUND).
    pub direction: u8,
    /// The number of its [`Scope`].
    pub scope: u8,
    /// Whose address it was then; 0 as long as nobody was asked.
    pub tenancy: u32,
}

impl Flow {
    fn of_rest(self) -> Self {
        Self { remote: [0; 2], port: 0, tenancy: 0, ..self }
    }

    /// The same, whoever had the address.
    #[must_use]
    pub fn of_anyone(self) -> Self {
        Self { tenancy: 0, ..self }
    }

    /// Whether it is what there was no room for.
    pub fn is_rest(&self) -> bool {
        self.remote == [0; 2] && self.port == 0
    }
}

/// What a flow carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowBooks {
    /// L3 bytes and packets.
    pub traffic: Traffic,
    /// TCP connections that came to be.
    pub connections: u64,
    /// TCP connections that did not.
    pub failed: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Microseconds of smoothed round trips, together, and how many connections had one.
    pub round_trips: (u64, u64),
    /// When it last carried something, as far as that is known, by the clock of the agent.
    pub active_ns: u64,
    /// By when it had begun, in seconds of Unix time; 0 before it has.
    pub begun_unix_seconds: u64,
}

impl FlowBooks {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        let Traffic { transmit_bytes, transmit_packets, receive_bytes, receive_packets } = &mut self.traffic;
        // What a socket hands over while another CPU adds to it may come in two parts, one of which is less than nothing.
        for (sum, part) in [
            (transmit_bytes, other.traffic.transmit_bytes),
            (transmit_packets, other.traffic.transmit_packets),
            (receive_bytes, other.traffic.receive_bytes),
            (receive_packets, other.traffic.receive_packets),
        ] {
            *sum = sum.wrapping_add(part);
        }
        self.connections += other.connections;
        self.failed += other.failed;
        self.retransmits += other.retransmits;
        self.round_trips.0 += other.round_trips.0;
        self.round_trips.1 += other.round_trips.1;
        self.active_ns = self.active_ns.max(other.active_ns);
        self.begun_unix_seconds = match (self.begun_unix_seconds, other.begun_unix_seconds) {
            (0, begun) | (begun, 0) => begun,
            (one, another) => one.min(another),
        };
    }

    /// Both ways.
    pub fn bytes(&self) -> u64 {
        let bytes = self.traffic.transmit_bytes.wrapping_add(self.traffic.receive_bytes);
        u64::try_from(bytes.cast_signed()).unwrap_or(0)
    }
}

/// What has been told of flows.
#[derive(Debug)]
pub(super) struct Flows {
    books: IndexMap<Flow, FlowBooks>,
    most: usize,
    forgotten: u64,
    renamed: u64,
}

impl Default for Flows {
    fn default() -> Self {
        Self { books: IndexMap::new(), most: DEFAULT_MAX_FLOWS, forgotten: 0, renamed: 0 }
    }
}

/// The part of the flows that makes room when there is none: the smallest.
const PART: usize = 4;

impl Flows {
    fn add(&mut self, flow: Flow, books: &FlowBooks) {
        if let Some(known) = self.books.get_mut(&flow) {
            known.merge(books);
            return;
        }
        if self.books.len() >= self.most {
            self.make_room();
        }
        let is_full = self.books.len() >= self.most && !flow.is_rest();
        if is_full {
            self.forgotten += 1;
        }
        self.books.entry(if is_full { flow.of_rest() } else { flow }).or_default().merge(books);
    }

    /// Adds the smallest flows to what is known of their entities otherwise: their far ends are forgotten, not their bytes.
    fn make_room(&mut self) {
        // What is kept apart by who may have had the address is one flow.
        let mut sums: HashMap<Flow, u64> = HashMap::new();
        for (flow, books) in self.books.iter().filter(|(flow, _)| flow.tenancy != 0) {
            *sums.entry(flow.of_anyone()).or_default() += books.bytes();
        }
        let size = |flow: &Flow, books: &FlowBooks| {
            let of_all = if flow.tenancy == 0 { None } else { sums.get(&flow.of_anyone()) };
            of_all.copied().unwrap_or_else(|| books.bytes())
        };
        let mut sizes: Vec<_> =
            self.books.iter().filter(|(flow, _)| !flow.is_rest()).map(|(flow, books)| size(flow, books)).collect();
        let part = sizes.len() / PART;
        if part == 0 {
            return;
        }
        let (_, largest, _) = sizes.select_nth_unstable(part - 1);
        let (largest, mut left) = (*largest, part);
        let small: Vec<_> = self
            .books
            .extract_if(.., |flow, books| {
                let goes = left > 0 && !flow.is_rest() && size(flow, books) <= largest;
                left -= usize::from(goes);
                goes
            })
            .collect();
        self.forgotten += small.len() as u64;
        for (flow, books) in small {
            self.books.entry(flow.of_rest()).or_default().merge(&books);
        }
    }

    /// One entity has become another.
    pub(super) fn rename(&mut self, from: EntityId, to: EntityId) {
        let moved: Vec<_> = self.books.extract_if(.., |flow, _| flow.entity == from).collect();
        self.renamed += u64::from(!moved.is_empty());
        for (flow, books) in moved {
            self.books.entry(Flow { entity: to, ..flow }).or_default().merge(&books);
        }
    }

    /// What was booked as one tenancy's is another's.
    fn apply(&mut self, moves: &HashMap<(AddressWords, u32), Target>) {
        let moves_to = |flow: &Flow, books: &FlowBooks| {
            let target = moves.get(&(flow.remote, flow.tenancy)).filter(|_| !flow.is_rest())?;
            let tenancy = target.of(books.begun_unix_seconds);
            (tenancy != flow.tenancy).then_some(tenancy)
        };
        let taken: Vec<_> = self.books.extract_if(.., |flow, books| moves_to(flow, books).is_some()).collect();
        for (flow, books) in taken {
            let tenancy = moves_to(&flow, &books).unwrap_or(flow.tenancy);
            self.books.entry(Flow { tenancy, ..flow }).or_default().merge(&books);
        }
    }

    /// Forgets the flows of entities that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(EntityId) -> bool) {
        self.books.retain(|flow, _| is_there(flow.entity));
    }
}

/// Whether a socket is a TCP connection that is there, and that somebody holds.
pub(super) fn is_open_connection(book: &SocketBook, state: &SocketState) -> bool {
    book.protocol == TCP && !book.is_released() && is_connection(state.state)
}

/// How open connections of a flow are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenConnections {
    /// How many there are.
    pub count: u64,
    /// Microseconds of smoothed round trips, together, and how many connections have one.
    pub round_trips: (u64, u64),
}

/// The flows at a moment.
#[derive(Clone, Debug, Default)]
pub struct FlowView {
    /// When that was.
    pub at_ns: u64,
    /// Bytes sent and received since the agent started, whoever had the far end's address.
    bytes: HashMap<Flow, [u64; 2]>,
    /// Flows with open connections.
    open: HashMap<Flow, OpenConnections>,
    /// Open sockets that may speak to services, and whose they are.
    may_be_to_services: HashMap<Socket, Vec<EntityId>>,
    /// How often flows had gone to another entity.
    renamed: u64,
}

impl FlowView {
    /// One that is yet to be filled.
    pub fn at(at_ns: u64) -> Self {
        Self { at_ns, ..Self::default() }
    }

    /// Notes an open socket.
    pub fn note(&mut self, ledger: &Ledger, book: &SocketBook, state: &SocketState) {
        let flow = ledger.flow_of(&book.flow(), 0);
        // Which addresses are services' may not be known yet.
        let is_out = [Scope::Loopback, Scope::Internet].iter().any(|scope| flow.scope == *scope as u8);
        if flow.direction == OUTBOUND && !is_out {
            let Flow { entity, remote, port, protocol, .. } = flow;
            let socket = Socket { protocol, local_port: book.local_port, remote, port };
            self.may_be_to_services.entry(socket).or_default().push(entity);
        }
        if is_open_connection(book, state) {
            let open = self.open.entry(flow).or_default();
            open.count += 1;
            open.round_trips.0 += u64::from(state.round_trip_us);
            open.round_trips.1 += u64::from(state.round_trip_us != 0);
        }
    }

    /// The open connections of a flow, whoever has the far end's address.
    pub fn open(&self, flow: &Flow) -> OpenConnections {
        self.open.get(&flow.of_anyone()).copied().unwrap_or_default()
    }

    /// Whose open sockets those are.
    pub(super) fn owners_of(&self, socket: Socket) -> &[EntityId] {
        self.may_be_to_services.get(&socket).map_or(&[], Vec::as_slice)
    }

    /// The view as the one before the next: what only the present is asked for is gone.
    #[must_use]
    pub fn passed(self) -> Self {
        Self { may_be_to_services: HashMap::new(), ..self }
    }

    /// Bytes sent and received between a view and this one, whoever has the far end's address. Of what there was no room for, nobody knows.
    pub fn bytes_since(&self, before: &Self, flow: &Flow) -> [u64; 2] {
        let flow = &flow.of_anyone();
        let now = self.bytes.get(flow).copied().unwrap_or_default();
        let then = match before.bytes.get(flow) {
            Some(then) => *then,
            // It may have been another's.
            None if flow.is_rest() || self.renamed != before.renamed => return [0; 2],
            None => [0; 2],
        };
        if flow.is_rest() { [0; 2] } else { [now[0].saturating_sub(then[0]), now[1].saturating_sub(then[1])] }
    }
}

impl Ledger {
    /// How many flows are kept at most.
    pub fn keep_flows(&mut self, most: usize) {
        self.flows.most = most;
    }

    /// Every flow that is kept, in no order.
    pub fn flows(&self) -> impl Iterator<Item = (&Flow, &FlowBooks)> {
        self.flows.books.iter()
    }

    /// Flows whose far ends were forgotten, since there were more than are kept.
    pub fn flows_forgotten(&self) -> u64 {
        self.flows.forgotten
    }

    pub(super) fn book_flows(&mut self, flows: &[(FlowKey, FlowSum)], carried: Option<Interval>, now_ns: u64) {
        if !flows.is_empty() {
            self.settle_far_ends();
        }
        let now = self.tenancies.latest_unix_seconds();
        let Interval { from, until } = carried.unwrap_or(Interval { from: now, until: now });
        for (key, sum) in flows {
            let tenancy = self.tenancies.booked_under(key.remote, from);
            let flow = self.flow_of(key, tenancy);
            let books = FlowBooks {
                traffic: sum.traffic,
                connections: sum.connections,
                failed: sum.failed,
                retransmits: sum.retransmits,
                round_trips: (sum.round_trips_us, sum.round_trips),
                active_ns: now_ns,
                begun_unix_seconds: until,
            };
            self.flows.add(flow, &books);
        }
    }

    /// Takes note of what all flows have carried by now.
    pub fn complete(&self, view: &mut FlowView) {
        view.renamed = self.flows.renamed;
        for (flow, FlowBooks { traffic, .. }) in &self.flows.books {
            let bytes = view.bytes.entry(flow.of_anyone()).or_default();
            *bytes = [bytes[0].wrapping_add(traffic.transmit_bytes), bytes[1].wrapping_add(traffic.receive_bytes)];
        }
    }

    /// Moves what was booked to whose it is known to be by now.
    pub fn settle_far_ends(&mut self) {
        let moves = self.tenancies.take_moves();
        if !moves.is_empty() {
            self.flows.apply(&moves);
        }
    }

    fn flow_of(&self, key: &FlowKey, tenancy: u32) -> Flow {
        Flow {
            entity: self.entities[self.known(key.cgroup)].id,
            remote: key.remote,
            port: key.port,
            protocol: key.protocol,
            direction: key.direction,
            scope: key.scope,
            tenancy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_ebpf::flows::{INBOUND, TCP_CLOSE, TCP_LISTEN, TCP_SYN_SENT};

    fn flow(entity: u64, remote: u64) -> Flow {
        let remote = [0, remote];
        Flow { entity: EntityId(entity), remote, port: 443, protocol: TCP, direction: OUTBOUND, scope: 5, tenancy: 0 }
    }

    fn carried(bytes: u64) -> FlowBooks {
        let traffic = Traffic { transmit_bytes: bytes, transmit_packets: 1, ..Traffic::default() };
        FlowBooks { traffic, connections: 1, ..FlowBooks::default() }
    }

    fn totals(flows: &Flows) -> (u64, u64) {
        let sum = |of: fn(&FlowBooks) -> u64| flows.books.values().map(of).sum();
        (sum(FlowBooks::bytes), sum(|books| books.connections))
    }

    #[test]
    fn where_there_is_no_room_the_smallest_lose_their_far_ends_and_no_byte_is_lost() {
        let mut flows = Flows { most: 8, ..Flows::default() };
        for remote in 1..=100 {
            flows.add(flow(remote % 2, remote), &carried(remote));
            // Always the largest.
            flows.add(flow(0, 1000), &carried(500));
            assert!(flows.books.len() <= 8 + 1, "{}", flows.books.len());
        }
        assert_eq!(totals(&flows), (5050 + 50_000, 200));
        assert_eq!(flows.books[&flow(0, 1000)].bytes(), 50_000);
        let rest = |entity| flows.books.get(&flow(entity, 0).of_rest()).map_or(0, |books| books.connections);
        assert_eq!(rest(0) + rest(1), flows.forgotten);
        assert!(rest(0) > 0 && rest(1) > 0);
    }

    #[test]
    fn who_gets_a_name_keeps_its_flows_and_who_is_gone_has_none() {
        let mut flows = Flows::default();
        for (entity, bytes) in [(1, 10), (2, 20), (3, 40)] {
            flows.add(flow(entity, 7), &carried(bytes));
        }
        flows.rename(EntityId(1), EntityId(2));
        assert_eq!((flows.books.len(), flows.books[&flow(2, 7)].bytes()), (2, 30));
        flows.retain(|entity| entity == EntityId(3));
        assert_eq!(totals(&flows), (40, 1));
    }

    #[test]
    fn what_comes_in_two_parts_one_of_which_is_less_than_nothing_is_what_it_is_together() {
        let mut flows = Flows::default();
        flows.add(flow(1, 7), &carried(100_u64.wrapping_neg()));
        flows.add(flow(1, 7), &carried(150));
        assert_eq!(flows.books[&flow(1, 7)].bytes(), 50);
    }

    #[test]
    fn a_flow_has_begun_when_the_first_of_its_parts_had() {
        let mut flows = Flows::default();
        for begun_unix_seconds in [90, 80, 85] {
            flows.add(flow(1, 7), &FlowBooks { begun_unix_seconds, ..carried(10) });
        }
        assert_eq!(flows.books[&flow(1, 7)].begun_unix_seconds, 80);
    }

    #[test]
    fn an_open_socket_is_a_connection_if_it_is_one() {
        let ledger = Ledger::default();
        let book = SocketBook {
            remote: [0, 7],
            remote_port: 443,
            local_port: 40_000,
            protocol: TCP,
            direction: OUTBOUND,
            ..SocketBook::default()
        };
        let state = SocketState { state: 1, round_trip_us: 40, ..SocketState::default() };
        let noted = |book: &SocketBook, state: &SocketState| {
            let mut view = FlowView::default();
            view.note(&ledger, book, state);
            view.open.into_iter().next().map(|(flow, open)| (flow.port, open.count, open.round_trips))
        };
        assert_eq!(noted(&book, &state), Some((443, 1, (40, 1))));
        assert_eq!(noted(&SocketBook { direction: INBOUND, ..book }, &state).unwrap().0, 40_000);
        for (book, state) in [
            (SocketBook { marks: observer_ebpf::flows::RELEASED, ..book }, 1),
            (SocketBook { protocol: 17, ..book }, 1),
            (book, TCP_CLOSE),
            (book, TCP_LISTEN),
            (book, TCP_SYN_SENT),
        ] {
            assert_eq!(noted(&book, &SocketState { state, ..SocketState::default() }), None, "{book:?}, {state}");
        }
    }

    #[test]
    fn what_is_between_two_views_is_what_was_added_but_not_what_was_moved() {
        let mut ledger = Ledger::default();
        let viewed = |ledger: &Ledger| {
            let mut view = FlowView::default();
            ledger.complete(&mut view);
            view
        };
        ledger.flows.add(flow(1, 7), &carried(100));
        let first = viewed(&ledger);
        ledger.flows.add(flow(1, 7), &carried(30));
        ledger.flows.add(flow(1, 8), &carried(5));
        ledger.flows.add(flow(1, 0).of_rest(), &carried(1000));
        let second = viewed(&ledger);
        let since = |remote| second.bytes_since(&first, &flow(1, remote));
        assert_eq!((since(7), since(8), since(9)), ([30, 0], [5, 0], [0, 0]));
        assert_eq!(second.bytes_since(&first, &flow(1, 0).of_rest()), [0, 0]);
        ledger.flows.rename(EntityId(1), EntityId(2));
        assert_eq!(viewed(&ledger).bytes_since(&second, &flow(2, 7)), [0, 0]);
    }
}
