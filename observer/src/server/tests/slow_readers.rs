//! Clients of the debug listener that take their time.

use super::{api::Server, fixture::PATIENCE};
use crate::server::Limits;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn slow_clients_do_not_keep_others_waiting() {
    let server = Server::start();
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut socket = timeout(PATIENCE, TcpStream::connect(server.address)).await.unwrap().unwrap();
        // One that was closed for another may be told so.
        let _ = socket.write_all(b"GET /api/v1/his").await;
        slow.push(socket);
    }
    let answer = timeout(PATIENCE, server.get("/api/v1/history/workloads")).await.unwrap();
    assert_eq!(answer.status, 200);
}

const LONG: usize = 3_000_000;
const REQUEST: &[u8] = b"GET /api/v1/flows?top=10000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// Asks for a long answer, and reads no more of it than its status.
async fn ask(server: &Server) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(REQUEST).await.unwrap();
    let mut first = [0; 12];
    timeout(PATIENCE, socket.read_exact(&mut first)).await.unwrap().unwrap();
    (socket, String::from_utf8_lossy(&first).into_owned())
}

/// Whether all of a long answer comes.
async fn is_whole(mut socket: TcpStream) -> bool {
    let (mut count, mut piece) = (0, vec![0; 1 << 20]);
    while let Ok(Ok(more @ 1..)) = timeout(PATIENCE, socket.read(&mut piece)).await {
        count += more;
        if count > LONG {
            return true;
        }
    }
    false
}

/// Slow readers of long answers: as many of those as fit stay, whoever asks next gets an answer, and they can be read to their end.
#[tokio::test]
async fn long_answers_that_nobody_reads_do_not_fill_the_memory() {
    let server = Server::start_within(Limits { fresh: Duration::ZERO, ..Limits::of_api() });
    let mut slow = Vec::new();
    for _ in 0..20 {
        let (socket, status) = ask(&server).await;
        assert_eq!(status, "HTTP/1.1 200", "each is answered when it asks");
        slow.push(socket);
    }
    let answer = server.get("/api/v1/history/workloads").await;
    assert_eq!(answer.status, 200, "short ones are not concerned");
    let mut whole = Vec::new();
    for socket in slow {
        whole.push(is_whole(socket).await);
    }
    assert_eq!(whole.iter().filter(|whole| **whole).count(), 2, "as many as fit into eight megabytes: {whole:?}");
    assert_eq!(whole[18..], [true, true], "those who asked last");
    let answer = timeout(PATIENCE, server.get("/api/v1/flows?top=10000")).await.unwrap();
    assert!(answer.status == 200 && answer.body.len() > LONG, "there is room again");
}

/// Nobody who only began to read is cut off for another, who is told to come again.
#[tokio::test]
async fn who_only_began_to_read_is_not_cut_off() {
    let server = Server::start_within(Limits { fresh: PATIENCE, ..Limits::of_api() });
    let (one, other) = (ask(&server).await, ask(&server).await);
    let refused = server.get("/api/v1/flows?top=10000").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("\"unavailable\""), "{}", refused.text());
    let head =
        server.exchange("HEAD /api/v1/flows?top=10000 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for path in ["/api/v1/openapi.json", "/"] {
        assert_eq!(server.get(path).await.status, 200, "{path} is in memory anyway");
    }
    assert!(is_whole(one.0).await && is_whole(other.0).await);
}

/// Events are answers, too, and a snapshot of thousands is a long one.
#[tokio::test]
async fn events_that_nobody_reads_are_held_within_the_same_bounds() {
    let server = Server::start_within(Limits { fresh: Duration::ZERO, ..Limits::of_api() });
    let mut listeners = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(b"GET /api/v1/events?top=10000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        timeout(PATIENCE, socket.read_exact(&mut first)).await.unwrap().unwrap();
        listeners.push(socket);
    }
    let mut whole = 0;
    for socket in listeners {
        whole += usize::from(timeout(Duration::from_secs(2), is_whole(socket)).await.unwrap_or(false));
    }
    assert_eq!(whole, 2, "so many of 20 had their event in memory");
}
