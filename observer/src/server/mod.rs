//! The metrics listener (first light: one request at a time; the real one is on its way).

use bytes::Bytes;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// What is served.
pub trait Source: Send + Sync + 'static {
    /// The page.
    fn metrics(&self) -> impl Future<Output = Result<Bytes, String>> + Send;
    /// Whether the agent counts.
    fn ready(&self) -> Result<(), String>;
}

/// Serves until `stop`.
pub async fn serve<S: Source>(listener: TcpListener, source: Arc<S>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    tokio::pin!(stop);
    loop {
        let (mut stream, _) = tokio::select! {
            () = &mut stop => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        let mut request = [0; 2048];
        let _ = stream.read(&mut request).await;
        let body = source.metrics().await.unwrap_or_default();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&body).await;
    }
}
