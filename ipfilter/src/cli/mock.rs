//! `ipfilter mock`: an API to protect, for trying things out.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use log::{debug, info, warn};
use tokio::net::TcpListener;

use super::Exit;

/// Answer every HTTP request with 200, like API Gateway's mock integration, and with the request as it arrived
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address and port to listen on, such as 127.0.0.1:8080, or [::]:80 for both families
    #[arg(long, required = true, value_delimiter = ',', value_name = "ADDR,...")]
    listen: Vec<SocketAddr>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut servers = tokio::task::JoinSet::new();
        for address in args.listen {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("can't listen at {address}"))?;
            info!("listening at http://{}", listener.local_addr()?);
            servers.spawn(serve(listener));
        }
        servers.spawn(async { tokio::signal::ctrl_c().await.map_err(Into::into) });
        servers.join_next().await.context("nothing to serve")??
    })?;
    Ok(Exit::Fine)
}

/// How long it waits where there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Such as too many open files: clients that leave make room.
                warn!("can't accept a client: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
            if let Err(error) = served {
                debug!("{client}: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    info!("{} {}", request.method(), request.uri());
    let mut response = Response::new(Full::from(format!("{}\n", echo(&request))));
    response.headers_mut().insert(
        CONTENT_TYPE,
        "application/json".parse().expect("a media type"),
    );
    Ok(response)
}

/// The request as it arrived: what a proxy in front has made of it can be seen.
fn echo<B>(request: &Request<B>) -> serde_json::Value {
    let names = request.headers().keys();
    let headers = names.map(|name| {
        let values = request.headers().get_all(name).into_iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        (name.to_string(), serde_json::json!(values.join(", ")))
    });
    serde_json::json!({
        "statusCode": 200,
        "method": request.method().as_str(),
        "path": request.uri().to_string(),
        "headers": headers.collect::<serde_json::Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_echoed_as_it_arrived() {
        let request = Request::builder()
            .uri("/a/%2e%2e//b?c")
            .header("X-A", "1")
            .header("X-A", &b"\xff"[..])
            .body(());
        let echo = echo(&request.unwrap());
        assert_eq!(echo["path"], "/a/%2e%2e//b?c");
        assert_eq!(echo["method"], "GET");
        assert_eq!(echo["headers"]["x-a"], "1, \u{fffd}");
    }
}
