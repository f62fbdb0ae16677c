//! Clients that mean harm, or are broken.

use super::fixture::{PATIENCE, TestServer, TestSource, read_to_end};
use crate::server::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";

/// Sends a head that never ends, a few bytes at a time, and begins again a second after it was closed. From an address of
/// its own: 127.0.0.2.
async fn trickle(server: SocketAddr) {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        if let Ok(mut socket) = socket.connect(server).await {
            let mut sent = socket.write_all(b"GET /metrics HTTP/1.1\r\n").await;
            while sent.is_ok() {
                sleep(Duration::from_millis(200)).await;
                sent = socket.write_all(b"X: y\r\n").await;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Enough descriptors for `clients` and the rest of the tests, or as many as may be had.
fn clients_within_the_limit(clients: usize) -> usize {
    const OTHERS: u64 = 500;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = (clients as u64 + OTHERS).clamp(soft, hard.max(soft));
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).unwrap();
    clients.min((wanted - OTHERS.min(wanted / 2)) as usize)
}

#[tokio::test]
async fn a_thousand_slow_clients_neither_exhaust_descriptors_nor_keep_a_scraper_out() {
    // Time makes no room here.
    let limits = Limits { head: Duration::from_hours(1), ..Limits::default() };
    let server = TestServer::start(limits, TestSource::with_pages_of(200_000));
    let clients = clients_within_the_limit(1000);
    let mut attack = JoinSet::new();
    for _ in 0..clients {
        attack.spawn(trickle(server.address));
    }
    server.until_accepted(|unread| unread.len() >= limits.connections).await;
    for render in 1..=30 {
        let answer = server.get("/metrics").await;
        assert!(answer.status == 200 && answer.text() == server.source.page(render), "scrape {render}");
        let descriptors = server.accepted().len();
        assert!(descriptors <= limits.connections + 1, "{descriptors} descriptors for {clients} clients");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn who_had_to_wait_for_a_place_is_served() {
    let head = Duration::from_hours(1);
    let server = TestServer::start(Limits { connections: 1, head, ..Limits::default() }, TestSource::new());
    for render in 1..=50 {
        let mut slow = server.connect().await;
        slow.write_all(b"GET").await.unwrap();
        server.until_accepted(|unread| unread == [0]).await;
        assert_eq!(server.get("/metrics").await.text(), server.source.page(render));
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_ends_the_connection() {
    let head = Duration::from_millis(300);
    let server = TestServer::start(Limits { head, ..Limits::default() }, TestSource::new());
    let silent = server.connect().await;
    let mut trickling = server.connect().await;
    let closed = timeout(PATIENCE, async {
        // A byte each 20 ms must not put the end off.
        while trickling.write_all(b"G").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(closed.await.is_ok());
    assert_eq!(timeout(PATIENCE, { silent }.read(&mut [0])).await.unwrap().unwrap(), 0);
    server.until_accepted(<[u64]>::is_empty).await;
}

#[tokio::test]
async fn a_head_of_ten_megabytes_is_refused_with_431() {
    let server = TestServer::start(Limits::default(), TestSource::new());
    let mut socket = server.connect().await;
    let head = [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 10_000_000], b"\r\n\r\n"].concat();
    timeout(PATIENCE, socket.write_all(&head)).await.unwrap().unwrap();
    assert_eq!(read_to_end(socket).await.status, 431);
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    assert_eq!(server.exchange(&many).await.status, 431);
    assert_eq!(server.exchange(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000))).await.status / 100, 4);
    assert_eq!(server.exchange("\u{1}nonsense\r\n\r\n").await.status, 400);
    assert_eq!(server.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn who_does_not_read_its_response_is_closed_in_time() {
    let response = Duration::from_millis(300);
    let source = TestSource::with_pages_of(20_000_000);
    let server = TestServer::start(Limits { response, ..Limits::default() }, source);
    let mut socket = server.connect().await;
    socket.write_all(SCRAPE).await.unwrap();
    server.until_accepted(|unread| unread == [0]).await;
    server.until_accepted(<[u64]>::is_empty).await;
    let mut received = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut received)).await.unwrap();
    assert!(!received.is_empty() && received.len() < 20_000_000, "{} bytes", received.len());
}

#[tokio::test]
async fn clients_that_do_not_read_hold_few_pages_and_keep_nobody_out() {
    let limits = Limits { connections: 16, pages: 3, ..Limits::default() };
    let server = TestServer::start(limits, TestSource::with_pages_of(8_000_000));
    let mut sockets = Vec::new();
    for _ in 0..40 {
        let mut socket = server.connect().await;
        socket.write_all(SCRAPE).await.unwrap();
        timeout(PATIENCE, socket.peek(&mut [0])).await.unwrap().unwrap();
        sockets.push(socket);
    }
    let most = server.source.pages.1.load(Ordering::SeqCst);
    assert!(most <= 3, "{most} pages in memory");
    let answer = server.get("/metrics").await;
    assert!(answer.status == 200 && answer.body.len() > 8_000_000, "{} bytes", answer.body.len());
    let most = server.source.pages.1.load(Ordering::SeqCst);
    assert!(most <= 4, "{most} pages in memory");
}

#[tokio::test]
async fn pages_that_several_clients_share_and_do_not_read_are_few_too() {
    let limits = Limits { connections: 16, pages: 3, fresh: Duration::ZERO, ..Limits::default() };
    let source = TestSource { gate: Semaphore::new(0), ..TestSource::with_pages_of(8_000_000) };
    let server = TestServer::start(limits, source);
    let mut sockets = Vec::new();
    for _ in 0..10 {
        for _ in 0..3 {
            let mut socket = server.connect().await;
            socket.write_all(SCRAPE).await.unwrap();
            sockets.push(socket);
        }
        // All three wait for the page that is being made.
        server.until_accepted(|unread| !unread.is_empty() && unread.iter().all(|bytes| *bytes == 0)).await;
        server.source.gate.add_permits(1);
        for socket in sockets.iter().rev().take(3) {
            timeout(PATIENCE, socket.peek(&mut [0])).await.unwrap().unwrap();
        }
    }
    let most = server.source.pages.1.load(Ordering::SeqCst);
    assert!(most <= 4, "{most} pages in memory");
}
