//! `/api/v1/events`: a snapshot of each window, as server-sent events, for as long as somebody listens.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use super::{
    ApiSource, SnapshotQuery,
    answers::Answers,
    api::{Api, Refusal},
};
use crate::history::ApiError;
use axum::{
    body::Body,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, stream};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// What the answer is.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";
/// After how many milliseconds a client that lost the connection is to come again.
const RETRY_MS: u64 = 2000;

/// When an event for which there was no room is made anew.
const SOON: Duration = Duration::from_secs(1);

/// The answer, which has no end.
pub(super) fn response<S: ApiSource>(
    source: Arc<S>,
    query: Result<SnapshotQuery, ApiError>,
    answers: Arc<Answers>,
) -> Response {
    match query {
        Ok(query) => {
            let headers = [(CONTENT_TYPE, MEDIA_TYPE), (CACHE_CONTROL, "no-store")];
            (headers, Body::from_stream(events(source, query, answers))).into_response()
        }
        Err(error) => Api::<()>(Err(error)).into_response(),
    }
}

/// One at once, and then one with each window that ends; a client that cannot follow gets fewer.
fn events<S: ApiSource>(
    source: Arc<S>,
    query: SnapshotQuery,
    answers: Arc<Answers>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let windows = source.windows();
    let start = Some(format!("retry: {RETRY_MS}\n\n"));
    stream::unfold((windows, start), move |(mut windows, start)| {
        let (source, query, answers) = (Arc::clone(&source), query.clone(), Arc::clone(&answers));
        async move {
            if start.is_none() {
                // There is no other end than the agent's.
                windows.changed().await.ok()?;
            }
            loop {
                let event = match source.snapshot(query.clone()) {
                    Ok(answer) => event("snapshot", serde_json::to_string(&answer)),
                    Err(error) => event("error", serde_json::to_string(&Refusal { error: &error })),
                };
                let event = start.clone().unwrap_or_default() + &event;
                if let Some(held) = answers.hold(Bytes::from(event.into_boxed_str().into_boxed_bytes())).await {
                    return Some((Ok(held), (windows, None)));
                }
                tokio::time::sleep(SOON).await;
            }
        }
    })
}

/// JSON has no line breaks, so that each is one line of data.
fn event(name: &str, json: serde_json::Result<String>) -> String {
    match json {
        Ok(data) => format!("event: {name}\ndata: {data}\n\n"),
        Err(error) => {
            tracing::error!(%error, "no JSON of an event");
            String::new()
        }
    }
}
