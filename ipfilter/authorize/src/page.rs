//! The page of metrics, on a socket apart from the one that questions come in by.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipfilter_config::Endpoint;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};

use crate::{gate::Gate, listen::bind};

/// How many clients are served at a time.
const CLIENTS: usize = 32;

/// How long a client may take in all.
const PATIENCE: Duration = Duration::from_secs(15);

/// Serves `/metrics` and `/healthz` at `endpoint`, for ever.
pub(crate) async fn serve(endpoint: Endpoint, gate: Arc<Gate>) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(CLIENTS));
    match endpoint {
        Endpoint::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            loop {
                let place = Arc::clone(&places).acquire_owned().await?;
                if let Ok((stream, _)) = listener.accept().await {
                    let gate = Arc::clone(&gate);
                    tokio::spawn(async move {
                        let _place = place;
                        client(gate, stream).await;
                    });
                }
            }
        }
        Endpoint::Unix(path) => {
            let listener = bind(&path)?;
            loop {
                let place = Arc::clone(&places).acquire_owned().await?;
                if let Ok((stream, _)) = listener.accept().await {
                    let gate = Arc::clone(&gate);
                    tokio::spawn(async move {
                        let _place = place;
                        client(gate, stream).await;
                    });
                }
            }
        }
    }
}

async fn client(gate: Arc<Gate>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = page(&gate, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).keep_alive(false);
    // A client that goes away, or takes too long, gets no page.
    let _: Result<hyper::Result<()>, _> = timeout(
        PATIENCE,
        server.serve_connection(TokioIo::new(stream), answer),
    )
    .await;
}

fn page(gate: &Gate, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match gate.metrics.page() {
            Ok(page) => (StatusCode::OK, page),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into()),
        },
        (&Method::GET | &Method::HEAD, "/healthz") => {
            (StatusCode::OK, format!("{}\n", gate.health()).into())
        }
        _ => (
            StatusCode::NOT_FOUND,
            b"there are /metrics and /healthz\n".to_vec(),
        ),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
