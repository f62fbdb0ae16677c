//! What is answered where.

use super::Source;
use super::encoding::wants_gzip;
use super::flight::Flights;
use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// The text format that Prometheus asks for.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = "\
observer: every byte and every task-second of this node, by cgroup

/metrics  the books, in the Prometheus text format
/healthz  200 while the agent runs
/readyz   200 when its programs are attached and the first sample is booked
";

/// The routes of the metrics listener. GET and HEAD only.
pub(super) fn router<S: Source>(flights: Arc<Flights<S>>) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(async || (StatusCode::NOT_FOUND, "not found; see / for what there is\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n"))
        .with_state(flights)
}

async fn metrics<S: Source>(State(flights): State<Arc<Flights<S>>>, headers: HeaderMap) -> Response {
    const VARIES: (HeaderName, &str) = (VARY, "Accept-Encoding");
    match flights.page().await {
        Ok(page) if wants_gzip(&headers) => {
            let page = page.gzip().await;
            ([(CONTENT_TYPE, TEXT_FORMAT), VARIES, (CONTENT_ENCODING, "gzip")], page).into_response()
        }
        Ok(page) => ([(CONTENT_TYPE, TEXT_FORMAT), VARIES], page.text()).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("no metrics: {why}\n")).into_response(),
    }
}

async fn ready<S: Source>(State(flights): State<Arc<Flights<S>>>) -> Response {
    match flights.source().ready() {
        Ok(()) => "ready\n".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")).into_response(),
    }
}
