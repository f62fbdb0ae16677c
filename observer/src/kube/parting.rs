//! Which connections are not kept.

use http::{HeaderValue, Request, header::CONNECTION};

/// Asks the server to close the connection after a list of pods or a page of nodes. To read a large answer, its buffer grew to 400 KiB, which it
/// would keep for the small ones that follow; a connection more, once for each list, is cheaper. Who has an address is a short one.
pub(super) fn after_list<B>(mut request: Request<B>) -> Request<B> {
    let uri = request.uri();
    if matches!(uri.path(), "/api/v1/pods" | "/api/v1/nodes")
        && !uri.query().is_some_and(|query| query.contains("watch=true") || query.contains("status.podIP"))
    {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_closes_its_connection() {
        for (uri, closes) in [
            ("/api/v1/pods?&fieldSelector=spec.nodeName%3Dnode-7&resourceVersion=0", true),
            ("/api/v1/pods?&watch=true&fieldSelector=spec.nodeName%3Dnode-7", false),
            ("/api/v1/pods?fieldSelector=status.podIP%3D10.0.0.7&resourceVersion=0", false),
            ("/api/v1/nodes?limit=50", true),
            ("/api/v1/nodes/node-7", false),
            ("/apis/batch/v1/namespaces/shop/jobs/backup-1", false),
        ] {
            let request = after_list(Request::get(uri).body(()).unwrap());
            assert_eq!(request.headers().contains_key(CONNECTION), closes, "{uri}");
        }
    }
}
