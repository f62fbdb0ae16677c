//! Against DNS rebinding: a page in somebody's browser may make its own name point at 127.0.0.1, and would then read this listener
//! as if it were its own site. The name stays in the Host header: only addresses and `localhost` are answered.

use super::api::Api;
use crate::history::ApiError;
use axum::{
    extract::Request,
    http::{header::HOST, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Lets a request through, or refuses it.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let header = hosts.next();
    let of_uri = request.uri().authority().map(Authority::as_str);
    // One is needed; a second would be for somebody else to read.
    let fine = header.is_some_and(is_local) && hosts.next().is_none() && of_uri.is_none_or(is_local);
    if fine {
        return next.run(request).await;
    }
    let message = "the Host header has to be an address or localhost: ask http://127.0.0.1:9811, for instance through kubectl port-forward";
    Api::<()>(Err(ApiError::new("wrong_host", message))).into_response()
}

/// `localhost`, an IPv4 address or an IPv6 address in brackets, with or without a port.
fn is_local(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            return address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port.strip_prefix(':')));
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let is_name = name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok();
    is_name && (port.is_none() || is_port(port))
}

fn is_port(port: Option<&str>) -> bool {
    port.is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_pass_and_names_do_not() {
        for host in ["127.0.0.1", "127.0.0.1:9811", "localhost", "LocalHost:1", "[::1]", "[::1]:9811", "10.0.0.1:80"] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9811",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost:9811.evil.example",
            "::1",
            "[::1].evil.example",
            "[::1]evil",
            "user@127.0.0.1",
            "127.1",
            "2130706433",
            "127.0.0.1:99999",
            "[::1",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
