//! Answers in memory, since those who asked still read them: not more than some megabytes of them all, however slowly they read.

use super::api::Api;
use super::connections::{Connections, lock};
use super::limits::Limits;
use crate::history::ApiError;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header::RETRY_AFTER};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::Body as _;
use std::sync::{Arc, Mutex};

/// Smaller ones are not counted: there are not more of them than connections.
const SMALL_BYTES: usize = 16 * 1024;

/// All of them.
#[derive(Debug)]
pub(super) struct Answers {
    connections: Arc<Connections>,
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Bytes in memory.
    bytes: usize,
    /// One waits for room: no other does, so that not all that wait are in memory.
    waits: bool,
}

impl Answers {
    pub(super) fn new(connections: Arc<Connections>, limits: Limits) -> Self {
        Self { connections, limits, taken: Mutex::default() }
    }

    /// The answer, once there is room for it. In its place, if there is none, the advice to come again. Answers whose end is not known go as
    /// they are: their parts are held one by one.
    pub(super) async fn admit(self: &Arc<Self>, answer: Response) -> Response {
        let size = answer.body().size_hint().exact().map_or(0, |size| size as usize);
        if size < SMALL_BYTES {
            return answer;
        }
        let (head, body) = answer.into_parts();
        match to_bytes(body, size).await {
            Ok(bytes) => match self.hold(bytes).await {
                Some(bytes) => Response::from_parts(head, Body::from(bytes)),
                None => full(),
            },
            Err(error) => Api::<()>(Err(ApiError::new("unavailable", error.to_string()))).into_response(),
        }
    }

    /// The bytes, once there is room for them: who has been reading for the longest makes room, but nobody who only began.
    pub(super) async fn hold(self: &Arc<Self>, bytes: Bytes) -> Option<Bytes> {
        if bytes.len() < SMALL_BYTES {
            return Some(bytes);
        }
        let room = self.room(bytes.len()).await?;
        Some(Bytes::from_owner(Held { bytes, _room: room }))
    }

    async fn room(self: &Arc<Self>, size: usize) -> Option<Room> {
        if let Some(room) = self.take(size) {
            return Some(room);
        }
        if std::mem::replace(&mut lock(&self.taken).waits, true) {
            return None;
        }
        let _waiting = Waiting(self);
        for _ in 0..self.limits.connections {
            if !self.connections.evict_slowest_reader(self.limits.fresh) {
                break;
            }
            tokio::task::yield_now().await;
            if let Some(room) = self.take(size) {
                return Some(room);
            }
        }
        None
    }

    /// One that is larger than all may be together has to be alone.
    fn take(self: &Arc<Self>, size: usize) -> Option<Room> {
        let mut taken = lock(&self.taken);
        let fits = taken.bytes == 0 || taken.bytes + size <= self.limits.answer_bytes;
        fits.then(|| {
            taken.bytes += size;
            Room { answers: Arc::clone(self), size }
        })
    }
}

/// Admits the answer to a request, unless only its head was asked for.
pub(super) async fn admit(State(answers): State<Arc<Answers>>, request: Request, next: Next) -> Response {
    let is_head = request.method() == Method::HEAD;
    let answer = next.run(request).await;
    if is_head { answer } else { answers.admit(answer).await }
}

fn full() -> Response {
    let why = "too many long answers are still being read; ask again in a second, or for less with top=";
    let mut refusal = Api::<()>(Err(ApiError::new("unavailable", why))).into_response();
    refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    refusal
}

/// What an answer takes.
struct Room {
    answers: Arc<Answers>,
    size: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        lock(&self.answers.taken).bytes -= self.size;
    }
}

struct Waiting<'a>(&'a Answers);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.taken).waits = false;
    }
}

/// An answer's bytes, and the room they take until the last of them has gone to the kernel.
struct Held {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
