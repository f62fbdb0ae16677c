//! The end of the server.

use super::fixture::{PATIENCE, TestServer, TestSource, read_to_end};
use crate::server::Limits;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn a_request_under_way_is_answered_and_nobody_else_is_let_in() {
    let limits = Limits { grace: PATIENCE, ..Limits::default() };
    let mut server = TestServer::start(limits, TestSource::gated());
    let mut under_way = server.connect().await;
    under_way.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    server.until_accepted(|unread| unread == [0]).await;
    server.shutdown.take().unwrap().send(()).unwrap();
    let refused = timeout(PATIENCE, async {
        while TcpStream::connect(server.address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(refused.await.is_ok());
    server.source.gate.add_permits(1);
    let answer = read_to_end(under_way).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    timeout(PATIENCE, &mut server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_do_not_end_are_ended() {
    let source = TestSource { gate: Semaphore::new(1), ..TestSource::with_pages_of(20_000_000) };
    let mut server = TestServer::start(Limits::default(), source);
    let mut slow = server.connect().await;
    slow.write_all(b"GET /met").await.unwrap();
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
    let mut unread = server.connect().await;
    unread.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    unread.readable().await.unwrap();
    let mut waiting = server.connect().await;
    waiting.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    server.until_accepted(|unread| unread == [0, 0, 0, 0]).await;
    server.shutdown.take().unwrap().send(()).unwrap();
    timeout(PATIENCE, &mut server.task).await.unwrap().unwrap();
    assert_eq!(server.source.renders(), 2);
    assert_eq!(Arc::strong_count(&server.source), 1, "the source is free");
    server.until_accepted(<[u64]>::is_empty).await;
}
