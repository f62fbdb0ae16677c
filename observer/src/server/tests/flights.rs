//! Concurrent scrapes.

use super::fixture::{PATIENCE, TestServer, TestSource, read_to_end};
use crate::server::Limits;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
const COMPRESSED: &[u8] = b"GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn concurrent_scrapes_share_one_rendering_and_the_next_is_a_new_one() {
    let server = TestServer::start(Limits::default(), TestSource::gated());
    let mut sockets = Vec::new();
    for at in 0..50 {
        let mut socket = server.connect().await;
        socket.write_all(if at % 2 == 0 { SCRAPE } else { COMPRESSED }).await.unwrap();
        sockets.push(socket);
    }
    // Every request has been read, so every one waits for the page.
    server.until_accepted(|unread| unread.len() == 50 && unread.iter().all(|bytes| *bytes == 0)).await;
    server.source.gate.add_permits(Semaphore::MAX_PERMITS);
    let mut compressed = Vec::new();
    for socket in sockets {
        let answer = read_to_end(socket).await;
        assert_eq!(answer.status, 200);
        match answer.header("content-encoding") {
            None => assert_eq!(answer.text(), server.source.page(1)),
            Some(_) => compressed.push(answer.body),
        }
    }
    assert_eq!(compressed.len(), 25);
    assert!(compressed.iter().all(|body| *body == compressed[0]));
    assert_eq!(server.source.renders(), 1);
    assert_eq!(server.get("/metrics").await.text(), server.source.page(2), "read afresh");
}

#[tokio::test]
async fn who_stops_waiting_does_not_stop_the_others() {
    let server = TestServer::start(Limits::default(), TestSource::gated());
    let mut gone = server.connect().await;
    gone.write_all(SCRAPE).await.unwrap();
    server.until_accepted(|unread| unread == [0]).await;
    let mut stays = server.connect().await;
    stays.write_all(SCRAPE).await.unwrap();
    server.until_accepted(|unread| unread == [0, 0]).await;
    drop(gone);
    server.source.gate.add_permits(1);
    assert_eq!(read_to_end(stays).await.text(), server.source.page(1));
}

#[tokio::test]
async fn no_page_is_kept_after_its_last_reader() {
    let server = TestServer::start(Limits::default(), TestSource::new());
    for _ in 0..3 {
        server.get("/metrics").await;
    }
    let pages = &server.source.pages;
    let freed = timeout(PATIENCE, async {
        while pages.0.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert!(freed.await.is_ok(), "a page is still in memory");
}

#[tokio::test]
async fn a_source_that_fails_or_hangs_is_a_503_that_says_so() {
    let page = Duration::from_millis(50);
    let server = TestServer::start(Limits { page, ..Limits::default() }, TestSource::gated());
    let answer = server.get("/metrics").await;
    assert_eq!((answer.status, answer.text()), (503, "no metrics: the page took too long; see the agent's log\n"));
    server.source.gate.close();
    let answer = server.get("/metrics").await;
    assert_eq!((answer.status, answer.text()), (503, "no metrics: the gate is closed\n"));
}
