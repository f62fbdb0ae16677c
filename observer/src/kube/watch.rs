//! The watch of this node's pods.

use super::{Ailment, Pod, Pulse, pod::PrunedPod};
use crate::causes;
use futures::{Stream, StreamExt as _};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use std::pin::Pin;

/// How long the server keeps a watch open; five seconds more without a word and the connection counts as dead.
const WATCH_SECONDS: u32 = 60;

/// What the watch tells.
#[derive(Clone, Debug)]
pub enum PodEvent {
    /// A new list begins.
    Begin,
    /// A pod of the list.
    Listed(Pod),
    /// The list is complete.
    Done,
    /// A pod was made or has changed.
    Changed(Pod),
    /// A pod was deleted.
    Deleted(Pod),
}

/// The stream of events; it never ends, and waits ever longer between two attempts, up to half a minute.
pub struct PodWatch {
    stream: Pin<Box<dyn Stream<Item = watcher::Result<watcher::Event<PrunedPod>>> + Send>>,
    pulse: Pulse,
}

impl PodWatch {
    /// Watches the pods of `node`.
    pub fn new(client: Client, node: &str, pulse: Pulse) -> Self {
        let config =
            watcher::Config::default().fields(&format!("spec.nodeName={node}")).any_semantic().timeout(WATCH_SECONDS);
        // In one piece and so from the server's cache: asked for by pages, the list would come from etcd.
        let config = watcher::Config { page_size: None, ..config };
        let stream = watcher(Api::<PrunedPod>::all(client), config).default_backoff();
        Self { stream: Box::pin(stream), pulse }
    }

    /// The next event. Errors go to the pulse, which says them once.
    pub async fn next(&mut self) -> PodEvent {
        loop {
            let event = tokio::select! {
                event = self.stream.next() => event,
                () = self.pulse.calm(), if !self.pulse.is_up() => continue,
            };
            match event {
                Some(Ok(event)) => return self.told(event),
                Some(Err(error)) => self.pulse.failed(ailment(&error), &reason(&error)),
                // It does not end; if it did, there would be nothing more to come.
                None => std::future::pending().await,
            }
        }
    }

    fn told(&self, event: watcher::Event<PrunedPod>) -> PodEvent {
        if !matches!(event, watcher::Event::Init) {
            self.pulse.well();
        }
        match event {
            watcher::Event::Init => PodEvent::Begin,
            watcher::Event::InitApply(pod) => PodEvent::Listed(pod.pod),
            watcher::Event::InitDone => PodEvent::Done,
            watcher::Event::Apply(pod) => PodEvent::Changed(pod.pod),
            watcher::Event::Delete(pod) => PodEvent::Deleted(pod.pod),
        }
    }
}

/// In which way it failed.
fn ailment(error: &watcher::Error) -> Ailment {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(status) => return Ailment::Refused(status.code),
        watcher::Error::NoResourceVersion => return Ailment::Garbled,
    };
    match cause {
        kube::Error::Api(status) => Ailment::Refused(status.code),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Ailment::Garbled,
        _ => Ailment::Unreachable,
    }
}

/// One line that says what was tried and why it failed.
fn reason(error: &watcher::Error) -> String {
    let (what, cause) = match error {
        watcher::Error::InitialListFailed(cause) => ("list pods", cause),
        watcher::Error::WatchStartFailed(cause) => ("watch pods", cause),
        watcher::Error::WatchFailed(cause) => ("read the watch of pods", cause),
        watcher::Error::WatchError(status) if status.code == 410 => {
            return "the watch is too old for the server (410 Gone); listing anew".into();
        }
        watcher::Error::WatchError(status) => return format!("cannot watch pods: {}", status.message),
        watcher::Error::NoResourceVersion => return "cannot list pods: the answer has no resource version".into(),
    };
    match cause {
        kube::Error::Api(status) if status.code == 403 && status.message.contains("system:anonymous") => {
            format!(
                "may not {what}: the server knows nobody by these credentials, or the kubeconfig has none ({})",
                status.message
            )
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!("may not {what} ({}); grant list and watch of pods, see docs/security.md", status.message)
        }
        kube::Error::Api(status) if status.code == 401 => {
            format!("cannot {what}: not authenticated (401); the token is wrong or has expired")
        }
        kube::Error::Api(status) => format!("cannot {what}: {} ({})", status.message, status.code),
        other => format!("cannot {what}: {}", causes::in_one_line(other)),
    }
}
