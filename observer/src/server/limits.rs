//! How much of the agent a client may take.

use std::time::Duration;

/// Bounds on connections and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time. One more closes another, that of the peer with the most connections.
    pub connections: usize,
    /// From the first byte of a request, or from the accept, to the end of its head.
    pub head: Duration,
    /// From the end of a request's head to the last byte of its response: longer than any scrape timeout in use.
    pub response: Duration,
    /// Between two requests of a connection: longer than any scrape interval in use, so that scrapers can stay.
    pub idle: Duration,
    /// How long a source may take for a page.
    pub page: Duration,
    /// For reading what a client still sends after the last response, so that it gets to see it.
    pub linger: Duration,
    /// For connections to end after the shutdown signal.
    pub grace: Duration,
    /// Bytes of a request's head; what hyper buffers of a connection.
    pub head_bytes: usize,
    /// Pages in memory at the same time because slow clients still read them.
    pub pages: usize,
    /// Bytes of the API's long answers in memory at the same time, for the same reason.
    pub answer_bytes: usize,
    /// How old a page may be that is handed out once more when there are as many; and for how long nobody is kept from reading a long answer
    /// for the sake of another.
    pub fresh: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head: Duration::from_secs(5),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(150),
            page: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            grace: Duration::from_millis(800),
            head_bytes: 16 * 1024,
            pages: 8,
            answer_bytes: 8 * 1024 * 1024,
            fresh: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// Those of the debug listener: a few people and their tools.
    pub fn of_api() -> Self {
        Self { connections: 48, ..Self::default() }
    }
}
