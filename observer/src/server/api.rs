//! The routes of the debug listener, under /api/v1: JSON with units in the field names. The command line reads nothing else.
//!
//! A route is a line in [`router`], a function below it and one in [`ApiSource`].

use super::{
    ApiSource, FlowsAnswer, FlowsQuery, PairsAnswer, PairsQuery, ProgramsAnswer, SnapshotAnswer, SnapshotQuery,
    WhoisAnswer, WhoisQuery,
    answers::{self, Answers},
    events, host, page,
};
use crate::history::{ApiError, GrowthAnswer, GrowthQuery, HistoryAnswer, HistoryQuery, WorkloadsAnswer};
use axum::{
    Router,
    extract::State,
    http::{
        HeaderValue, StatusCode, Uri,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use std::sync::Arc;

const INDEX: &str = "\
observer: what this node's agent knows, as JSON

/api/v1/snapshot?sort=bytes&top=100                                    who does what now; sort=load, wait or memory, entity=NAMESPACE/POD
/api/v1/events?sort=bytes&top=100                                      the same of each second, as server-sent events
/api/v1/history?workload=NAMESPACE/NAME&metric=egress_peak&since=30d   rows; workload=node for the node; step=1s, 1m or 1h
/api/v1/history/workloads                                              those of whom there are rows
/api/v1/growth?metric=egress&since=30d&top=100                         who grows by how much a day, in the mean and at the peak
/api/v1/flows?entity=NAMESPACE/POD&scope=internet&top=100&since=60s      where its bytes go and come from; all four may be left out
/api/v1/whois?address=10.244.0.7&at=2026-11-26T10:00:00Z                 who had an address; now, without at
/api/v1/pairs?top=100                                                  who waits for a CPU that whom has
/api/v1/programs                                                       the kernel programs, and what they and the agent cost
/api/v1/openapi.json                                                   all of this for programs: parameters, answers, errors
";

/// The same for programs; a test holds it against what is answered.
const OPENAPI: &str = include_str!("openapi.json");

/// All of them. GET and HEAD only, and only for who calls this listener by an address or as localhost.
pub(super) fn router<S: ApiSource>(source: Arc<S>, answers: Arc<Answers>) -> Router {
    let held = Arc::clone(&answers);
    Router::new()
        .route("/api/v1", get(async || INDEX))
        .route("/api/v1/snapshot", get(snapshot::<S>))
        .route("/api/v1/events", get(async |source, uri| sent_events::<S>(source, &uri, held)))
        .route("/api/v1/history", get(history::<S>))
        .route("/api/v1/history/workloads", get(history_workloads::<S>))
        .route("/api/v1/growth", get(growth::<S>))
        .route("/api/v1/flows", get(flows::<S>))
        .route("/api/v1/whois", get(whois::<S>))
        .route("/api/v1/pairs", get(pairs::<S>))
        .route("/api/v1/programs", get(programs::<S>))
        .layer(middleware::from_fn_with_state(answers, answers::admit))
        // What follows takes no memory of its own.
        .route("/api/v1/openapi.json", get(openapi))
        .merge(page::routes())
        .fallback(async || Api::<()>(Err(ApiError::new("not_found", "not found; see /api/v1 for what there is"))))
        .method_not_allowed_fallback(async || {
            Api::<()>(Err(ApiError::new("wrong_method", "only GET and HEAD are answered here")))
        })
        .with_state(source)
        .layer(middleware::from_fn(host::check))
}

async fn snapshot<S: ApiSource>(State(source): State<Arc<S>>, uri: Uri) -> Api<SnapshotAnswer> {
    Api(snapshot_query(&uri).and_then(|query| source.snapshot(query)))
}

fn sent_events<S: ApiSource>(State(source): State<Arc<S>>, uri: &Uri, answers: Arc<Answers>) -> Response {
    events::response(source, snapshot_query(uri), answers)
}

fn snapshot_query(uri: &Uri) -> Result<SnapshotQuery, ApiError> {
    let given = parameters(uri)?;
    SnapshotQuery::of_parameters(given.into_iter()).map_err(|wrong| ApiError::new("wrong_query", wrong))
}

async fn history<S: ApiSource>(State(source): State<Arc<S>>, uri: Uri) -> Api<HistoryAnswer> {
    match parameters(&uri).and_then(|given| HistoryQuery::of_parameters(given.into_iter())) {
        Ok(query) => Api(source.history(query).await),
        Err(error) => Api(Err(error)),
    }
}

async fn history_workloads<S: ApiSource>(State(source): State<Arc<S>>, uri: Uri) -> Api<WorkloadsAnswer> {
    match no_parameters(&uri) {
        Ok(()) => Api(source.history_workloads().await),
        Err(error) => Api(Err(error)),
    }
}

async fn growth<S: ApiSource>(State(source): State<Arc<S>>, uri: Uri) -> Api<GrowthAnswer> {
    match parameters(&uri).and_then(|given| GrowthQuery::of_parameters(given.into_iter())) {
        Ok(query) => Api(source.growth(query).await),
        Err(error) => Api(Err(error)),
    }
}

async fn flows<S: ApiSource>(State(source): State<Arc<S>>, uri: Uri) -> Api<FlowsAnswer> {
    let query = parameters(&uri).and_then(|given| {
        FlowsQuery::of_parameters(given.into_iter()).map_err(|wrong| ApiError::new("wrong_query", wrong))
    });
    match query {
        Ok(query) => Api(source.flows(query).await),
        Err(error) => Api(Err(error)),
    }
}

async fn whois<S: ApiSource>(State(source): State<Arc<S>>, uri: Uri) -> Api<WhoisAnswer> {
    match parameters(&uri).and_then(|given| WhoisQuery::of_parameters(given.into_iter())) {
        Ok(query) => Api(Ok(source.whois(query).await)),
        Err(error) => Api(Err(error)),
    }
}

async fn pairs<S: ApiSource>(State(source): State<Arc<S>>, uri: Uri) -> Api<PairsAnswer> {
    let query = parameters(&uri).and_then(|given| {
        PairsQuery::of_parameters(given.into_iter()).map_err(|wrong| ApiError::new("wrong_query", wrong))
    });
    Api(query.map(|query| source.pairs(query)))
}

async fn openapi(uri: Uri) -> Response {
    match no_parameters(&uri) {
        Ok(()) => ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response(),
        Err(error) => Api::<()>(Err(error)).into_response(),
    }
}

async fn programs<S: ApiSource>(State(source): State<Arc<S>>, uri: Uri) -> Api<ProgramsAnswer> {
    Api(no_parameters(&uri).and_then(|()| source.programs()))
}

/// For a route that has none.
fn no_parameters(uri: &Uri) -> Result<(), ApiError> {
    match parameters(uri)?.first() {
        None => Ok(()),
        Some((name, _)) => {
            Err(ApiError::new("wrong_query", format!("{name:?} is no parameter of {}; it has none", uri.path())))
        }
    }
}

/// The parameters of a request, decoded; each may be there once.
fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let given: Vec<_> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let twice = given.iter().enumerate().find(|(at, (name, _))| given[..*at].iter().any(|(before, _)| before == name));
    match twice {
        None => Ok(given),
        Some((_, (name, _))) => Err(ApiError::new("wrong_query", format!("{name} is there more than once"))),
    }
}

/// An answer as JSON, or the error that is there instead.
pub(super) struct Api<T>(pub(super) Result<T, ApiError>);

/// An error as it is told.
#[derive(Serialize)]
pub(super) struct Refusal<'a> {
    pub(super) error: &'a ApiError,
}

impl<T: Serialize> IntoResponse for Api<T> {
    fn into_response(self) -> Response {
        let (status, json) = match &self.0 {
            Ok(answer) => (StatusCode::OK, serde_json::to_vec(answer)),
            Err(error) => (status_of(error), serde_json::to_vec(&Refusal { error })),
        };
        match json {
            Ok(mut json) => {
                json.push(b'\n');
                // What it grew by is not held.
                json.shrink_to_fit();
                let mut response = (status, [(CONTENT_TYPE, "application/json")], json).into_response();
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("no JSON of this: {error}\n")).into_response(),
        }
    }
}

fn status_of(error: &ApiError) -> StatusCode {
    match error.kind.as_str() {
        "wrong_query" | "ambiguous_workload" => StatusCode::BAD_REQUEST,
        "unknown_workload" | "not_found" => StatusCode::NOT_FOUND,
        "wrong_method" => StatusCode::METHOD_NOT_ALLOWED,
        "wrong_host" => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
