//! The debug listener over real sockets.

use super::fixture::{Answer, PATIENCE, read_to_end};
use crate::{
    history::{
        ApiError, Growth, GrowthAnswer, GrowthQuery, HistoryAnswer, HistoryQuery, HistoryRow, KnownWorkload, Subject,
        WorkloadsAnswer,
    },
    server::{
        ApiSource, FlowsAnswer, FlowsQuery, Limits, Order, PairsAnswer, PairsQuery, ProgramsAnswer, SnapshotAnswer,
        SnapshotQuery, WhoisAnswer, WhoisQuery, bind, listen::serve_api_within,
    },
};
use std::{future::pending, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// Knows of one workload, and answers with what it was asked.
#[derive(Default)]
struct Books {
    windows: watch::Sender<()>,
}

impl ApiSource for Books {
    async fn history(&self, query: HistoryQuery) -> Result<HistoryAnswer, ApiError> {
        if query.subject != Subject::Node {
            return Err(ApiError::new("unknown_workload", "nobody of that name"));
        }
        Ok(HistoryAnswer {
            node: "node-7".into(),
            of: "node".into(),
            workload: None,
            metric: query.selection.to_string(),
            unit: query.selection.metric.unit().into(),
            step_seconds: query.step.map_or(0, crate::history::Step::seconds),
            since_unix_seconds: query.since_seconds,
            until_unix_seconds: 10,
            kept_in: "memory".into(),
            rows: vec![HistoryRow { time_unix_seconds: 3, covered_seconds: 1.0, value: 2.5 }],
        })
    }

    async fn history_workloads(&self) -> Result<WorkloadsAnswer, ApiError> {
        let workload = KnownWorkload {
            namespace: "shop".into(),
            workload: "web".into(),
            workload_type: "deployment".into(),
            last_seen_unix_seconds: 9,
        };
        Ok(WorkloadsAnswer { node: "node-7".into(), workloads: vec![workload] })
    }

    async fn growth(&self, query: GrowthQuery) -> Result<GrowthAnswer, ApiError> {
        Ok(GrowthAnswer {
            node: "node-7".into(),
            metric: query.metric.word().into(),
            unit: query.metric.unit().into(),
            since_unix_seconds: query.since_seconds,
            until_unix_seconds: 10,
            kept_in: "memory".into(),
            all: Growth::default(),
            workloads: Vec::new(),
            more: query.top,
        })
    }

    async fn flows(&self, query: FlowsQuery) -> Result<FlowsAnswer, ApiError> {
        Ok(FlowsAnswer { node: node(query.top), more: query.top, ..FlowsAnswer::default() })
    }

    async fn whois(&self, query: WhoisQuery) -> WhoisAnswer {
        WhoisAnswer {
            address: query.address.to_string(),
            at_unix_seconds: query.at_unix_seconds.unwrap_or(0),
            ..WhoisAnswer::default()
        }
    }

    fn pairs(&self, query: PairsQuery) -> PairsAnswer {
        PairsAnswer { node: "node-7".into(), more: query.top, ..PairsAnswer::default() }
    }

    /// Cannot be read for who asks for the memory.
    fn snapshot(&self, query: SnapshotQuery) -> Result<SnapshotAnswer, ApiError> {
        if query.sort == Order::Memory {
            return Err(ApiError::new("unavailable", "cannot read \"it\"\n"));
        }
        Ok(SnapshotAnswer { node: node(query.top), more: query.top, ..SnapshotAnswer::default() })
    }

    fn windows(&self) -> watch::Receiver<()> {
        self.windows.subscribe()
    }

    fn programs(&self) -> Result<ProgramsAnswer, ApiError> {
        Ok(ProgramsAnswer { node: "node-7".into(), ..ProgramsAnswer::default() })
    }
}

/// A name, for many rows as long as they would be.
fn node(rows: usize) -> String {
    "node-7".to_owned() + &" ".repeat(if rows > 1000 { rows * 300 } else { 0 })
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    books: Arc<Books>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::start_within(Limits::of_api())
    }

    pub(super) fn start_within(limits: Limits) -> Self {
        let listener = bind("--debug-listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::new(Books::default());
        let task = tokio::spawn(serve_api_within(limits, listener, Arc::clone(&books), pending()));
        Self { address, books, task }
    }

    pub(super) async fn exchange(&self, request: &str) -> Answer {
        let mut socket = timeout(PATIENCE, TcpStream::connect(self.address)).await.unwrap().unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        read_to_end(socket).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        let address = self.address;
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn kind(answer: &Answer) -> String {
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(json["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
    json["error"]["kind"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn rows_come_as_json_with_units_in_the_names() {
    let server = Server::start();
    let answer = server.get("/api/v1/history?workload=node&metric=egress_peak&since=30d&step=1h").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let read: HistoryAnswer = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((read.metric.as_str(), read.unit.as_str()), ("egress_peak", "bytes_per_second"));
    assert_eq!((read.step_seconds, read.since_unix_seconds), (3600, 30 * 86400));
    assert!(answer.text().contains("\"rows\":[{\"time_unix_seconds\":3,\"covered_seconds\":1.0,\"value\":2.5}]"));
    let known = server.get("/api/v1/history/workloads").await;
    let known: WorkloadsAnswer = serde_json::from_slice(&known.body).unwrap();
    assert_eq!(known.workloads[0].workload_type, "deployment");
}

#[tokio::test]
async fn pairs_come_as_many_as_were_asked_for() {
    let server = Server::start();
    let answer: PairsAnswer = serde_json::from_slice(&server.get("/api/v1/pairs?top=7").await.body).unwrap();
    assert_eq!((answer.node.as_str(), answer.more), ("node-7", 7));
    let wrong = server.get("/api/v1/pairs?top=none").await;
    assert_eq!((wrong.status, kind(&wrong).as_str()), (400, "wrong_query"));
}

#[tokio::test]
async fn who_has_an_address_is_asked_for_with_or_without_a_moment() {
    let server = Server::start();
    let answer = server.get("/api/v1/whois?address=10.244.0.7&at=1970-01-01T00:00:05Z").await;
    let answer: WhoisAnswer = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.address.as_str(), answer.at_unix_seconds), ("10.244.0.7", 5));
    for wrong in ["", "?address=web", "?address=10.0.0.1&at=noon", "?address=10.0.0.1&pod=x"] {
        let wrong = server.get(&format!("/api/v1/whois{wrong}")).await;
        assert_eq!((wrong.status, kind(&wrong).as_str()), (400, "wrong_query"));
    }
}

#[tokio::test]
async fn flows_come_as_they_were_asked_for() {
    let server = Server::start();
    let answer = server.get("/api/v1/flows?entity=shop%2Fweb-1&scope=internet&top=7&since=60s").await;
    let answer: FlowsAnswer = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.node.as_str(), answer.more), ("node-7", 7));
    let wrong = server.get("/api/v1/flows?scope=mars").await;
    assert_eq!((wrong.status, kind(&wrong).as_str()), (400, "wrong_query"));
}

#[tokio::test]
async fn a_wrong_question_is_told_what_would_be_right() {
    let server = Server::start();
    for (query, expected) in [
        ("", "workload is missing"),
        ("?workload=node", "metric is missing"),
        ("?workload=node&metric=egress_peak", "since is missing"),
        ("?workload=web&metric=egress_peak&since=1h", "NAMESPACE/NAME"),
        ("?workload=node&metric=egres&since=1h", "egress_peak"),
        ("?workload=node&metric=egress_peak&since=1w", "30d"),
        ("?workload=node&metric=egress_peak&since=0s", "30d"),
        ("?workload=node&metric=egress_peak&since=1h&step=5m", "1s, 1m or 1h"),
        ("?workload=node&metric=egress_peak&since=1h&callback=x", "callback"),
        ("?workload=node&metric=egress_peak&since=1h&since=2h", "since is there more than once"),
        ("?workload=node&metric=egress_peak&since=1h&workload_type=job", "workload=NAMESPACE/NAME"),
    ] {
        let answer = server.get(&format!("/api/v1/history{query}")).await;
        assert_eq!((answer.status, kind(&answer).as_str()), (400, "wrong_query"), "{query}");
        assert!(answer.text().contains(expected), "{query}: {}", answer.text());
    }
    let unknown = server.get("/api/v1/history?workload=shop%2Fweb&metric=load_mean&since=1h").await;
    assert_eq!((unknown.status, kind(&unknown).as_str()), (404, "unknown_workload"));
    let nowhere = server.get("/api/v2/history").await;
    assert_eq!((nowhere.status, kind(&nowhere).as_str()), (404, "not_found"));
}

#[tokio::test]
async fn a_page_that_calls_itself_by_a_name_is_refused() {
    let server = Server::start();
    let target = "/api/v1/history/workloads";
    for head in
        ["Host: evil.example\r\n", "Host: evil.example:9811\r\n", "", "Host: 127.0.0.1\r\nHost: evil.example\r\n"]
    {
        let answer = server.exchange(&format!("GET {target} HTTP/1.1\r\n{head}Connection: close\r\n\r\n")).await;
        assert_eq!((answer.status, kind(&answer).as_str()), (403, "wrong_host"), "{head:?}");
    }
    let absolute = format!("GET http://evil.example{target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    assert_eq!(server.exchange(&absolute).await.status, 403);
    for host in ["localhost:9811", "127.0.0.1:4000", "[::1]:9811"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(server.exchange(&request).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let server = Server::start();
    let target = "/api/v1/history/workloads";
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = server.exchange(&request).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method}");
    }
    let head = format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let head = server.exchange(&head).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let index = server.get("/api/v1").await;
    assert!(index.text().contains("/api/v1/history?") && index.text().contains("/api/v1/history/workloads"));
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_or_says_why_there_is_none() {
    let server = Server::start();
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    // What this test was built with decides which it is.
    if page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert!(page.text().contains("src=\"/page.js\"") && !page.text().contains("//"), "{}", page.text());
        assert_eq!(server.get("/page.js").await.header("content-type"), Some("text/javascript; charset=utf-8"));
    } else {
        assert!(page.text().contains("without npm") && page.text().contains("/api/v1"), "{}", page.text());
    }
    // Only for who calls this listener by an address.
    let other = server.exchange("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(other.status, 403);
}

/// Reads until a text is there.
async fn read_until(socket: &mut TcpStream, read: &mut String, text: &str) {
    let mut bytes = [0; 4096];
    while !read.contains(text) {
        let count = timeout(PATIENCE, socket.read(&mut bytes)).await.unwrap().unwrap();
        assert!(count > 0, "the end after {read:?}");
        read.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
}

#[tokio::test]
async fn events_come_one_after_the_other_and_an_error_is_an_event_too() {
    let server = Server::start();
    for (query, event) in [
        ("top=7", "event: snapshot\ndata: {"),
        ("sort=memory", "event: error\ndata: {\"error\":{\"kind\":\"unavailable\""),
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET /api/v1/events?{query} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut read = String::new();
        read_until(&mut socket, &mut read, "\n\n\r\n").await;
        assert!(
            read.contains("text/event-stream") && read.contains("retry: 2000\n\n") && read.contains(event),
            "{read}"
        );
        // None more before a window has ended, and then one.
        assert!(timeout(std::time::Duration::from_millis(50), socket.read_u8()).await.is_err());
        server.books.windows.send_replace(());
        let mut next = String::new();
        read_until(&mut socket, &mut next, "\n\n\r\n").await;
        assert!(next.contains(event) && !next.contains("retry"), "{next}");
    }
}

#[tokio::test]
async fn a_snapshot_is_sorted_by_what_there_is_and_nothing_else() {
    let server = Server::start();
    let answer: SnapshotAnswer = serde_json::from_slice(&server.get("/api/v1/snapshot?top=9").await.body).unwrap();
    assert_eq!((answer.node.as_str(), answer.more), ("node-7", 9));
    for wrong in ["sort=name", "top=0", "top=10001", "entity=", "colour=red", "top=1&top=2"] {
        for path in ["snapshot", "events"] {
            let answer = server.get(&format!("/api/v1/{path}?{wrong}")).await;
            assert_eq!((answer.status, kind(&answer).as_str()), (400, "wrong_query"), "{path}?{wrong}");
        }
    }
    let failed = server.get("/api/v1/snapshot?sort=memory").await;
    assert_eq!((failed.status, kind(&failed).as_str()), (503, "unavailable"));
    let programs: ProgramsAnswer = serde_json::from_slice(&server.get("/api/v1/programs").await.body).unwrap();
    assert_eq!(programs.node, "node-7");
}

#[tokio::test]
async fn what_takes_no_parameters_says_so() {
    let server = Server::start();
    for path in ["/api/v1/programs", "/api/v1/history/workloads", "/api/v1/openapi.json"] {
        let answer = server.get(&format!("{path}?top=3")).await;
        assert_eq!((answer.status, kind(&answer).as_str()), (400, "wrong_query"), "{path}");
        assert!(answer.text().contains(&format!("is no parameter of {path}; it has none")), "{}", answer.text());
    }
}
