//! `/api/v1/events`: a snapshot each second, as server-sent events, for as long as somebody listens.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use super::{ApiSource, SnapshotQuery, api::Refusal};
use axum::{
    body::Body,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, stream};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// What the answer is.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";
/// Between two events; a client that cannot follow gets fewer.
const EVERY: Duration = Duration::from_secs(1);
/// After how many milliseconds a client that lost the connection is to come again.
const RETRY_MS: u64 = 2000;

/// The answer, which has no end.
pub(super) fn response<S: ApiSource>(source: Arc<S>, query: SnapshotQuery) -> Response {
    let headers = [(CONTENT_TYPE, MEDIA_TYPE), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(events(source, query))).into_response()
}

fn events<S: ApiSource>(source: Arc<S>, query: SnapshotQuery) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = format!("retry: {RETRY_MS}\n\n");
    stream::unfold((ticks, start), move |(mut ticks, start)| {
        let (source, query) = (Arc::clone(&source), query.clone());
        async move {
            ticks.tick().await;
            let event = match source.snapshot(query) {
                Ok(answer) => event("snapshot", serde_json::to_string(&answer)),
                Err(error) => event("error", serde_json::to_string(&Refusal { error: &error })),
            };
            Some((Ok(Bytes::from(start + &event)), (ticks, String::new())))
        }
    })
}

/// JSON has no line breaks, so that each is one line of data.
fn event(name: &str, json: serde_json::Result<String>) -> String {
    let data =
        json.unwrap_or_else(|error| format!("{{\"error\":{{\"kind\":\"unavailable\",\"message\":\"{error}\"}}}}"));
    format!("event: {name}\ndata: {data}\n\n")
}
