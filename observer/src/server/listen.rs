//! Accepting connections, never more than the cap, until the shutdown signal.

use super::answers::Answers;
use super::connection;
use super::connections::Connections;
use super::flight::Flights;
use super::{ApiSource, Limits, Source, api, routes};
use axum::Router;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Between two attempts when the kernel has no descriptor or no memory for a connection.
const RETRY: Duration = Duration::from_millis(100);

/// Serves the metrics routes until `shutdown` completes; open requests then have less than a second to end. When this
/// returns, the port is free and nothing here holds the source.
pub async fn serve<S: Source>(listener: TcpListener, source: Arc<S>, shutdown: impl Future<Output = ()>) {
    serve_within(Limits::default(), listener, source, shutdown).await;
}

/// [`serve`] with other limits.
pub async fn serve_within<S: Source>(
    limits: Limits,
    listener: TcpListener,
    source: Arc<S>,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Arc::new(Connections::default());
    let flights = Arc::new(Flights::new(source, Arc::clone(&connections), limits));
    answer_all(limits, listener, connections, routes::router(Arc::clone(&flights)), shutdown).await;
    flights.stop().await;
}

/// Serves the routes of the debug listener until `shutdown` completes, as [`serve`] does.
pub async fn serve_api<S: ApiSource>(listener: TcpListener, source: Arc<S>, shutdown: impl Future<Output = ()>) {
    serve_api_within(Limits::of_api(), listener, source, shutdown).await;
}

/// [`serve_api`] with other limits.
pub(super) async fn serve_api_within<S: ApiSource>(
    limits: Limits,
    listener: TcpListener,
    source: Arc<S>,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Arc::new(Connections::default());
    let answers = Arc::new(Answers::new(Arc::clone(&connections), limits));
    answer_all(limits, listener, connections, api::router(source, answers), shutdown).await;
}

/// Accepts connections and answers their requests by the router. When this returns, no connection is open.
async fn answer_all(
    limits: Limits,
    listener: TcpListener,
    connections: Arc<Connections>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let (close, closing) = watch::channel(false);
    let free = Arc::new(Semaphore::new(limits.connections));
    let mut door = Door { listener, connections, free, waiting: None, failing: false };
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            (socket, peer, permit) = door.accept() => {
                let (member, router, closing) = (door.connections.enter(peer), router.clone(), closing.clone());
                tasks.spawn(async move {
                    connection::serve(socket, member, router, limits, closing).await;
                    drop(permit);
                });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
    drop(door);
    close.send_replace(true);
    let _ = timeout(limits.grace, async { while tasks.join_next().await.is_some() {} }).await;
    // What has not ended by then is ended.
    tasks.shutdown().await;
}

struct Door {
    listener: TcpListener,
    connections: Arc<Connections>,
    free: Arc<Semaphore>,
    /// Accepted, but without a place yet. Kept here, because [`Door::accept`] is dropped whenever something else happens.
    waiting: Option<(TcpStream, SocketAddr)>,
    /// The last accept failed: told once.
    failing: bool,
}

impl Door {
    /// The next connection, with its place under the cap: when there is none free, another connection has to go, and is
    /// gone when this returns. So there is at most one descriptor more than the cap.
    async fn accept(&mut self) -> (TcpStream, IpAddr, OwnedSemaphorePermit) {
        loop {
            if self.waiting.is_none() {
                self.waiting = Some(self.next().await);
            }
            if self.free.available_permits() == 0 {
                self.connections.evict();
            }
            let place = Arc::clone(&self.free).acquire_owned().await;
            // The semaphore is never closed, and there is a connection: this is the first round.
            if let (Ok(permit), Some((socket, peer))) = (place, self.waiting.take()) {
                return (socket, peer.ip(), permit);
            }
        }
    }

    /// The next connection that the kernel has.
    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(connection) => {
                    self.failing = false;
                    return connection;
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    if !self.failing {
                        tracing::warn!(%error, "cannot accept connections; trying again");
                        self.failing = true;
                    }
                    // No descriptor, no memory: somebody has to make room.
                    self.connections.evict();
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// The connection was already gone: no reason to wait.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
