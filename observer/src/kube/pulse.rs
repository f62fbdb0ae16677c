//! Whether the API server tells of pods: every request for them passes here, and so does every error of the watch.
//!
//! An answer alone does not mean that all is well, since a server may answer and then send garbage: only an answer after
//! which nothing went wrong for a moment does. So a server that flaps is told once, not every time.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// An answer, to its head.
    pub answer: Duration,
    /// Nothing may go wrong for so long after an answer.
    pub calm: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(10), calm: Duration::from_secs(2) }
    }
}

/// In which way something is wrong. The words of an error change from one try to the next while nothing else does: a
/// connection is reset, then refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// No answer, or none that came to its end.
    Unreachable,
    /// An answer that says no, by its status.
    Refused(u16),
    /// An answer that nobody can read.
    Garbled,
}

/// The server's pulse, shared by whoever asks it and whoever tells of it.
#[derive(Clone, Debug)]
pub struct Pulse {
    state: Arc<Mutex<State>>,
    patience: Patience,
}

#[derive(Debug, Default)]
struct State {
    up: bool,
    /// When the server answered, if nothing has gone wrong since.
    answered: Option<Instant>,
    /// What was last said to be wrong.
    complaint: Option<(Ailment, String)>,
    failures: u64,
}

impl Pulse {
    /// The pulse of a server that has not been asked anything yet.
    pub fn new(patience: Patience) -> Self {
        Self { state: Arc::default(), patience }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was last said to be wrong, if it still is.
    pub fn complaint(&self) -> Option<String> {
        self.lock().complaint.as_ref().map(|(_, said)| said.clone())
    }

    /// Why nothing at all can be had from the server. One that refuses a list, or finds a watch too old, may grant the rest.
    pub fn silence(&self) -> Option<String> {
        let state = self.lock();
        match &state.complaint {
            Some((Ailment::Refused(code), _)) if *code != 401 && *code < 500 => None,
            Some((_, said)) => Some(said.clone()),
            None => (!state.up).then(|| "the API server has not answered yet".to_owned()),
        }
    }

    /// Whether the server answers.
    pub fn is_up(&self) -> bool {
        self.lock().up
    }

    /// How often something went wrong.
    pub fn failures(&self) -> u64 {
        self.lock().failures
    }

    /// Something went wrong. Says so unless that has been said of the same ailment already.
    pub fn failed(&self, ailment: Ailment, reason: &str) {
        let mut state = self.lock();
        state.failures += 1;
        state.answered = None;
        let news = state.up || state.complaint.as_ref().is_none_or(|(known, _)| *known != ailment);
        state.up = false;
        if news {
            state.complaint = Some((ailment, reason.to_owned()));
            tracing::warn!(
                "the API server cannot tell of this node's pods: {reason}; counting goes on, and new pods go by their uid until it can"
            );
        }
    }

    /// A complete list or an event of the watch has come: all is well.
    pub fn well(&self) {
        Self::rise(&mut self.lock());
    }

    fn rise(state: &mut State) {
        if !state.up {
            state.up = true;
            state.complaint = None;
            tracing::info!("the API server tells of this node's pods");
        }
        state.answered = None;
    }

    fn answered(&self) {
        let mut state = self.lock();
        if !state.up {
            state.answered.get_or_insert_with(Instant::now);
        }
    }

    /// Returns when an answer has been followed by calm, and the server counts as up again.
    pub async fn calm(&self) {
        loop {
            let since = self.lock().answered;
            match since {
                Some(since) if since.elapsed() >= self.patience.calm => return Self::rise(&mut self.lock()),
                Some(since) => tokio::time::sleep_until(since + self.patience.calm).await,
                None => tokio::time::sleep(self.patience.calm / 4).await,
            }
        }
    }
}

/// Puts the pulse between the client and its connection.
#[derive(Clone, Debug)]
pub(super) struct PulseLayer(pub(super) Pulse);

/// A client's service with a pulse.
#[derive(Clone, Debug)]
pub(super) struct Watched<S> {
    inner: S,
    pulse: Pulse,
}

impl<S> Layer<S> for PulseLayer {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Watched { inner, pulse: self.0.clone() }
    }
}

impl<S, Q, B> Service<http::Request<Q>> for Watched<S>
where
    S: Service<http::Request<Q>, Response = http::Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = http::Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        // Whoever tells of other things may not tell of pods.
        let is_about_pods = request.uri().path() == "/api/v1/pods";
        let (answer, pulse) = (self.inner.call(request), self.pulse.clone());
        Box::pin(async move {
            match tokio::time::timeout(pulse.patience.answer, answer).await {
                Ok(Ok(response)) => {
                    if is_about_pods && response.status().is_success() {
                        pulse.answered();
                    }
                    Ok(response)
                }
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(format!("no answer within {} s", pulse.patience.answer.as_secs_f32()).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ailment_is_complained_of_once_however_its_words_change() {
        let pulse = Pulse::new(Patience::default());
        pulse.failed(Ailment::Unreachable, "reset");
        pulse.failed(Ailment::Unreachable, "refused");
        assert_eq!(pulse.complaint().as_deref(), Some("reset"));
        pulse.failed(Ailment::Refused(410), "too old");
        assert_eq!(pulse.complaint().as_deref(), Some("too old"));
        pulse.well();
        assert_eq!((pulse.complaint(), pulse.failures()), (None, 3));
        pulse.failed(Ailment::Unreachable, "refused");
        assert_eq!(pulse.complaint().as_deref(), Some("refused"), "after it was well it is news again");
    }
}
