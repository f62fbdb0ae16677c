//! The open connections: what each is doing since when, and which has to go when there is one too many.
//!
//! The peer with the most connections loses one: a scraper has one or two, however many an attacker has. Of a peer's,
//! those go first that can be closed without loss: the oldest that has not sent a whole request head, then the oldest
//! that is idle, then the one that has been reading its response for the longest.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a connection is doing; the order is that in which they are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// A request's head is expected or on its way.
    Head,
    /// Between two requests.
    Idle,
    /// A response without an end is being sent: whoever listens comes again.
    Stream,
    /// A response is being made or sent.
    Response,
}

/// A connection as the others see it.
#[derive(Debug)]
pub(super) struct Connection {
    peer: IpAddr,
    state: Mutex<State>,
    evicted: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// All of the response has been given to hyper, which may still have to send some.
    body_ended: bool,
    /// Since when there is always a part of a response that has not gone to the kernel, since its client has not read what went before.
    unread: Option<Instant>,
}

impl State {
    fn begun(phase: Phase) -> Self {
        Self { phase, since: Instant::now(), body_ended: false, unread: None }
    }

    fn pass(&mut self, from: Phase, to: Phase) {
        if self.phase == from {
            *self = Self::begun(to);
        }
    }
}

impl Connection {
    fn new(peer: IpAddr) -> Self {
        Self { peer, state: Mutex::new(State::begun(Phase::Head)), evicted: Notify::new() }
    }

    /// What it is doing and since when.
    pub(super) fn phase(&self) -> (Phase, Instant) {
        let state = lock(&self.state);
        (state.phase, state.since)
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        lock(&self.state).pass(Phase::Idle, Phase::Head);
    }

    /// A request's head is complete.
    pub(super) fn requested(&self) {
        *lock(&self.state) = State::begun(Phase::Response);
    }

    /// The response that comes has no end.
    pub(super) fn streams(&self) {
        lock(&self.state).pass(Phase::Response, Phase::Stream);
    }

    /// A part of a response was taken: of one that has no end, time counts from there.
    pub(super) fn went_on(&self) {
        let (mut state, now) = (lock(&self.state), Instant::now());
        state.unread.get_or_insert(now);
        if state.phase == Phase::Stream {
            state.since = now;
        }
    }

    /// The response's body has no more to give.
    pub(super) fn body_ended(&self) {
        lock(&self.state).body_ended = true;
    }

    /// Everything that was written has gone to the kernel.
    pub(super) fn flushed(&self) {
        let state = &mut *lock(&self.state);
        state.unread = None;
        if state.body_ended {
            state.pass(Phase::Response, Phase::Idle);
            state.pass(Phase::Stream, Phase::Idle);
        }
    }

    /// Whether some of a response waits for its client to read.
    pub(super) fn has_unread(&self) -> bool {
        lock(&self.state).unread.is_some()
    }

    /// Returns when the connection has to go.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<Vec<Arc<Connection>>>,
}

impl Connections {
    /// Adds a connection, until the returned membership is dropped.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Membership {
        let connection = Arc::new(Connection::new(peer));
        lock(&self.open).push(Arc::clone(&connection));
        Membership { connections: Arc::clone(self), connection }
    }

    /// Asks the least missed connection to close.
    pub(super) fn evict(&self) {
        let open = lock(&self.open);
        let mut of_peer = HashMap::<IpAddr, u32>::new();
        for connection in &*open {
            *of_peer.entry(connection.peer).or_default() += 1;
        }
        let most_dispensable = |connection: &&Arc<Connection>| (Reverse(of_peer[&connection.peer]), connection.phase());
        if let Some(connection) = open.iter().min_by_key(most_dispensable) {
            connection.evicted.notify_one();
        }
    }

    /// Asks the connection to close whose client has been reading what there is for the longest, and at least for so long. False if there is
    /// none.
    pub(super) fn evict_slowest_reader(&self, unread_for: Duration) -> bool {
        let open = lock(&self.open);
        let unread = open.iter().filter_map(|connection| Some((lock(&connection.state).unread?, connection)));
        let slowest = unread.filter(|(since, _)| since.elapsed() >= unread_for).min_by_key(|(since, _)| *since);
        slowest.is_some_and(|(_, connection)| {
            connection.evicted.notify_one();
            true
        })
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Membership {
    connections: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        lock(&self.connections.open).retain(|connection| !Arc::ptr_eq(connection, &self.connection));
    }
}

/// What is locked here stays whole even if a holder panicked: every change is a single assignment or call.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(member: &Membership) -> bool {
        use std::future::Future;
        let evicted = std::pin::pin!(member.connection.evicted());
        evicted.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    /// Evicts one after the other and tells their places in `members` at that moment.
    fn evict_all(connections: &Connections, mut members: Vec<Membership>) -> Vec<usize> {
        let mut order = Vec::new();
        while !members.is_empty() {
            connections.evict();
            let evicted: Vec<usize> = (0..members.len()).filter(|at| is_evicted(&members[*at])).collect();
            let [evicted] = evicted[..] else { panic!("{evicted:?} at once") };
            members.remove(evicted);
            order.push(evicted);
        }
        order
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_peer_who_is_missed_least_goes_first() {
        let connections = Arc::new(Connections::default());
        let mut members = Vec::new();
        for _ in 0..5 {
            members.push(connections.enter(PEER));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // The first reads its response, two are idle, two have not sent a head.
        members[0].connection.requested();
        for member in &members[1..3] {
            member.connection.requested();
            member.connection.body_ended();
            member.connection.flushed();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(evict_all(&connections, members), [3, 3, 1, 1, 0]);
        assert!(lock(&connections.open).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_without_an_end_goes_before_others_and_is_as_old_as_its_last_part() {
        let connections = Arc::new(Connections::default());
        let members: Vec<_> = (0..3).map(|_| connections.enter(PEER)).collect();
        for member in &members {
            member.connection.requested();
        }
        members[1].connection.streams();
        members[2].connection.streams();
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        for member in &members {
            member.connection.went_on();
        }
        assert_eq!(members[0].connection.phase(), (Phase::Response, start));
        assert_eq!(members[1].connection.phase(), (Phase::Stream, start + Duration::from_secs(5)));
        // A HEAD has no body: the next request of the connection is one like any other.
        members[2].connection.body_ended();
        members[2].connection.flushed();
        assert_eq!(members[2].connection.phase().0, Phase::Idle);
        members[2].connection.requested();
        assert_eq!(members[2].connection.phase().0, Phase::Response);
        assert_eq!(evict_all(&connections, members), [1, 0, 0]);
    }

    /// Neither who waits for an answer nor who has read all that there was so far.
    #[tokio::test(start_paused = true)]
    async fn the_slowest_reader_is_who_has_not_read_all_for_the_longest() {
        let connections = Arc::new(Connections::default());
        let members: Vec<_> = (0..4).map(|_| connections.enter(PEER)).collect();
        for member in &members {
            member.connection.requested();
        }
        members[3].connection.streams();
        for member in members[1..].iter().rev() {
            member.connection.went_on();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        members[3].connection.flushed();
        assert!(!connections.evict_slowest_reader(Duration::from_secs(3)));
        assert!(members.iter().all(|member| !is_evicted(member)));
        assert!(connections.evict_slowest_reader(Duration::from_secs(2)));
        let evicted: Vec<_> = members.iter().map(is_evicted).collect();
        assert_eq!(evicted, [false, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_peer_with_the_most_connections_loses_one() {
        let connections = Arc::new(Connections::default());
        let mut members = vec![connections.enter(OTHER)];
        for _ in 0..3 {
            tokio::time::advance(Duration::from_millis(1)).await;
            members.push(connections.enter(PEER));
            members.last().unwrap().connection.requested();
        }
        // Though the other's is older and has not sent its head; with one each, that counts.
        assert_eq!(evict_all(&connections, members), [1, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_ends_when_it_is_flushed_and_the_next_request_begins_with_its_first_byte() {
        let connections = Arc::new(Connections::default());
        let member = connections.enter(PEER);
        let connection = &member.connection;
        let phase = || connection.phase().0;
        connection.received();
        connection.flushed();
        assert_eq!(phase(), Phase::Head);
        connection.requested();
        connection.flushed();
        assert_eq!(phase(), Phase::Response, "a head alone is no response");
        connection.body_ended();
        connection.flushed();
        assert_eq!(phase(), Phase::Idle);
        connection.received();
        assert_eq!(phase(), Phase::Head);
    }
}
