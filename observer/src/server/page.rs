//! The web page: files that the build bundled (observer/web), which ask this listener and nobody else.

use super::ApiSource;
use axum::{
    Router,
    http::{
        HeaderName,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;

/// Names and contents; none in a build without npm.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

const NONE: &str = "\
observer: this agent was built on a machine without npm, and has no web page

The same is told as JSON: see /api/v1. `cargo xtask build`, where npm is installed (Debian: npm), builds the page.
";

/// Nothing is loaded from elsewhere, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's own routes.
pub(super) fn routes<S: ApiSource>() -> Router<Arc<S>> {
    let page = FILES.iter().fold(Router::new(), |router, (name, bytes)| {
        let path = if *name == "index.html" { "/".to_owned() } else { format!("/{name}") };
        router.route(&path, get(move || async move { file(name, bytes) }))
    });
    if FILES.is_empty() { page.route("/", get(async || NONE)) } else { page }
}

fn file(name: &str, bytes: &'static [u8]) -> Response {
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, kind),
        // Another agent may be behind the same forwarded port tomorrow.
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, bytes).into_response()
}
