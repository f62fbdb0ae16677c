//! An API server of the benchmark's own: this node's pods, listed and watched over TLS as a cluster's are, and the
//! `ReplicaSets` that own them. Nothing else is answered, so that an agent that asks for more fails.
//!
//! Certificate and key guard nothing: the server is on the loopback, and its pods are made up.

use crate::api_pods;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc as queue, oneshot, watch},
    time::{Sleep, sleep},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

const CERTIFICATE: &str = include_str!("api_server/certificate.pem");
const KEY: &str = include_str!("api_server/key.pem");
/// The node whose pods it has.
pub(crate) const NODE: &str = "bench";
/// How long a list may take to be read, and a watch to be made.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. Dropping it ends it and every connection to it.
#[derive(Debug)]
pub(crate) struct ApiServer {
    shared: Arc<Shared>,
    /// How long each list took, from its request to that of the watch that follows it.
    taken: mpsc::Receiver<Duration>,
    files: tempfile::TempDir,
    _ended: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Whether lists may be answered.
    open: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    list: Bytes,
    version: u64,
    watches: Vec<queue::UnboundedSender<Bytes>>,
    /// What happened while nobody watched: for the next who does.
    unsent: Vec<Bytes>,
    /// When the list was asked for that no watch has followed yet.
    listed: Option<Instant>,
    taken: mpsc::Sender<Duration>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiServer {
    /// Starts one on the loopback that has these pods.
    pub(crate) fn start(pods: &[Value]) -> Result<Self> {
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": pods});
        let (sender, taken) = mpsc::channel();
        let state = State {
            list: list.to_string().into(),
            version: 1,
            watches: Vec::new(),
            unsent: Vec::new(),
            listed: None,
            taken: sender,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), open: watch::Sender::new(true) });
        let (ended, end) = oneshot::channel();
        let (ready, address) = mpsc::channel();
        let tls = tls()?;
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(shared, tls, &ready, end)
        });
        let address = address.recv().context("the API server ended early")??;
        let files = tempfile::tempdir().context("make a directory for the kubeconfig")?;
        write_kubeconfig(&files, address)?;
        Ok(Self { shared, taken, files, _ended: ended })
    }

    /// The file by which an agent reaches it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.files.path().join("kubeconfig")
    }

    /// Bytes of the list.
    pub(crate) fn list_bytes(&self) -> usize {
        self.shared.lock().list.len()
    }

    /// Lets lists wait from now on, or answers those that wait.
    pub(crate) fn hold_lists(&self, hold: bool) {
        if !hold {
            // The wait was ours.
            let mut state = self.shared.lock();
            state.listed = state.listed.map(|_| Instant::now());
        }
        self.shared.open.send_replace(!hold);
    }

    /// Waits until a list is in the agent's books, and tells how long that took since the list was asked for: the watch
    /// that goes on from a list is asked for when the last pod of it has been taken.
    pub(crate) fn list_taken(&self) -> Result<Duration> {
        self.taken.recv_timeout(PATIENCE).context("the agent did not go on from the list of pods to the watch")
    }

    /// Tells who watches that a pod has changed. Returns the bytes of it.
    pub(crate) fn modified(&self, mut pod: Value) -> usize {
        let mut state = self.shared.lock();
        state.version += 1;
        pod["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell(&json!({"type": "MODIFIED", "object": pod}))
    }

    /// Tells who watches that the watch is too old: pods are listed anew.
    pub(crate) fn expire_watches(&self) {
        let status = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
            "message": "too old resource version", "metadata": {}});
        let mut state = self.shared.lock();
        state.tell(&json!({"type": "ERROR", "object": status}));
        state.watches.clear();
    }

    /// Whether somebody was told of every change.
    pub(crate) fn has_told_all(&self) -> bool {
        self.shared.lock().unsent.is_empty()
    }
}

impl State {
    fn tell(&mut self, event: &Value) -> usize {
        let line = Bytes::from(format!("{event}\n"));
        self.watches.retain(|watch| watch.send(line.clone()).is_ok());
        let bytes = line.len();
        if self.watches.is_empty() {
            self.unsent.push(line);
        }
        bytes
    }
}

fn tls() -> Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).context("read the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).context("read the key")?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn write_kubeconfig(files: &tempfile::TempDir, address: SocketAddr) -> Result<()> {
    let authority = files.path().join("certificate.pem");
    fs::write(&authority, CERTIFICATE).context("write the certificate")?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": NODE,
        "clusters": [{"name": NODE, "cluster": {
            "server": format!("https://{address}"), "certificate-authority": authority,
        }}],
        "users": [{"name": NODE, "user": {"token": "of-the-benchmark"}}],
        "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": NODE}}],
    });
    fs::write(files.path().join("kubeconfig"), config.to_string()).context("write the kubeconfig")
}

/// Accepts until the other end of `end` is dropped.
fn serve(shared: Arc<Shared>, tls: TlsAcceptor, ready: &mpsc::Sender<Result<SocketAddr>>, end: oneshot::Receiver<()>) {
    let made = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime");
    let runtime = match made {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        let listener = match listen().await {
            Ok((listener, address)) => {
                let _ = ready.send(Ok(address));
                listener
            }
            Err(error) => return drop(ready.send(Err(error))),
        };
        tokio::select! {
            () = accept(listener, shared, tls) => {}
            _ = end => {}
        }
    });
}

async fn listen() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on the loopback")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: TlsAcceptor) {
    loop {
        // An agent that was killed may have left a connection that is gone by now.
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        tokio::spawn(connection(socket, Arc::clone(&shared), tls.clone()));
    }
}

async fn connection(socket: TcpStream, shared: Arc<Shared>, tls: TlsAcceptor) {
    match tls.accept(socket).await {
        Ok(stream) => {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            // It ends with its agent, however that ends.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
        Err(error) => eprintln!("API server: no TLS with the agent: {error}"),
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    Ok(match path.strip_prefix("/apis/apps/v1/namespaces/") {
        Some(rest) => match rest.split_once("/replicasets/") {
            Some((_, name)) => found(api_pods::replica_set(name).to_string().into()),
            None => refused(StatusCode::NOT_FOUND),
        },
        None if path != "/api/v1/pods" => refused(StatusCode::NOT_FOUND),
        None if !query.contains(&format!("fieldSelector=spec.nodeName%3D{NODE}")) => refused(StatusCode::BAD_REQUEST),
        None if query.contains("watch=true") => watching(&shared, query),
        None => {
            shared.lock().listed = Some(Instant::now());
            // The sender is in `shared`: it cannot be gone.
            let _ = shared.open.subscribe().wait_for(|open| *open).await;
            found(shared.lock().list.clone())
        }
    })
}

fn watching(shared: &Shared, query: &str) -> Answer {
    let seconds = query.split('&').find_map(|pair| pair.strip_prefix("timeoutSeconds=")?.parse().ok());
    let (sender, events) = queue::unbounded_channel();
    let mut state = shared.lock();
    for line in state.unsent.drain(..) {
        let _ = sender.send(line);
    }
    state.watches.push(sender);
    if let Some(listed) = state.listed.take() {
        // Nobody waits for a list that came by itself.
        let _ = state.taken.send(listed.elapsed());
    }
    let end = Box::pin(sleep(Duration::from_secs(seconds.unwrap_or(3600))));
    response(StatusCode::OK, BoxBody::new(Events { events, end }))
}

fn found(json: Bytes) -> Answer {
    response(StatusCode::OK, Full::new(json).boxed())
}

fn refused(status: StatusCode) -> Answer {
    let json = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(),
        "reason": "Refused", "message": "not in the benchmark's cluster", "metadata": {}});
    response(status, Full::new(json.to_string().into()).boxed())
}

fn response(status: StatusCode, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// The events of a watch, until its time is over.
struct Events {
    events: queue::UnboundedReceiver<Bytes>,
    end: Pin<Box<Sleep>>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.events.poll_recv(cx) {
            Poll::Pending => self.end.as_mut().poll(cx).map(|()| None),
            event @ Poll::Ready(_) => event.map(|event| event.map(|line| Ok(Frame::data(line)))),
        }
    }
}
