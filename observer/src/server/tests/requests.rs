//! What a well-behaved client gets.

use super::fixture::{Answer, PATIENCE, TestServer, TestSource, read_to_end};
use crate::server::Limits;
use flate2::read::GzDecoder;
use std::io::Read;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

fn server() -> TestServer {
    TestServer::start(Limits::default(), TestSource::new())
}

#[tokio::test]
async fn the_page_is_served_as_the_text_format() {
    let server = server();
    let answer = server.get("/metrics").await;
    assert_eq!((answer.status, answer.text()), (200, server.source.page(1).as_str()));
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
}

#[tokio::test]
async fn the_page_is_compressed_when_asked() {
    let server = TestServer::start(Limits::default(), TestSource::with_pages_of(300_000));
    let request = "GET /metrics HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip;q=0.8\r\nConnection: close\r\n\r\n";
    let answer = server.exchange(request).await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")));
    assert!(answer.body.len() < 100_000);
    let mut page = String::new();
    GzDecoder::new(&answer.body[..]).read_to_string(&mut page).unwrap();
    assert!(page == server.source.page(1), "not the page");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let server = server();
    let answer = server.exchange("HEAD /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-length"), Some(server.source.page(1).len().to_string().as_str()));
}

#[tokio::test]
async fn other_methods_are_told_which_are_allowed() {
    let server = server();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
        let answer = server.exchange(&format!("{method} /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method}: {answer:?}");
    }
    let answer = server.exchange("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!((answer.status, answer.header("connection")), (405, Some("close")));
    assert_eq!(server.source.renders(), 0);
}

#[tokio::test]
async fn a_body_is_refused_unread() {
    let server = server();
    let answer = server.exchange("GET /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    let chunked = server.exchange("GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    assert_eq!(chunked.status, 413);
    assert_eq!(server.source.renders(), 0);
}

#[tokio::test]
async fn the_other_routes_are_plain_text() {
    let server = server();
    for (path, status, begin) in [
        ("/", 200, "observer"),
        ("/healthz", 200, "ok\n"),
        ("/readyz", 200, "ready\n"),
        ("/metrics/", 404, "not found"),
    ] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.text().starts_with(begin)), (status, true), "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    let index = server.get("/").await;
    assert!(["/metrics", "/healthz", "/readyz"].iter().all(|route| index.text().contains(route)));
}

#[tokio::test]
async fn not_ready_says_what_is_missing_while_healthz_is_content() {
    let server = server();
    *server.source.missing.lock().unwrap() = Some("the first sample is not booked".to_owned());
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, answer.text()), (503, "not ready: the first sample is not booked\n"));
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request_and_pipelined_ones_are_answered_in_order() {
    let server = server();
    let mut socket = server.connect().await;
    for _ in 0..3 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let answer = read_one(&mut socket).await;
        assert_eq!((answer.status, answer.text()), (200, "ok\n"));
    }
    assert_eq!(server.accepted().len(), 1);
    let pipelined = "GET /metrics HTTP/1.1\r\n\r\nGET /readyz HTTP/1.1\r\n\r\nGET /nowhere HTTP/1.1\r\n\r\n";
    socket.write_all(pipelined.as_bytes()).await.unwrap();
    for (status, begin) in [(200, "# page 1\n"), (200, "ready\n"), (404, "not found")] {
        let answer = read_one(&mut socket).await;
        assert_eq!((answer.status, answer.text().starts_with(begin)), (status, true), "{answer:?}");
    }
}

/// One response of a connection that stays open.
async fn read_one(socket: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    loop {
        bytes.push(timeout(PATIENCE, socket.read_u8()).await.unwrap().unwrap());
        if bytes.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let length = Answer::parse(&bytes).header("content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    timeout(PATIENCE, socket.read_exact(&mut body)).await.unwrap().unwrap();
    bytes.extend(body);
    Answer::parse(&bytes)
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_but_not_after_that_of_a_head() {
    let (head, idle) = (Duration::from_millis(50), Duration::from_millis(600));
    let server = TestServer::start(Limits { head, idle, ..Limits::default() }, TestSource::new());
    let mut socket = server.connect().await;
    for _ in 0..2 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(read_one(&mut socket).await.status, 200);
        // Idle for longer than a head may take.
        tokio::time::sleep(3 * head).await;
    }
    assert_eq!(timeout(PATIENCE, socket.read(&mut [0])).await.unwrap().unwrap(), 0, "closed in the end");
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_its_answer() {
    let source = TestSource { gate: Semaphore::new(0), ..TestSource::with_pages_of(1_000_000) };
    let server = TestServer::start(Limits::default(), source);
    for version in ["1.0", "1.1"] {
        let mut socket = server.connect().await;
        socket.write_all(format!("GET /metrics HTTP/{version}\r\n\r\n").as_bytes()).await.unwrap();
        server.until_accepted(|unread| unread == [0]).await;
        socket.shutdown().await.unwrap();
        // Time for the server to see it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.source.gate.add_permits(1);
        let answer = read_to_end(socket).await;
        assert!(answer.status == 200 && answer.body.len() > 1_000_000, "{version}: {} bytes", answer.body.len());
    }
}
