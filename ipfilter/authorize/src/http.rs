//! HTTP: nginx `auth_request`, Traefik `forwardAuth`, Caddy `forward_auth`, Envoy's HTTP ext_authz.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    answer::{Body, Denial, HEADERS, STATEMENT_HEADER},
    gate::Gate,
    grpc,
    question::{Headers, Line, Peer},
};

/// The most bytes of a request's head.
const LONGEST_HEAD: usize = 32 << 10;

/// The most headers of a request.
const MOST_HEADERS: usize = 100;

/// How long a request's head may take to arrive, or the next one may be waited for.
const PATIENCE: Duration = Duration::from_secs(75);

/// The most requests of one HTTP/2 connection at a time.
const MOST_STREAMS: u32 = 128;

/// The most bytes that one request, and one connection, may send ahead of what is read.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;

impl Headers for HeaderMap {
    fn all(&self, name: &str) -> Option<Vec<&str>> {
        let values = self.get_all(name).into_iter();
        values.map(|value| value.to_str().ok()).collect()
    }
}

/// Answers the requests of one connection until it ends.
pub(crate) async fn serve<S>(gate: Arc<Gate>, peer: Peer, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let answer = service_fn(move |request| {
        let gate = Arc::clone(&gate);
        async move { Ok::<_, Infallible>(answer(gate, peer, request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        // Answers are short: copied together they are written faster than from two places.
        .writev(false)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LONGEST_HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PATIENCE))
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(LONGEST_HEAD).unwrap_or(u32::MAX));
    // A peer that breaks off, or sends what is no HTTP, is answered by the end of its connection.
    if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
        log::debug!("a connection broke off: {error}");
    }
}

async fn answer(gate: Arc<Gate>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return grpc::answer(gate, peer, request).await;
    }
    let target = request.uri().to_string();
    let line = Line {
        method: request.method().as_str(),
        target: &target,
        ..Line::default()
    };
    match gate.ask(peer, request.headers(), line) {
        Ok(()) => Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync()),
        Err(denial) => denied(denial),
    }
}

fn denied(denial: Denial) -> Response<Body> {
    let body = Full::from(denial.body)
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::FORBIDDEN;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let statement = denial
        .statement
        .and_then(|name| HeaderValue::try_from(name).ok());
    if let Some(statement) = statement {
        headers.insert(HeaderName::from_static(STATEMENT_HEADER), statement);
    }
    response
}
