//! An API server that does what a test says.

use crate::kube::{Access, Connection, Patience, WantedRanges};
use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    convert::Infallible,
    io::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Fine,
    /// With this status to everything.
    Refusing(u16),
    /// With a status of success, and then something that is no JSON.
    Babbling,
    /// Not at all.
    Hanging,
}

#[derive(Default)]
struct State {
    mood: Mood,
    pods: HashMap<String, Value>,
    /// Other objects by their path.
    objects: HashMap<String, Value>,
    /// Paths that are forbidden.
    forbidden: Vec<String>,
    asked: Vec<String>,
    watches: Vec<mpsc::UnboundedSender<Bytes>>,
    version: u64,
}

/// A server on the loopback.
pub(super) struct TestServer {
    state: Arc<Mutex<State>>,
    kubeconfig: tempfile::NamedTempFile,
    task: JoinHandle<()>,
}

impl TestServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                let answer = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), answer));
            }
        });
        let mut kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        kubeconfig.write_all(config.to_string().as_bytes()).unwrap();
        Self { state, kubeconfig, task }
    }

    pub(super) async fn connect(&self) -> Connection {
        self.connect_wanting(WantedRanges { cluster: true, service: true }).await
    }

    pub(super) async fn connect_wanting(&self, wanted: WantedRanges) -> Connection {
        let access = Access::find(Some(self.kubeconfig.path())).await.unwrap().unwrap();
        let patience = Patience { answer: Duration::from_millis(500), calm: Duration::from_millis(200) };
        access.connect("node-7", wanted, patience).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn become_(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Ends every watch, as a server does that goes down.
    pub(super) fn drop_watches(&self) {
        self.lock().watches.clear();
    }

    pub(super) fn forbid(&self, path: &str) {
        self.lock().forbidden.push(path.to_owned());
    }

    pub(super) fn put_object(&self, path: &str, object: Value) {
        self.lock().objects.insert(path.to_owned(), object);
    }

    /// Makes or changes a pod, and tells who watches.
    pub(super) fn put(&self, pod: Value) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        let pod = with_version(pod, version);
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let kind = if state.pods.insert(uid, pod.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        state.tell(&json!({"type": kind, "object": pod}));
    }

    /// Deletes a pod, and tells who watches.
    pub(super) fn delete(&self, uid: &str) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        let pod = with_version(state.pods.remove(uid).unwrap(), version);
        state.tell(&json!({"type": "DELETED", "object": pod}));
    }

    /// Deletes a pod while nobody looks.
    pub(super) fn delete_unseen(&self, uid: &str) {
        self.lock().pods.remove(uid).unwrap();
    }

    /// Tells who watches something of the test's own.
    pub(super) fn tell(&self, event: &Value) {
        self.lock().tell(event);
    }

    /// What it was asked, path and query.
    pub(super) fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn tell(&mut self, event: &Value) {
        let line = Bytes::from(format!("{event}\n"));
        self.watches.retain(|watch| watch.send(line.clone()).is_ok());
    }
}

fn with_version(mut pod: Value, version: u64) -> Value {
    pod["metadata"]["resourceVersion"] = json!(version.to_string());
    pod
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mood = {
        let mut state = state.lock().unwrap();
        state.asked.push(request.uri().to_string());
        state.mood.clone()
    };
    let path = request.uri().path();
    Ok(match mood {
        Mood::Hanging => std::future::pending().await,
        Mood::Babbling => json_response(StatusCode::OK, Body::from("<html>")),
        Mood::Refusing(code) => refusal(code),
        Mood::Fine if state.lock().unwrap().forbidden.iter().any(|forbidden| path.starts_with(forbidden.as_str())) => {
            refusal(403)
        }
        Mood::Fine if path == "/api/v1/pods" => pods(&mut state.lock().unwrap(), request.uri().query().unwrap_or("")),
        Mood::Fine => match state.lock().unwrap().objects.get(path) {
            Some(object) => json_response(StatusCode::OK, Body::from(object.to_string())),
            None => refusal(404),
        },
    })
}

fn pods(state: &mut State, query: &str) -> Response<Body> {
    if query.contains("watch=true") {
        let (sender, mut events) = mpsc::unbounded_channel();
        state.watches.push(sender);
        let stream = futures::stream::poll_fn(move |cx| events.poll_recv(cx)).map(Ok::<_, Infallible>);
        return json_response(StatusCode::OK, Body::from_stream(stream));
    }
    let selector = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "fieldSelector");
    let is_selected = |pod: &&Value| {
        let (field, value) = selector.as_ref().and_then(|(_, text)| text.split_once('=')).unwrap_or_default();
        match field {
            "status.podIP" => pod["status"]["podIP"] == value,
            "spec.nodeName" => pod["spec"]["nodeName"] == value,
            _ => true,
        }
    };
    let list = json!({
        "kind": "PodList", "apiVersion": "v1",
        "metadata": {"resourceVersion": state.version.max(1).to_string()},
        "items": state.pods.values().filter(is_selected).collect::<Vec<_>>(),
    });
    json_response(StatusCode::OK, Body::from(list.to_string()))
}

fn json_response(status: StatusCode, body: Body) -> Response<Body> {
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn refusal(code: u16) -> Response<Body> {
    let reason = if code == 403 { "Forbidden" } else { "Other" };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("refused with {code}"), "metadata": {},
    });
    json_response(StatusCode::from_u16(code).unwrap(), Body::from(status.to_string()))
}

/// A pod as the API shows it, with what an agent does not need, too.
pub(super) fn pod(uid: &str, name: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": uid, "resourceVersion": "1",
            "labels": {"app": "web"}, "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
            "annotations": {"note": "x".repeat(1000)},
        },
        "spec": {"nodeName": "node-7", "containers": [{"name": "app", "image": "web:1"}]},
        "status": {
            "phase": "Running", "qosClass": "Burstable",
            "containerStatuses": [{"name": "app", "containerID": format!("containerd://id-of-{name}"), "ready": true,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "lastState": {}}],
        },
    })
}

/// The same with a controller.
pub(super) fn owned(mut pod: Value, api_version: &str, kind: &str, name: &str) -> Value {
    pod["metadata"]["ownerReferences"] = owner(api_version, kind, name);
    pod
}

pub(super) fn owner(api_version: &str, kind: &str, name: &str) -> Value {
    json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "no-controller", "uid": "none"},
        {"apiVersion": api_version, "kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true},
    ])
}
