//! A server to test, a client that sees every byte, and the kernel's own view of the server's sockets.

use crate::server::{Limits, Source, bind, serve_within};
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt::Write;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A source that counts its renderings.
pub(super) struct TestSource {
    /// How many pages were asked for.
    pub(super) renders: AtomicU64,
    /// How many pages may be finished; closed: the source fails.
    pub(super) gate: Semaphore,
    /// Bytes of a page.
    pub(super) page_bytes: usize,
    /// What is missing.
    pub(super) missing: Mutex<Option<String>>,
    /// The pages in memory, and the most there were.
    pub(super) pages: Arc<(AtomicU64, AtomicU64)>,
}

impl TestSource {
    pub(super) fn new() -> Self {
        Self::with_pages_of(100)
    }

    pub(super) fn with_pages_of(page_bytes: usize) -> Self {
        Self {
            renders: AtomicU64::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            page_bytes,
            missing: Mutex::new(None),
            pages: Arc::default(),
        }
    }

    /// A source that finishes no page before the test says so.
    pub(super) fn gated() -> Self {
        Self { gate: Semaphore::new(0), ..Self::new() }
    }

    pub(super) fn renders(&self) -> u64 {
        self.renders.load(Ordering::SeqCst)
    }

    /// The text of a page.
    pub(super) fn page(&self, render: u64) -> String {
        let mut page = format!("# page {render}\n");
        while page.len() < self.page_bytes {
            writeln!(page, "some_family_total{{label=\"{}\"}} {render}", page.len()).unwrap();
        }
        page
    }
}

/// A page that is counted as long as it is in memory.
struct CountedPage(String, Arc<(AtomicU64, AtomicU64)>);

impl AsRef<[u8]> for CountedPage {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Drop for CountedPage {
    fn drop(&mut self) {
        self.1.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Source for TestSource {
    async fn metrics(&self) -> Result<Bytes, String> {
        let render = self.renders.fetch_add(1, Ordering::SeqCst) + 1;
        let Ok(permit) = self.gate.acquire().await else { return Err("the gate is closed".to_owned()) };
        permit.forget();
        let now = self.pages.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.pages.1.fetch_max(now, Ordering::SeqCst);
        Ok(Bytes::from_owner(CountedPage(self.page(render), Arc::clone(&self.pages))))
    }

    fn ready(&self) -> Result<(), String> {
        self.missing.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

/// A server that runs until it is dropped or told to shut down.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    pub(super) source: Arc<TestSource>,
    pub(super) shutdown: Option<oneshot::Sender<()>>,
    pub(super) task: JoinHandle<()>,
}

impl TestServer {
    pub(super) fn start(limits: Limits, source: TestSource) -> Self {
        let listener =
            TcpListener::from_std(bind("--metrics-listen", "127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, down) = oneshot::channel();
        let source = Arc::new(source);
        let task = tokio::spawn(serve_within(limits, listener, Arc::clone(&source), async {
            if down.await.is_err() {
                pending::<()>().await;
            }
        }));
        Self { address, source, shutdown: Some(shutdown), task }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        timeout(PATIENCE, TcpStream::connect(self.address)).await.unwrap().unwrap()
    }

    /// Sends `request` on a connection of its own and reads until the server closes it.
    pub(super) async fn exchange(&self, request: &str) -> Answer {
        let mut socket = self.connect().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        read_to_end(socket).await
    }

    /// A GET that ends its connection.
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await
    }

    /// The connections for which the server has a descriptor, by the bytes that it has not read yet: from the kernel.
    pub(super) fn accepted(&self) -> Vec<u64> {
        let local = format!("0100007F:{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        // A listener is in state 0A; what waits for the accept, or has been closed, has no inode. The table is read in
        // pieces, so that a row can be there twice.
        let rows = rows.filter(|row| row[1] == local && row[3] != "0A" && row[9] != "0");
        let unread = |queues: &str| u64::from_str_radix(queues.split_once(':').unwrap().1, 16).unwrap();
        let by_inode: HashMap<String, u64> = rows.map(|row| (row[9].to_owned(), unread(row[4]))).collect();
        by_inode.into_values().collect()
    }

    /// Waits until the accepted connections are as `wanted`.
    pub(super) async fn until_accepted(&self, wanted: impl Fn(&[u64]) -> bool) {
        let seen = timeout(PATIENCE, async {
            while !wanted(&self.accepted()) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(seen.await.is_ok(), "accepted connections: {:?}", self.accepted());
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn read_to_end(mut socket: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    Answer::parse(&bytes)
}

/// A response, read by hand.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Lower case names.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let head_end = head_end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let head = str::from_utf8(&bytes[..head_end]).unwrap();
        let (status_line, headers) = head.split_once("\r\n").unwrap();
        let headers = headers.lines().map(|line| line.split_once(": ").unwrap());
        Self {
            status: status_line.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: bytes[head_end + 4..].to_vec(),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}
