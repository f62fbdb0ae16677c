//! One connection from its first byte to its last.

use super::connections::{Membership, Phase};
use super::events;
use super::limits::Limits;
use super::stream::{ReportingBody, ReportingStream};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tower::Service;

/// Answers the requests of a connection until it ends, takes too long, has to go or the server shuts down.
pub(super) async fn serve(
    socket: TcpStream,
    member: Membership,
    router: Router,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
) {
    let connection = Arc::clone(&member.connection);
    let stream = TokioIo::new(ReportingStream { socket, connection: Arc::clone(&connection) });
    let answer = service_fn(|request| {
        connection.requested();
        let (router, connection) = (router.clone(), Arc::clone(&connection));
        let answer: Answer = Box::pin(async move {
            let response = answer(router, request).await;
            if response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == events::MEDIA_TYPE) {
                connection.streams();
            }
            Ok(response.map(|body| ReportingBody { body, connection }))
        });
        answer
    });
    let mut http = http1::Builder::new()
        // A client that has sent its request may close its side: `printf | nc` does.
        .half_close(true)
        .max_buf_size(limits.head_bytes)
        .serve_connection(stream, answer);
    let mut expiry = pin!(sleep_until(deadline(&member, &limits)));
    let ended = tokio::select! {
        ended = poll_fn(|cx| match http.poll_without_shutdown(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            // What the connection is doing changes only while it is polled: here the timer learns of it.
            Poll::Pending => poll_expiry(expiry.as_mut(), deadline(&member, &limits), cx).map(|()| false),
        }) => ended,
        () = member.connection.evicted() => false,
        () = shut_down(&mut shutdown) => {
            if member.connection.phase().0 != Phase::Stream {
                Pin::new(&mut http).graceful_shutdown();
                // The server ends what does not end in time.
                let _ = poll_fn(|cx| http.poll_without_shutdown(cx)).await;
            }
            false
        }
    };
    if !ended && member.connection.has_unread() {
        // What nobody reads would stay in the kernel for minutes after an orderly close.
        let _ = http.into_parts().io.into_inner().socket.set_zero_linger();
    } else if ended {
        let socket = http.into_parts().io.into_inner().socket;
        tokio::select! {
            () = linger(socket, &limits) => {}
            () = member.connection.evicted() => {}
            () = shut_down(&mut shutdown) => {}
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<ReportingBody>, Infallible>> + Send>>;

async fn answer(mut router: Router, request: Request<Incoming>) -> Response<Body> {
    let has_body = !request.body().is_end_stream();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if has_body && reads {
        (StatusCode::PAYLOAD_TOO_LARGE, "a request here has no body\n").into_response()
    } else {
        match router.call(request.map(|_| Body::empty())).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    if has_body {
        // Its bytes are not read, so no other request can follow.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn deadline(member: &Membership, limits: &Limits) -> Instant {
    let (phase, since) = member.connection.phase();
    since
        + match phase {
            Phase::Head => limits.head,
            Phase::Idle => limits.idle,
            // Nothing is due before the next window ends.
            Phase::Stream if !member.connection.has_unread() => limits.idle,
            Phase::Stream | Phase::Response => limits.response,
        }
}

fn poll_expiry(mut expiry: Pin<&mut Sleep>, deadline: Instant, cx: &mut std::task::Context<'_>) -> Poll<()> {
    if expiry.deadline() != deadline {
        expiry.as_mut().reset(deadline);
    }
    expiry.poll(cx)
}

async fn shut_down(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone is a server that is gone.
    let _ = shutdown.wait_for(|down| *down).await;
}

/// Reads what the client still sends, for a while: a socket that is closed with bytes unread resets the connection, and
/// the client may never see the response that told it why.
async fn linger(mut socket: TcpStream, limits: &Limits) {
    let mut rest = [0; 4096];
    let drained = async {
        if socket.shutdown().await.is_ok() {
            while socket.read(&mut rest).await.is_ok_and(|count| count > 0) {}
        }
    };
    // Out of time: closed as it is.
    let _ = timeout(limits.linger, drained).await;
}
